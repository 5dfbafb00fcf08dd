//! `rhizome backup create`.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rhizome_media::StoredFiles;
use rhizome_storage::{
    Check, CheckOptions, CheckProgress, Clock, DatabaseFacts, copy_database, database_file,
};
use rustix::fs::{FlockOperation, flock};

use crate::cli::database::{shown, telling, url};
use crate::cli::media::size;
use crate::cli::say;
use crate::config::Config;
use crate::server::{self, signing_key};

use super::disk;
use super::files::{self, Saved};
use super::manifest::{
    DATABASE, Database, FORMAT, KEY, Kind, LIST, Listed, MANIFEST, Manifest, UNFINISHED, finished,
    is_time,
};

/// What is held by whoever makes a backup.
const LOCK: &str = "lock";

/// What is left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Without {
    pub(super) media: bool,
    pub(super) key: bool,
}

/// A backup that is being made.
struct Making {
    dir: PathBuf,
    /// Where it will be.
    finished: PathBuf,
    /// Where it is until then.
    folder: PathBuf,
    made_at: String,
    files: Vec<Listed>,
    /// Held until it is done.
    _lock: File,
}

/// Makes a backup in a folder of its own below `dir`.
pub(super) async fn create(config: &Config, dir: &Path, without: Without) -> anyhow::Result<()> {
    let begun = Instant::now();
    let shown = shown(config);
    let url = url(config);
    let file = database_file(&url);
    let cannot_open =
        || format!("can't open the database {shown}; see database.url in the configuration");
    let options = CheckOptions::default();
    let mut live = Check::open(&url, options.clone())
        .await
        .with_context(cannot_open)?;
    let Some(facts) = live.facts().await? else {
        bail!(
            "nothing was ever written to the database {shown}; see database.url in the configuration"
        );
    };
    belongs(&facts, config.server.name.as_str(), &shown)?;
    // What reads for long keeps the write-ahead log from being emptied.
    live.renew().await?;
    let mut making = Making::begin(dir)?;
    let mut copy = match &file {
        Some(file) => {
            making.copy_database(&url, file).await?;
            let copied = format!("sqlite:{}", making.folder.join(DATABASE).display());
            Check::open(&copied, options).await?
        }
        None => Check::open(&url, options).await.with_context(cannot_open)?,
    };
    let Some(facts) = copy.facts().await? else {
        bail!("the copy of the database says nothing of itself; try again");
    };
    if !without.key {
        making.copy_key(config)?;
    }
    let saved = if without.media {
        None
    } else {
        Some(making.save_files(config, &mut copy, &mut live).await?)
    };
    copy.close().await;
    live.close().await;
    let kind = file.map_or(Kind::Postgres, |_| Kind::Sqlite);
    let manifest = making.manifest(kind, &facts, config, saved.as_ref(), !without.key);
    let finished = making.end(&manifest)?;
    tell(&finished, &manifest, saved.as_ref(), begun.elapsed());
    Ok(())
}

fn belongs(facts: &DatabaseFacts, name: &str, shown: &str) -> anyhow::Result<()> {
    match &facts.server {
        Some(server) if server != name => bail!(
            "the database {shown} belongs to the server `{server}`, but server.name is `{name}`; is it the right configuration?"
        ),
        _ => Ok(()),
    }
}

impl Making {
    /// Makes the folder. What an earlier one has left unfinished goes.
    fn begin(dir: &Path) -> anyhow::Result<Self> {
        disk::make_folder(dir)
            .with_context(|| format!("the folder {} can't be made", dir.display()))?;
        let cannot = || format!("nothing can be written in {}", dir.display());
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true);
        let lock = lock.open(dir.join(LOCK)).with_context(cannot)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "another backup is being made in {}; wait until it is done",
                dir.display()
            );
        }
        sweep(dir)?;
        let now = Clock::system().now_ms();
        let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or(0));
        let made_at = humantime::format_rfc3339_seconds(now).to_string();
        let name = made_at.replace(':', "-");
        let finished = dir.join(&name);
        if finished.exists() {
            bail!(
                "{} is there already, and isn't written over",
                finished.display()
            );
        }
        let folder = dir.join(format!("{name}{UNFINISHED}"));
        disk::make_folder(&folder).with_context(cannot)?;
        Ok(Self {
            dir: dir.to_owned(),
            finished,
            folder,
            made_at,
            files: Vec::new(),
            _lock: lock,
        })
    }

    /// A copy of SQLite's file.
    async fn copy_database(&mut self, url: &str, file: &Path) -> anyhow::Result<()> {
        let length = |path: &Path| fs::metadata(path).map_or(0, |known| known.len());
        let log = PathBuf::from(format!("{}-wal", file.display()));
        let (needed, free) = (length(file) + length(&log), disk::free(&self.folder)?);
        if free < needed {
            bail!(
                "there isn't enough room: the disk with {} has {} left, and the database takes {}",
                self.dir.display(),
                size(free),
                size(needed)
            );
        }
        let what = "copying the database";
        eprintln!("{what}, {}", size(needed));
        let into = self.folder.join(DATABASE);
        let progress = Arc::<CheckProgress>::default();
        telling(what, &progress, copy_database(url, &into, &progress)).await?;
        disk::sync(&into)?;
        self.sum(DATABASE)
    }

    fn copy_key(&mut self, config: &Config) -> anyhow::Result<()> {
        let path = config.server.signing_key_path();
        if signing_key::load(&path)?.is_none() {
            bail!(
                "there is no signing key at {}; with --without-key it is left out. A server that is restored without it signs \
                 with a new one, which others have to learn of first",
                path.display()
            );
        }
        let text = fs::read(&path).with_context(|| format!("{} can't be read", path.display()))?;
        disk::write(&self.folder.join(KEY), &text)?;
        self.sum(KEY)
    }

    async fn save_files(
        &mut self,
        config: &Config,
        copy: &mut Check,
        live: &mut Check,
    ) -> anyhow::Result<Saved> {
        let stored = StoredFiles::of(&server::media_config(config)?);
        let former = finished(&self.dir)?.pop();
        let what = "saving files";
        eprintln!("{what}");
        let progress = Arc::<CheckProgress>::default();
        let from = (copy, live);
        let into = (self.folder.as_path(), former.as_deref());
        let work = Box::pin(files::save(from, &stored, into, &progress));
        let saved = telling(what, &progress, work).await?;
        self.sum(LIST)?;
        Ok(saved)
    }

    /// Notes what is in a file of the backup.
    fn sum(&mut self, name: &str) -> anyhow::Result<()> {
        let summed = disk::sum(&self.folder.join(name))?;
        self.files.push(Listed {
            name: name.to_owned(),
            size: summed.size,
            sha256: summed.sha256,
        });
        Ok(())
    }

    fn manifest(
        &self,
        kind: Kind,
        facts: &DatabaseFacts,
        config: &Config,
        saved: Option<&Saved>,
        signing_key: bool,
    ) -> Manifest {
        Manifest {
            format: FORMAT,
            made_by: format!("rhizome {}", env!("CARGO_PKG_VERSION")),
            made_at: self.made_at.clone(),
            server_name: config.server.name.to_string(),
            database: Database {
                kind,
                epoch: facts.epoch.clone().unwrap_or_default(),
                position: facts.position.0,
                schema: facts.schema,
            },
            media: saved.map(|saved| saved.media.clone()),
            signing_key,
            files: self.files.clone(),
        }
    }

    /// Sees all of it onto the disk, then says that it is a backup.
    fn end(self, manifest: &Manifest) -> anyhow::Result<PathBuf> {
        eprintln!("seeing it onto the disk");
        disk::sync_all(&self.folder)?;
        let text = serde_json::to_string_pretty(manifest)?;
        let beside = self.folder.join(format!("{MANIFEST}.new"));
        disk::write(&beside, text.as_bytes())?;
        fs::rename(&beside, self.folder.join(MANIFEST))?;
        disk::sync(&self.folder)?;
        fs::rename(&self.folder, &self.finished)?;
        disk::sync(&self.dir)?;
        Ok(self.finished)
    }
}

/// Deletes what was broken off. Only called while nobody else makes a backup here.
fn sweep(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let begun = name.and_then(|name| name.strip_suffix(UNFINISHED));
        if begun.is_some_and(is_time) {
            eprintln!("deleting {}, which was broken off", path.display());
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context("what was broken off can't be deleted");
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn tell(folder: &Path, manifest: &Manifest, saved: Option<&Saved>, took: Duration) {
    let shown = folder.display();
    say(format_args!("{shown}: done in {} s", took.as_secs()));
    let Database { kind, position, .. } = &manifest.database;
    match kind {
        Kind::Sqlite => say(format_args!(
            "database: as of position {position} of its log"
        )),
        Kind::Postgres => say(format_args!(
            "database: not in it. It is saved by PostgreSQL's own tools, before this (docs/backup.md); its log was at position {position}"
        )),
    }
    if manifest.signing_key {
        say("signing key: in it, so keep the backup as secret as the key");
    } else {
        say("signing key: not in it. Keep a copy elsewhere: `rhizome keys path` tells where it is");
    }
    let Some(Saved {
        media,
        copied,
        examples,
    }) = saved
    else {
        say("files of users: not in it");
        return;
    };
    say(format_args!(
        "files of users: {}, {}, of which {} were copied and the rest was there already",
        media.files,
        size(media.bytes),
        size(*copied)
    ));
    for name in &media.elsewhere {
        say(format_args!(
            "the store {name} is no folder: save it by its own means"
        ));
    }
    if !media.sealed_by.is_empty() {
        say(
            "files are encrypted: the keys (media.key_file) aren't in the backup, keep a copy of them elsewhere",
        );
    }
    if media.lost > 0 {
        say(format_args!(
            "{} files that the database names aren't where they should be, or are damaged, and so not in it:",
            media.lost
        ));
        for example in examples {
            say(format_args!("  {example}"));
        }
        say("`rhizome database check` tells what to do about them");
    }
    say("What isn't in it either: the configuration, and the files that it names.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_made_at_a_time_and_what_was_broken_off_goes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("deep/backups");
        let first = Making::begin(&dir).unwrap();
        let error = Making::begin(&dir).err().unwrap().to_string();
        assert!(error.contains("another backup is being made"), "{error}");
        let left = first.folder.clone();
        drop(first);
        let other = dir.join("mine.unfinished");
        fs::create_dir(&other).unwrap();
        fs::write(left.join(DATABASE), "half").unwrap();
        let second = Making::begin(&dir).unwrap();
        assert!(other.exists() && !second.folder.join(DATABASE).exists());
        assert!(left == second.folder || !left.exists());
    }

    #[test]
    fn a_backup_of_the_same_second_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let facts = DatabaseFacts {
            server: None,
            epoch: None,
            position: rhizome_storage::Pos(3),
            schema: 1,
        };
        let config = Config::default();
        let making = Making::begin(dir.path()).unwrap();
        let made_at = making.made_at.clone();
        let manifest = making.manifest(Kind::Sqlite, &facts, &config, None, false);
        let folder = making.end(&manifest).unwrap();
        assert_eq!(Manifest::read(&folder).unwrap(), manifest);
        assert_eq!(finished(dir.path()).unwrap(), [folder]);
        // It may be another second by now.
        match Making::begin(dir.path()) {
            Ok(other) => assert_ne!(other.made_at, made_at),
            Err(error) => assert!(error.to_string().contains("isn't written over"), "{error}"),
        }
    }
}
