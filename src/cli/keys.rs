//! `rhizome keys`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use rhizome_storage::{Clock, Store, millis};

use crate::config::{Config, Span};
use crate::server::signing_key::OldKey;
use crate::server::{self, old_keys, signing_key};

use super::{how_long, on_store, say};

/// For longer than this nobody needs two keys.
const LONGEST_OVERLAP: Duration = Duration::from_hours(30 * 24);

#[derive(Debug, Default, Subcommand)]
pub(super) enum KeysCommand {
    /// Print the key's id and its public half
    #[default]
    Show,
    /// Print the path of the key's file
    Path,
    /// Make a new key; never replaces a file
    Generate {
        /// Where (default: the configured path)
        file: Option<PathBuf>,
    },
    /// Put a new key in the place of the one in use, of which the public half is kept; then restart the server
    Rotate {
        /// How long the old key counts from the first start with the new one on: time to restart further processes.
        /// 0s if all are stopped
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
        overlap: Duration,
    },
    /// List the keys that this server signed with before
    Old,
    /// Forget a key that this server signed with before: what it has signed is verified no more by who doesn't know it yet
    Forget {
        /// Its id, such as ed25519:a_xxxx
        key_id: String,
    },
}

fn span(text: &str) -> Result<Duration, String> {
    let span = Span::parse(text).map(|span| span.0);
    span.filter(|span| *span <= LONGEST_OVERLAP)
        .ok_or_else(|| "write a number and a unit, such as 1h or 1d; 30d at most".to_owned())
}

pub(super) fn keys(config: &Config, command: KeysCommand) -> anyhow::Result<()> {
    let path = config.server.signing_key_path();
    match command {
        KeysCommand::Path => say(path.display()),
        KeysCommand::Show => show(config, &path)?,
        KeysCommand::Generate { file } => {
            let path = file.unwrap_or(path);
            if path.exists() {
                bail!(
                    "{} exists and is not replaced: other servers know this key. Give another file name, or `rhizome keys rotate` \
                     to change it",
                    path.display()
                );
            }
            let file = signing_key::create(&path)?;
            let key_id = file.current().key_id();
            say(format_args!("made {key_id} in {}", path.display()));
        }
        KeysCommand::Rotate { overlap } => rotate(&path, overlap)?,
        KeysCommand::Old => with_store(config, async |store| old(store, config, &path).await)?,
        KeysCommand::Forget { key_id } => {
            with_store(config, async |store| forget(store, &path, &key_id).await)?;
        }
    }
    Ok(())
}

fn show(config: &Config, path: &Path) -> anyhow::Result<()> {
    let file = signing_key::load_existing(path)?;
    let key = file.current();
    say(format_args!("server  {}", config.server.name));
    say(format_args!("key id  {}", key.key_id()));
    say(format_args!("public  {}", key.public_base64()));
    say(format_args!("file    {}", path.display()));
    if !file.old().is_empty() {
        say(format_args!(
            "before  {} (`rhizome keys old` lists them)",
            file.old().len()
        ));
    }
    Ok(())
}

fn rotate(path: &Path, overlap: Duration) -> anyhow::Result<()> {
    let file = signing_key::rotate(path, Clock::system().now_ms(), overlap)?;
    let new = file.current().key_id();
    say(format_args!("made {new} in {}", path.display()));
    if let Some(old) = file.old().last() {
        say(format_args!(
            "in the place of {}, of which the file keeps the public half",
            old.key_id
        ));
    }
    say("");
    say("What to do next:");
    say("  1. copy the file to where else it is: to all processes, and to where you keep a copy");
    say("  2. restart the server: until then it signs with the key of before");
    if overlap.is_zero() {
        say("     All processes must be stopped before the first one is started again.");
    } else {
        say(format_args!(
            "     Of several processes, restart all within {} of the first one.",
            how_long(millis(overlap))
        ));
    }
    Ok(())
}

/// Does something with the database, which there may not be yet.
fn with_store(
    config: &Config,
    work: impl AsyncFnOnce(&Store) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    server::make_data_dir(config)?;
    on_store(config, work)
}

async fn old(store: &Store, config: &Config, path: &Path) -> anyhow::Result<()> {
    let file = signing_key::load_existing(path)?;
    let now = store.clock().now_ms();
    for key in file.old() {
        let until = old_keys::counts_until(store, key).await?;
        say(format_args!(
            "{}  {}  {}",
            key.key_id,
            key.public,
            standing(until, now)
        ));
    }
    for key in &config.federation.old_verify_keys {
        say(format_args!(
            "{}  {}  {}; from federation.old_verify_keys",
            key.key_id,
            key.key,
            standing(Some(key.expired_ts), now)
        ));
    }
    Ok(())
}

/// Until when a key counts.
fn standing(until: Option<i64>, now: i64) -> String {
    let Some(until) = until else {
        return "in use until the server is restarted".to_owned();
    };
    if until < now {
        let since = how_long(now.saturating_sub(until));
        format!("counted until {until} ({since} ago)")
    } else {
        let left = how_long(until.saturating_sub(now));
        format!("counts until {until} ({left} from now)")
    }
}

async fn forget(store: &Store, path: &Path, key_id: &str) -> anyhow::Result<()> {
    let file = signing_key::load_existing(path)?;
    let key: &OldKey = file.find(path, key_id)?;
    match old_keys::counts_until(store, key).await? {
        None => bail!(
            "{key_id} is in use until the server is restarted, which signs with it; restart it, and forget the key when \
             `rhizome keys old` says that it doesn't count any more"
        ),
        Some(until) if until >= store.clock().now_ms() => bail!(
            "{key_id} still counts, as other processes may sign with it; forget it when `rhizome keys old` says that it \
             doesn't count any more"
        ),
        Some(until) => {
            let OldKey { public, .. } = signing_key::forget(path, key_id)?;
            say(format_args!(
                "forgot {key_id}. Restart the server: from then on what it has signed is verified only by who knows the key."
            ));
            say("To have it back, write this into the configuration:");
            say(format_args!(
                "[federation]\nold_verify_keys = [{{ key_id = \"{key_id}\", key = \"{public}\", expired_ts = {until} }}]"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        const HOUR: i64 = 3_600_000;
        assert_eq!(standing(None, 0), "in use until the server is restarted");
        assert_eq!(
            standing(Some(HOUR), 0),
            "counts until 3600000 (60 minutes from now)"
        );
        assert_eq!(standing(Some(0), HOUR * 5), "counted until 0 (5 hours ago)");
        assert_eq!(standing(Some(0), HOUR * 72), "counted until 0 (3 days ago)");
        assert!(span("30d").is_ok() && span("0s").is_ok());
        assert!(span("31d").is_err() && span("soon").is_err());
    }
}
