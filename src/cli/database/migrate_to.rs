//! `rhizome database migrate-to`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use rhizome_storage::{CheckProgress, Dialect, Transfer, TransferError, Vacuum};

use crate::cli::say;
use crate::config::{Config, Database, Secret};
use crate::server;

use super::{shown, telling, url};

/// Where it goes, and what of it may be shown.
struct Target {
    url: String,
    shown: String,
}

pub(super) async fn migrate_to(
    config: &Config,
    given: Option<&Secret>,
    file: Option<&Path>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let target = target(config, given, file)?;
    bring_up_to_date(config).await?;
    let from = shown(config);
    let opened = Box::pin(Transfer::open(&url(config), &target.url)).await;
    let mut transfer = opened.map_err(|error| explained(error, &target))?;
    let progress = Arc::<CheckProgress>::default();
    let (count, mut rows) = (transfer.count(), 0);
    let mut checked = Vec::new();
    for at in 0..count {
        let what = format!("{}/{count} {}", at + 1, transfer.name(at));
        eprintln!("{what}");
        let work = Box::pin(transfer.table(at, &progress));
        match telling(&what, &progress, work).await {
            Ok(done) => {
                rows += done.rows;
                checked.push(done);
            }
            Err(error) => {
                transfer.close().await;
                return Err(explained(error, &target));
            }
        }
    }
    eprintln!("making it so");
    let committed = telling("making it so", &CheckProgress::default(), transfer.commit()).await;
    committed.map_err(|error| explained(error, &target))?;
    for done in checked.iter().filter(|done| done.rows > 0) {
        say(format_args!(
            "{}: {} rows, the same in both",
            done.table, done.rows
        ));
    }
    say(format_args!(
        "{rows} rows of {count} tables were taken from {from} to {} and compared, in {} s.",
        target.shown,
        begun.elapsed().as_secs()
    ));
    say(
        "What to do next: name the new database in database.url (or url_file), and start the server. Clients go on where they were; \
         the index of what was said is made anew as it runs, until when a search finds less that is old.",
    );
    say(format_args!(
        "{from} stays as it was. Never start a server on it again once one has run on the other: two lives of one server would \
         contradict each other."
    ));
    Ok(())
}

/// The database that is meant.
fn target(config: &Config, given: Option<&Secret>, file: Option<&Path>) -> anyhow::Result<Target> {
    let url = match (given, file) {
        (Some(url), _) => url.expose().to_owned(),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("{} can't be read", file.display()))?;
            text.trim().to_owned()
        }
        (None, None) => bail!("name the PostgreSQL database"),
    };
    if Dialect::of(&url) != Some(Dialect::Postgres) {
        bail!("the new database must be a PostgreSQL: postgres://user:password@host/name");
    }
    if Dialect::of(&self::url(config)) != Some(Dialect::Sqlite) {
        bail!(
            "the database of this configuration isn't SQLite but {}: leave database.url as it was until this is done",
            shown(config)
        );
    }
    let database = Database {
        url: Some(Secret::new(url.clone())),
        ..Database::default()
    };
    let shown = database.url_for_display(&config.server.data_dir);
    Ok(Target { url, shown })
}

/// The schema of this version, in a database that nobody else has open.
async fn bring_up_to_date(config: &Config) -> anyhow::Result<()> {
    let shown = shown(config);
    let cannot_open =
        || format!("can't open the database {shown}; see database.url in the configuration");
    let mut alone = Vacuum::open(&url(config)).await.with_context(cannot_open)?;
    let is_alone = alone.claim().await.with_context(cannot_open)?;
    alone.close().await;
    if !is_alone {
        bail!("{}", in_use());
    }
    let store = server::open_store(config).await?;
    store.close().await;
    Ok(())
}

fn in_use() -> &'static str {
    "the database is open: a server runs on it, or another command. Stop the server first: what it writes meanwhile would be lost"
}

fn explained(error: TransferError, target: &Target) -> anyhow::Error {
    let shown = &target.shown;
    let told = match &error {
        TransferError::InUse => in_use().to_owned(),
        TransferError::TargetInUse => format!(
            "a server runs on {shown}, or was killed on it a moment ago: stop it, and wait a few minutes if it was killed"
        ),
        TransferError::NotEmpty(what) => format!(
            "{shown} isn't empty: {what}. Name an empty database, which nothing has been in: `createdb --encoding=UTF8 \
             --template=template0 rhizome` makes one. Nothing was changed"
        ),
        TransferError::Open(_) => format!("{shown} can't be used"),
        TransferError::Schema(_) => "please report this as a bug; nothing was changed".to_owned(),
        TransferError::Differs { .. } => {
            "what came isn't what was sent, so nothing was changed. Look through the old database with `rhizome database check`, \
             and try again; if it is so again, please report it as a bug"
                .to_owned()
        }
        TransferError::Database(_) => format!(
            "it was broken off, and {shown} is as empty as before (unless it was just being made so: then see whether it is full); \
             it can be done again"
        ),
    };
    anyhow::Error::from(error).context(told)
}
