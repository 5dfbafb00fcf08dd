//! `rhizome database`.

mod check;
mod files;
mod migrate_to;
mod vacuum;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Subcommand;
use rhizome_storage::{CheckProgress, Pos};

use crate::config::{Config, Secret};
use crate::server;

use super::say;

/// Between two lines that say how far long work is.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum DatabaseCommand {
    /// Look through the database, and where files lie, for what can't be so, also while the server runs. Changes
    /// nothing; ends with 1 if something was found
    Check {
        /// Look at everything, however long it takes, rather than at the newest of what there is most of
        #[arg(long)]
        thorough: bool,
    },
    /// Give back to the disk what the database doesn't need any more. SQLite only while the server is stopped
    Vacuum,
    /// It was restored from a backup, or a standby took over: makes clients sync anew. Run it before
    /// the server starts
    Restored,
    /// Take everything from SQLite over to an empty PostgreSQL database, while the server is stopped. Then name that in
    /// database.url
    MigrateTo {
        /// The database, `postgres://user:password@host/name`; on many machines others see what a command is given
        #[arg(required_unless_present = "url_file")]
        url: Option<Secret>,
        /// A file that holds it instead
        #[arg(long, value_name = "FILE", conflicts_with = "url")]
        url_file: Option<PathBuf>,
    },
}

pub(super) fn database(config: &Config, command: &DatabaseCommand) -> anyhow::Result<()> {
    super::block_on(async {
        match command {
            DatabaseCommand::Check { thorough } => check::check(config, *thorough).await,
            DatabaseCommand::Vacuum => vacuum::vacuum(config).await,
            DatabaseCommand::Restored => restored(config).await,
            DatabaseCommand::MigrateTo { url, url_file } => {
                let (url, file) = (url.as_ref(), url_file.as_deref());
                Box::pin(migrate_to::migrate_to(config, url, file)).await
            }
        }
    })
}

async fn restored(config: &Config) -> anyhow::Result<()> {
    renew_epoch(config).await?;
    say("Clients will sync anew: what they knew of a later state counts no more.");
    Ok(())
}

/// Begins a new life of the database, whose tokens of before mean nothing.
pub(super) async fn renew_epoch(config: &Config) -> anyhow::Result<()> {
    let store = server::open_store(config).await?;
    let is_empty = store.log().head() == Pos(0);
    let renewed = store.renew_epoch().await;
    store.close().await;
    if is_empty {
        bail!(
            "nothing was ever written to the database {}; is it the one that was restored? See database.url",
            shown(config)
        );
    }
    renewed?;
    Ok(())
}

pub(super) fn url(config: &Config) -> String {
    config.database.url(&config.server.data_dir)
}

pub(super) fn shown(config: &Config) -> String {
    config.database.url_for_display(&config.server.data_dir)
}

/// Does something that may take long, and says now and then how far it is.
pub(super) async fn telling<T>(
    what: &str,
    progress: &CheckProgress,
    work: impl Future<Output = T>,
) -> T {
    let begun = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(TELL_EVERY) => {
                let seconds = begun.elapsed().as_secs();
                match progress.so_far() {
                    (_, 0) => eprintln!("{what}: {seconds} s so far"),
                    (done, total) => eprintln!("{what}: {done} of {total}, {seconds} s so far"),
                }
            }
        }
    }
}
