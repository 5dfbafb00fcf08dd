//! `rhizome token`: what lets people register where `registration.mode` is "token". Works on the database, so the server may
//! run or not.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use rhizome_storage::{RegistrationToken, Store, millis};

use crate::config::{Config, Span};
use crate::server;

use super::{ago, say};

/// How many tokens are read at a time.
const PIECE: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token, and print it
    Create(TokenCreate),
    /// List the tokens, oldest first, a line each
    List,
    /// Delete tokens; who is registering with one already may end that
    Delete {
        /// Which
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct TokenCreate {
    /// What it is (default: random)
    #[arg(value_parser = token)]
    token: Option<String>,
    /// How many accounts may be made with it (default: any number)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    uses: Option<i64>,
    /// For how long it is good, such as 7d (default: for ever)
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires_in: Option<Duration>,
    /// How long a random one is
    #[arg(long, value_name = "CHARACTERS", default_value_t = 16, conflicts_with = "token",
        value_parser = clap::value_parser!(u8).range(8..=64))]
    length: u8,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = Span::parse(text).map(|span| span.0);
    span.ok_or_else(|| "write a number and a unit, such as 12h or 90d".to_owned())
}

/// A token that clients can send (appendices, "Opaque identifiers").
fn token(text: &str) -> Result<String, String> {
    if RegistrationToken::can_be(text) {
        Ok(text.to_owned())
    } else {
        Err("a token has 1 to 64 of a-z, A-Z, 0-9 and -._~".to_owned())
    }
}

pub(super) fn token_command(config: &Config, command: TokenCommand) -> anyhow::Result<()> {
    super::block_on(async {
        server::make_data_dir(config)?;
        let store = server::open_store(config).await?;
        let done = run(&store, command).await;
        store.close().await;
        done
    })
}

async fn run(store: &Store, command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => create(store, args).await,
        TokenCommand::List => {
            let mut listed = 0;
            loop {
                let tokens = store.registration_tokens(None, (listed, PIECE)).await?;
                for token in &tokens {
                    say(line(store, token));
                }
                listed += tokens.len();
                if tokens.len() < PIECE {
                    return Ok(());
                }
            }
        }
        TokenCommand::Delete { tokens } => {
            for token in &tokens {
                if !store.delete_registration_token(token).await? {
                    bail!("there is no token `{}`", token.escape_debug());
                }
                say(format_args!("deleted {}", token.escape_debug()));
            }
            Ok(())
        }
    }
}

async fn create(store: &Store, args: TokenCreate) -> anyhow::Result<()> {
    let token = match args.token {
        Some(token) => token,
        None => {
            RegistrationToken::random(usize::from(args.length)).context("no token can be made")?
        }
    };
    let until = args
        .expires_in
        .map(|span| store.clock().now_ms().saturating_add(millis(span)));
    if !store
        .add_registration_token(&token, args.uses, until)
        .await?
    {
        bail!("there is a token `{token}` already");
    }
    say(token);
    Ok(())
}

fn line(store: &Store, token: &RegistrationToken) -> String {
    let allowed = token
        .uses_allowed
        .map_or_else(|| "any number".to_owned(), |uses| uses.to_string());
    let left = token.expires_ms.map(|ms| ms - store.clock().now_ms());
    let expiry = match left {
        None => "never expires".to_owned(),
        Some(left) if left <= 0 => "has expired".to_owned(),
        Some(left) => format!("expires in {} hours", left / 3_600_000),
    };
    format!(
        "{}  {} accounts of {allowed}, {} under way  {expiry}  made {} ago",
        token.token.escape_debug(),
        token.completed,
        token.pending,
        ago(store, token.created_ms),
    )
}
