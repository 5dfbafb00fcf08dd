//! `rhizome backup`: everything that a server needs, in a folder; whether it is whole; and back (ADR 30, docs/backup.md).

mod create;
mod disk;
mod files;
mod list;
mod manifest;
mod restore;
mod verify;

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::{Config, ConfigError};

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// Save database, signing key and files into a new folder in this one, while the server runs. Files that the last
    /// backup there has take no room again. Of PostgreSQL the database is left to its own tools
    Create {
        /// Where backups are kept, best on another disk
        dir: PathBuf,
        /// Leave out the files that users have uploaded
        #[arg(long)]
        without_media: bool,
        /// Leave out the signing key, so that the backup lets nobody sign as this server. It must be kept elsewhere
        #[arg(long)]
        without_key: bool,
    },
    /// See whether a backup is whole: sums, the database, and that each file is there that it names. Needs no
    /// configuration; ends with 1 if something is wrong
    Verify {
        /// A backup, or the folder with all of them for the newest
        dir: PathBuf,
        /// Only look whether files of users are there with their sizes, and don't read them
        #[arg(long)]
        quick: bool,
    },
    /// Put a backup back where the configuration says, where nothing may be yet, and have clients sync anew
    Restore {
        /// A backup, or the folder with all of them for the newest
        dir: PathBuf,
        /// Put it all below this folder instead, which is a data directory then
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}

/// `load` reads the configuration.
pub(super) fn backup(
    load: impl Fn() -> Result<Config, ConfigError>,
    command: &BackupCommand,
) -> anyhow::Result<()> {
    match command {
        BackupCommand::Create {
            dir,
            without_media,
            without_key,
        } => {
            let without = create::Without {
                media: *without_media,
                key: *without_key,
            };
            let config = load()?;
            super::block_on(Box::pin(create::create(&config, dir, without)))
        }
        BackupCommand::Verify { dir, quick } => super::block_on(verify::command(dir, *quick)),
        BackupCommand::Restore { dir, to } => {
            let config = load()?;
            super::block_on(Box::pin(restore::restore(&config, dir, to.as_deref())))
        }
    }
}
