//! What a backup says of itself. It is written last: a folder without it is none.
//!
//! ```text
//! DIR/2026-12-01T05-30-00Z/
//!     manifest.json
//!     rhizome.db            as of one moment (of SQLite)
//!     signing.key
//!     media.jsonl           which files there are: a line each, by key
//!     media/local/aa/bb/…   files, as they lie in the store `local`; what an earlier backup has is linked to
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// The form of backups that this version makes, and reads.
pub(super) const FORMAT: u32 = 1;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const DATABASE: &str = "rhizome.db";
pub(super) const KEY: &str = "signing.key";
pub(super) const LIST: &str = "media.jsonl";
pub(super) const MEDIA: &str = "media";
/// What the name of a backup ends with that isn't finished.
pub(super) const UNFINISHED: &str = ".unfinished";

/// A backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Which program made it.
    pub(super) made_by: String,
    /// When it began.
    pub(super) made_at: String,
    /// Whose it is.
    pub(super) server_name: String,
    pub(super) database: Database,
    /// `None`: without files of users.
    pub(super) media: Option<Media>,
    /// Whether the signing key is in it.
    pub(super) signing_key: bool,
    /// What else is in it, beside the files of users.
    pub(super) files: Vec<Listed>,
}

/// The database as of the backup's moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Database {
    pub(super) kind: Kind,
    /// Which life of it.
    pub(super) epoch: String,
    /// The last position of its log.
    pub(super) position: i64,
    /// The newest migration that was applied.
    pub(super) schema: i64,
}

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Its file is in the backup.
    Sqlite,
    /// It is saved by PostgreSQL's own tools.
    Postgres,
}

/// The files of users.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Media {
    /// The stores whose files are in it.
    pub(super) stores: Vec<Store>,
    /// Stores that are saved by their own means, such as buckets.
    pub(super) elsewhere: Vec<String>,
    /// By which of the operator's keys files are encrypted. The keys aren't in it.
    pub(super) sealed_by: Vec<String>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that were deleted while it was made.
    pub(super) gone: u64,
    /// Files that weren't where the database says, or were damaged, when it was made.
    pub(super) lost: u64,
}

/// A store of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Store {
    /// What the configuration calls it.
    pub(super) name: String,
    /// What the database knows it by.
    pub(super) id: String,
    /// Its folder in `media`.
    pub(super) folder: String,
}

/// A file of the backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

impl Manifest {
    /// Of the backup in this folder.
    ///
    /// # Errors
    /// There is none, or none that this version understands.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{} is no finished backup: it has no {MANIFEST}, which is written last. What was broken off can be deleted",
                folder.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", path.display()));
            }
        };
        let damaged = || {
            format!(
                "{} is damaged: use another backup, and look whether the disk is sound",
                path.display()
            )
        };
        let value: serde_json::Value = serde_json::from_str(&text).with_context(damaged)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if format.is_some_and(|format| format > u64::from(FORMAT)) {
            bail!(
                "the backup in {} was made by a newer version; use that one",
                folder.display()
            );
        }
        let manifest: Self = serde_json::from_value(value).with_context(damaged)?;
        // Names of files become paths.
        let names = manifest.files.iter().map(|file| file.name.as_str());
        let folders = manifest.media.iter().flat_map(|media| &media.stores);
        let folders = folders.map(|store| store.folder.as_str());
        if !names.chain(folders).all(is_plain) {
            bail!("{}", damaged());
        }
        Ok(manifest)
    }

    /// What it says of a file.
    pub(super) fn file(&self, name: &str) -> Option<&Listed> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// The backup that is meant: this folder, or the newest that is in it.
///
/// # Errors
/// There is none.
pub(super) fn find(dir: &Path) -> anyhow::Result<PathBuf> {
    if dir.join(MANIFEST).exists() {
        return Ok(dir.to_owned());
    }
    match finished(dir)?.pop() {
        Some(newest) => Ok(newest),
        None => bail!(
            "there is no finished backup in {}: `rhizome backup create` makes one. What has no {MANIFEST} was broken off",
            dir.display()
        ),
    }
}

/// All finished backups in a folder, the newest last.
///
/// # Errors
/// It can't be read.
pub(super) fn finished(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("{} can't be read", dir.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(is_time) && path.join(MANIFEST).exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a backup may be called so: `2026-12-01T05-30-00Z`.
pub(super) fn is_time(name: &str) -> bool {
    let form = "0000-00-00T00-00-00Z";
    name.len() == form.len()
        && name
            .bytes()
            .zip(form.bytes())
            .all(|(is, expected)| is == expected || (expected == b'0' && is.is_ascii_digit()))
}

/// The folder of a store, which may be called anything.
pub(super) fn folder_of(store: &str) -> String {
    if is_plain(store) && !store.starts_with("x-") {
        return store.to_owned();
    }
    let digits = store.bytes().map(|byte| format!("{byte:02x}"));
    format!("x-{}", digits.collect::<String>())
}

/// Whether a name is one of a file, in any folder.
fn is_plain(name: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !name.is_empty() && !name.starts_with('.') && name.len() <= 200 && name.bytes().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            format: FORMAT,
            made_by: "rhizome test".to_owned(),
            made_at: "2026-12-01T05:30:00Z".to_owned(),
            server_name: "here".to_owned(),
            database: Database {
                kind: Kind::Sqlite,
                epoch: "e".to_owned(),
                position: 7,
                schema: 90,
            },
            media: None,
            signing_key: true,
            files: Vec::new(),
        }
    }

    fn put(folder: &Path, manifest: &Manifest) {
        let text = serde_json::to_string(manifest).unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(MANIFEST), text).unwrap();
    }

    #[test]
    fn the_newest_that_is_finished_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(dir.path()).unwrap_err();
        assert!(error.to_string().contains("no finished backup"), "{error}");
        let [old, new] = ["2026-01-02T03-04-05Z", "2026-02-02T03-04-05Z"];
        for name in [new, old, "notes", "2026-03-02T03-04-05Z.unfinished"] {
            put(&dir.path().join(name), &sample());
        }
        // Broken off before it was finished.
        fs::create_dir(dir.path().join("2026-04-02T03-04-05Z")).unwrap();
        assert_eq!(find(dir.path()).unwrap(), dir.path().join(new));
        let older = dir.path().join(old);
        assert_eq!(find(&older).unwrap(), older);
        assert_eq!(Manifest::read(&older).unwrap(), sample());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let why = || Manifest::read(dir.path()).unwrap_err().to_string();
        assert!(why().contains("no finished backup"));
        let newer = Manifest {
            format: FORMAT + 1,
            ..sample()
        };
        put(dir.path(), &newer);
        assert!(why().contains("newer version"));
        let outside = Listed {
            name: "../../etc/passwd".to_owned(),
            size: 1,
            sha256: String::new(),
        };
        let files = vec![outside];
        put(dir.path(), &Manifest { files, ..sample() });
        assert!(why().contains("damaged"));
        fs::write(dir.path().join(MANIFEST), "{\"format\": 1").unwrap();
        assert!(why().contains("damaged"));
    }

    #[test]
    fn stores_have_folders_of_their_own() {
        assert_eq!(folder_of("local"), "local");
        let odd = ["..", "a/b", "x-2e2e", "ä", ".hidden", ""];
        let folders: std::collections::BTreeSet<_> = odd.map(folder_of).into();
        assert_eq!(folders.len(), odd.len());
        assert!(folders.iter().all(|folder| is_plain(folder)), "{folders:?}");
    }
}
