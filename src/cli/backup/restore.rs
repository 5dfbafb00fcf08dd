//! `rhizome backup restore`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rhizome_media::{STORE_ID, StoredFiles, blob_path};
use rhizome_storage::{Check, CheckOptions, CheckProgress, database_file};

use crate::cli::database::{renew_epoch, shown, telling, url};
use crate::cli::{clean, say};
use crate::config::{Config, LOCAL, Secret, StoreKind};
use crate::server;

use super::disk;
use super::list::{Entry, Reading};
use super::manifest::{DATABASE, KEY, Kind, LIST, MEDIA, Manifest, Media, find};
use super::verify;

/// So many files are copied at once.
const PIECE: usize = 100;
/// What a database's name ends with until clients can't mistake it for the one that it was.
const RESTORING: &str = "restoring";

/// Where everything goes.
struct Places {
    config: Config,
    /// SQLite's file.
    database: Option<PathBuf>,
    key: PathBuf,
    /// The folders of stores, by name.
    stores: BTreeMap<String, PathBuf>,
}

pub(super) async fn restore(config: &Config, dir: &Path, to: Option<&Path>) -> anyhow::Result<()> {
    let folder = find(dir)?;
    let manifest = Manifest::read(&folder)?;
    let places = Places::of(config, &manifest, to)?;
    places.are_right(&manifest)?;
    if manifest.database.kind == Kind::Postgres {
        is_restored(&places.config, &manifest).await?;
    }
    let manifest = Box::pin(verify::verify(&folder, false)).await?;
    server::make_data_dir(&places.config)?;
    if let Some(media) = &manifest.media {
        restore_files(&folder, media, &places).await?;
    }
    if manifest.signing_key && !places.key.exists() {
        copy(&folder.join(KEY), &places.key, &manifest)?;
    }
    match &places.database {
        Some(database) => restore_database(&folder, &manifest, database, &places.config).await?,
        None => renew_epoch(&places.config).await?,
    }
    tell(&manifest, &places, to);
    Ok(())
}

impl Places {
    /// As configured, or all of it below `to`.
    fn of(config: &Config, manifest: &Manifest, to: Option<&Path>) -> anyhow::Result<Self> {
        let mut config = config.clone();
        if let Some(to) = to {
            to.clone_into(&mut config.server.data_dir);
            config.server.signing_key_path = None;
            config.media.path = None;
            if manifest.database.kind == Kind::Sqlite {
                config.database.url = None;
            }
            for store in &mut config.media.stores {
                if store.kind == StoreKind::Disk {
                    let folder = super::manifest::folder_of(&store.name);
                    store.path = Some(to.join(format!("media-{folder}")));
                }
            }
        }
        let stored = StoredFiles::of(&server::media_config(&config)?);
        let stores = stored.folders().filter_map(|name| {
            let folder = stored.folder(name)?;
            Some((name.to_owned(), folder.to_owned()))
        });
        Ok(Self {
            database: database_file(&url(&config)),
            key: config.server.signing_key_path(),
            stores: stores.collect(),
            config,
        })
    }

    /// Nothing is written over, and nothing is put where the server wouldn't look for it.
    fn are_right(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let Config { server, .. } = &self.config;
        if server.name.as_str() != manifest.server_name {
            let name = clean(&manifest.server_name);
            bail!(
                "the backup is of the server `{name}`, but server.name is `{}`: restore it with the configuration of that server",
                server.name
            );
        }
        match (manifest.database.kind, &self.database) {
            (Kind::Sqlite, Some(file)) => {
                for end in ["", "-wal", "-shm", RESTORING] {
                    is_free(&beside(file, end))?;
                }
            }
            (Kind::Postgres, None) => {}
            (Kind::Sqlite, None) => bail!(
                "the backup is of SQLite, but database.url names {}: restore it to SQLite, then `rhizome database migrate-to` \
                 takes it there",
                shown(&self.config)
            ),
            (Kind::Postgres, Some(_)) => bail!(
                "the backup is of a server on PostgreSQL: name the restored database in database.url"
            ),
        }
        if manifest.signing_key {
            is_free(&self.key)?;
        }
        for store in manifest.media.iter().flat_map(|media| &media.stores) {
            let name = clean(&store.name);
            let Some(folder) = self.stores.get(&store.name) else {
                bail!(
                    "the backup has files of the store `{name}`, which the configuration doesn't name: add it to media.stores, \
                     with the folder where they are to lie"
                );
            };
            let is_empty = disk::is_empty(folder);
            if !is_empty.with_context(|| format!("{} can't be read", folder.display()))? {
                bail!("{}", not_empty(folder));
            }
        }
        Ok(())
    }
}

fn is_free(path: &Path) -> anyhow::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        bail!("{}", not_empty(path));
    }
    Ok(())
}

fn not_empty(path: &Path) -> String {
    format!(
        "{} is there already, and nothing is written over: move it away first (also if a restore was broken off), or restore to \
         another place with --to",
        path.display()
    )
}

/// The name of something beside a file.
fn beside(file: &Path, end: &str) -> PathBuf {
    let joint = if end == RESTORING { "." } else { "" };
    PathBuf::from(format!("{}{joint}{end}", file.display()))
}

/// PostgreSQL's own tools must have been at work before.
async fn is_restored(config: &Config, manifest: &Manifest) -> anyhow::Result<()> {
    let shown = shown(config);
    let opened = Check::open(&url(config), CheckOptions::default()).await;
    let mut check = opened.with_context(|| format!("can't open the database {shown}"))?;
    let facts = check.facts().await?;
    check.close().await;
    match facts {
        Some(facts) if facts.position.0 > 0 => {
            let (there, saved) = (facts.position.0, manifest.database.position);
            if there > saved {
                say(format_args!(
                    "The database is newer (position {there}) than the files of this backup ({saved}): what was uploaded in \
                     between isn't there. `rhizome database check` tells which files these are."
                ));
            }
            Ok(())
        }
        _ => bail!(
            "nothing is in the database {shown}: restore it by PostgreSQL's own tools first (docs/backup.md), then do this again"
        ),
    }
}

/// Copies a file, and sees that it is the one that was saved.
fn copy(from: &Path, to: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    if let Some(above) = to.parent() {
        disk::make_folder(above)?;
    }
    let summed = disk::copy(from, to)?;
    let name = from.file_name().and_then(|name| name.to_str());
    let listed = name.and_then(|name| manifest.file(name));
    if listed.is_none_or(|listed| listed.sha256 != summed.sha256) {
        bail!("{} has changed while it was restored", from.display());
    }
    disk::sync(to)?;
    if let Some(above) = to.parent().filter(|above| !above.as_os_str().is_empty()) {
        disk::sync(above)?;
    }
    Ok(())
}

/// It gets its name when it has its new epoch: no server starts on it before.
async fn restore_database(
    folder: &Path,
    manifest: &Manifest,
    database: &Path,
    config: &Config,
) -> anyhow::Result<()> {
    eprintln!("restoring the database");
    let unfinished = beside(database, RESTORING);
    copy(&folder.join(DATABASE), &unfinished, manifest)?;
    let mut there = config.clone();
    there.database.url = Some(Secret::new(format!("sqlite:{}", unfinished.display())));
    renew_epoch(&there).await?;
    for end in ["-wal", "-shm"] {
        let left = beside(&unfinished, end);
        if left.exists() {
            bail!(
                "{} is still there: somebody else has {} open",
                left.display(),
                unfinished.display()
            );
        }
    }
    fs::rename(&unfinished, database)?;
    let above = database
        .parent()
        .filter(|above| !above.as_os_str().is_empty());
    disk::sync(above.unwrap_or(Path::new(".")))?;
    Ok(())
}

async fn restore_files(folder: &Path, media: &Media, places: &Places) -> anyhow::Result<()> {
    let what = "restoring the files of users";
    eprintln!("{what}");
    let from: BTreeMap<String, PathBuf> = (media.stores.iter())
        .map(|store| (store.name.clone(), folder.join(MEDIA).join(&store.folder)))
        .collect();
    let places = Arc::new((from, places.stores.clone()));
    let progress = CheckProgress::default();
    progress.begin(media.files);
    let mut list = Reading::open(&folder.join(LIST))?;
    let work = async {
        loop {
            let mut entries = list.some(PIECE)?;
            if entries.is_empty() {
                return anyhow::Ok(());
            }
            entries.retain(|entry| entry.lost.is_none());
            let (count, places) = (entries.len(), places.clone());
            let copying = move || restore_some(&entries, &places.0, &places.1);
            tokio::task::spawn_blocking(copying).await??;
            progress.add(count);
        }
    };
    telling(what, &progress, work).await?;
    for store in &media.stores {
        // Last, so that no server takes what is half there for all.
        if let Some(to) = places.1.get(&store.name) {
            disk::make_folder(to)?;
            disk::sync_all(to)?;
            disk::write(&to.join(STORE_ID), store.id.as_bytes())?;
            disk::sync(to)?;
        }
    }
    Ok(())
}

fn restore_some(
    entries: &[Entry],
    from: &BTreeMap<String, PathBuf>,
    to: &BTreeMap<String, PathBuf>,
) -> anyhow::Result<()> {
    for entry in entries {
        let (Some(from), Some(to)) = (from.get(&entry.store), to.get(&entry.store)) else {
            bail!(
                "a file is of the store {:?}, which the backup doesn't name",
                entry.store
            );
        };
        let (from, to) = (blob_path(from, &entry.key)?, blob_path(to, &entry.key)?);
        if let Some(above) = to.parent() {
            disk::make_folder(above)?;
        }
        let summed = disk::copy(&from, &to)?;
        if summed.sha256 != entry.sha256 {
            bail!("{} has changed while it was restored", from.display());
        }
    }
    Ok(())
}

fn tell(manifest: &Manifest, places: &Places, to: Option<&Path>) {
    say(format_args!(
        "Restored, as of {}. Clients will sync anew: what they knew of a later state counts no more.",
        clean(&manifest.made_at)
    ));
    let config = &places.config;
    say(format_args!("database     {}", shown(config)));
    say(format_args!("signing key  {}", places.key.display()));
    for (name, folder) in &places.stores {
        let of = if name == LOCAL {
            String::new()
        } else {
            format!(" (store {})", clean(name))
        };
        say(format_args!("files        {}{of}", folder.display()));
    }
    if !places.key.exists() {
        say(
            "The signing key isn't there. Put your copy of it there before the server starts: a new one is another server to others.",
        );
    }
    match to {
        Some(to) => say(format_args!(
            "What to do next: name these places in the configuration (server.data_dir = \"{}\", and the folders of further stores), \
             run `rhizome database check`, and start the server.",
            to.display()
        )),
        None => say("What to do next: run `rhizome database check`, and start the server."),
    }
    say(
        "Never start the server that was lost again: two lives of one server would contradict each other.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_a_database_has_its_name() {
        let file = Path::new("/a/rhizome.db");
        assert_eq!(beside(file, "-wal"), Path::new("/a/rhizome.db-wal"));
        assert_eq!(
            beside(file, RESTORING),
            Path::new("/a/rhizome.db.restoring")
        );
        assert_eq!(beside(file, ""), file);
    }
}
