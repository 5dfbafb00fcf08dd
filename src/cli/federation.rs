//! `rhizome federation`: what is known of other servers, what they send, what is wrong on the way to them, and what to do about it.
//! Works on the database, so the server may run or not; one that runs hears of it.

mod check;
mod gather;
mod inbound;
mod text;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use rhizome_storage::Store;
use ruma::{OwnedServerName, ServerName};

use crate::config::Config;
use crate::server;

use super::{on_store, say};
use gather::Waiting;

/// Servers that are read at once.
const PIECE: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum FederationCommand {
    /// List the servers that can't be reached, with what waits for them; or say all that is known of one
    Status(StatusArgs),
    /// Look at each step on the way to a server (.well-known, DNS, TLS, keys, clocks), and say what to do about what is wrong.
    /// Ends with 1 if something is
    Check(CheckArgs),
    /// Try a server again now, instead of when its pause is over
    Retry(RetryArgs),
    /// Let go what waits for a server: it is sent none of that
    Forget {
        /// The server's name
        server: String,
        /// Do it: what is let go doesn't come back
        #[arg(long)]
        yes: bool,
    },
    /// List what other servers have sent, what was refused and why, and who is in quarantine
    Inbound(inbound::InboundArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The server's name
    server: Option<String>,
    /// List all servers that something was ever sent to
    #[arg(long, conflicts_with = "server")]
    all: bool,
    /// Write JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The server's name (default: this one's)
    server: Option<String>,
    /// Write JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The server's name
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    server: Option<String>,
    /// All servers that failed last
    #[arg(long)]
    all: bool,
}

pub(super) fn federation(config: &Config, command: FederationCommand) -> anyhow::Result<()> {
    match command {
        FederationCommand::Check(args) => check::check(config, &args),
        FederationCommand::Status(args) => {
            on_store(config, async |store| status(config, store, &args).await)
        }
        FederationCommand::Retry(args) => on_store(config, async |store| match &args.server {
            Some(server) => retry(store, &name(server)?).await,
            None => retry_all(store).await,
        }),
        FederationCommand::Forget { server, yes } => on_store(config, async |store| {
            forget(store, &name(&server)?, yes).await
        }),
        FederationCommand::Inbound(args) => {
            on_store(config, async |store| inbound::inbound(store, &args).await)
        }
    }
}

fn name(text: &str) -> anyhow::Result<OwnedServerName> {
    OwnedServerName::try_from(text)
        .with_context(|| format!("{text:?} is no server name; write it as in user ids"))
}

async fn status(config: &Config, store: &Store, args: &StatusArgs) -> anyhow::Result<()> {
    let rules = server::federation_config(config, Vec::new())?.servers;
    let looking = gather::Looking {
        store,
        rules: &rules,
        ours: &config.server.name,
    };
    let now = store.clock().now_ms();
    if let Some(server) = &args.server {
        let details = looking.details(&name(server)?).await?;
        if args.json {
            say(serde_json::to_string_pretty(&details)?);
        } else {
            say(text::details(&details, now));
        }
        return Ok(());
    }
    let mut lines = Vec::new();
    let mut after: Option<OwnedServerName> = None;
    loop {
        let page = store.known_destinations(!args.all, after.as_deref(), PIECE);
        let page = page.await?;
        let Some(last) = page.last() else { break };
        after = Some(last.server.clone());
        for known in page {
            lines.push(looking.line(known).await?);
        }
    }
    if args.json {
        say(serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    let counts = store.destination_counts().await?;
    say(text::table(&lines, counts, now));
    Ok(())
}

async fn retry(store: &Store, server: &ServerName) -> anyhow::Result<()> {
    let Some(known) = store.known_destination(server).await? else {
        bail!(
            "nothing was ever sent to {server}; `rhizome federation status --all` lists where to"
        );
    };
    if known.state.failures == 0 {
        say(format_args!(
            "{server} doesn't fail: what there is for it is sent as it comes"
        ));
        return Ok(());
    }
    store.retry_destination(server).await?;
    say(format_args!(
        "{server} is tried again now, if something waits for it and this server runs.\n\
         `rhizome federation status {server}` says what came of it, `rhizome federation check {server}` what is wrong."
    ));
    Ok(())
}

async fn retry_all(store: &Store) -> anyhow::Result<()> {
    let mut tried = 0_usize;
    let mut after: Option<OwnedServerName> = None;
    loop {
        let page = store.known_destinations(true, after.as_deref(), PIECE);
        let page = page.await?;
        let Some(last) = page.last() else { break };
        after = Some(last.server.clone());
        for known in &page {
            store.retry_destination(&known.server).await?;
        }
        tried += page.len();
    }
    say(format_args!(
        "{tried} servers are tried again now, those for which something waits"
    ));
    Ok(())
}

async fn forget(store: &Store, server: &ServerName, yes: bool) -> anyhow::Result<()> {
    let state = store.destination_state(server).await?;
    let waiting = Waiting::look_up(store, server, state.reached()).await?;
    let shown = text::waiting(waiting);
    if !yes {
        bail!(
            "{shown} for {server}. With --yes that is let go, with all else that it would have been told. Events it can ask for \
             once it hears of later ones; messages to devices, such as keys of encrypted rooms, are lost to it"
        );
    }
    store.forget_destination(server).await?;
    say(format_args!(
        "{server} isn't sent what has waited for it until now ({shown}); what comes from now on is"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::name;
    use crate::cli::Cli;

    #[test]
    fn names_are_checked() {
        assert!(name("a.example:8448").is_ok());
        assert!(name("https://a.example").is_err());
    }

    #[test]
    fn commands_are_told_from_mistakes() {
        for (line, fine) in [
            ("rhizome federation status", true),
            ("rhizome federation status --all --json", true),
            ("rhizome federation status a.example --json", true),
            ("rhizome federation status a.example --all", false),
            ("rhizome federation check", true),
            ("rhizome federation check a.example:8448", true),
            ("rhizome federation retry a.example", true),
            ("rhizome federation retry --all", true),
            ("rhizome federation retry", false),
            ("rhizome federation retry a.example --all", false),
            ("rhizome federation forget a.example --yes", true),
            ("rhizome federation forget", false),
            ("rhizome federation inbound --limit 5 --json", true),
            ("rhizome federation inbound a.example", true),
            ("rhizome federation inbound a.example --limit 5", false),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), fine, "{line}");
        }
    }
}
