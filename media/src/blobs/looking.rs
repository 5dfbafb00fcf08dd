//! Looking at what lies in the stores that are folders, without a database, and without changing anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhizome_storage::Blob;

use super::disk::{list_folder, names, path_in};
use super::spool::blocking;
use super::{MARKER, is_key, sealed_size};
use crate::config::{MediaConfig, Place};

/// The stores of a configuration that are folders.
#[derive(Debug, Clone)]
pub struct StoredFiles {
    folders: Arc<[(String, PathBuf)]>,
    elsewhere: Vec<String>,
}

/// How a blob's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// As its row says.
    Right,
    /// Not where its row says.
    Nowhere,
    /// There, with so many bytes, which isn't what its row says.
    Otherwise(u64),
    /// In a store that isn't a folder, so that nobody has looked.
    Elsewhere,
    /// In a store that isn't configured.
    Unknown,
}

impl StoredFiles {
    /// Those of this configuration. Nothing is made.
    pub fn of(config: &MediaConfig) -> Self {
        let (mut folders, mut elsewhere) = (Vec::new(), Vec::new());
        for store in &config.stores {
            match &store.place {
                Place::Disk(folder) => folders.push((store.name.clone(), folder.clone())),
                Place::S3(_) => elsewhere.push(store.name.clone()),
            }
        }
        Self {
            folders: folders.into(),
            elsewhere,
        }
    }

    /// The names of those that are folders.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(|(name, _)| name.as_str())
    }

    /// The names of the others.
    pub fn elsewhere(&self) -> &[String] {
        &self.elsewhere
    }

    /// Looks where blobs lie, in their order.
    ///
    /// # Errors
    /// A folder can't be read.
    pub async fn look(&self, blobs: &[Blob]) -> io::Result<Vec<Lies>> {
        let (this, blobs) = (self.clone(), blobs.to_vec());
        blocking(move || blobs.iter().map(|blob| this.look_at(blob)).collect()).await
    }

    /// Where a blob's bytes lie, and how many they should be; `None` if its store is no folder of this configuration.
    ///
    /// # Errors
    /// The blob has no name that one could have.
    pub fn place(&self, blob: &Blob) -> io::Result<Option<(PathBuf, u64)>> {
        let Some(folder) = self.folder(&blob.store) else {
            return Ok(None);
        };
        Ok(Some((blob_path(folder, &blob.key)?, stored_size(blob))))
    }

    fn look_at(&self, blob: &Blob) -> io::Result<Lies> {
        let Some(folder) = self.folder(&blob.store) else {
            let is_known = self.elsewhere.contains(&blob.store);
            return Ok(if is_known {
                Lies::Elsewhere
            } else {
                Lies::Unknown
            });
        };
        let expected = stored_size(blob);
        let known = path_in(folder, &blob.key).and_then(fs::metadata);
        match known {
            Ok(known) if known.len() == expected => Ok(Lies::Right),
            Ok(known) => Ok(Lies::Otherwise(known.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lies::Nowhere),
            Err(error) => Err(error),
        }
    }

    /// The folder of a store.
    pub fn folder(&self, store: &str) -> Option<&Path> {
        let found = self.folders.iter().find(|(name, _)| name == store);
        found.map(|(_, folder)| folder.as_path())
    }

    /// The id that a store holds, if it holds one.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn id(&self, store: &str) -> io::Result<Option<String>> {
        let Some(folder) = self.folder(store) else {
            return Ok(None);
        };
        let file = folder.join(MARKER);
        blocking(move || match fs::read(file) {
            Ok(id) => Ok(Some(String::from_utf8_lossy(&id).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// The keys of what lies in a store since before this time (ms), of those that begin with these two digits.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn keys(&self, store: &str, part: u8, before: i64) -> io::Result<Vec<String>> {
        let Some(folder) = self.folder(store) else {
            return Ok(Vec::new());
        };
        let folder = folder.join(format!("{part:02x}"));
        blocking(move || {
            let mut all = Vec::new();
            if folder.is_dir() {
                for folder in names(&folder)? {
                    list_folder(&folder, &mut all)?;
                }
            }
            let old = all.into_iter();
            let old = old.filter(|one| one.since < before && is_key(&one.key));
            Ok(old.map(|one| one.key).collect())
        })
        .await
    }

    /// Whether a file of this name is in a store.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn has(&self, store: &str, key: &str) -> io::Result<bool> {
        let Some(folder) = self.folder(store) else {
            return Ok(false);
        };
        let path = path_in(folder, key)?;
        blocking(move || path.try_exists()).await
    }
}

/// How many bytes a blob takes where it lies.
fn stored_size(blob: &Blob) -> u64 {
    match blob.seal {
        None => blob.size,
        Some(_) => sealed_size(blob.size),
    }
}

/// The name of the file in a store's folder that says whose the store is.
pub const STORE_ID: &str = MARKER;

/// Where a blob lies in the folder of a store.
///
/// # Errors
/// The key is none that a blob could have.
pub fn blob_path(folder: &Path, key: &str) -> io::Result<PathBuf> {
    if is_key(key) {
        path_in(folder, key)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{key:?} is no name of a stored file"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::Seal;
    use ruma::owned_server_name;

    use super::*;

    #[tokio::test]
    async fn what_lies_in_a_folder_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let config = MediaConfig::new(owned_server_name!("here"), folder.path());
        let files = StoredFiles::of(&config);
        let store = files.folders().next().unwrap().to_owned();
        let key = format!("ab{}-000000000001", "0".repeat(62));
        let lost = format!("ab{}-000000000002", "0".repeat(62));
        let place = folder.path().join("ab/00");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(&key), b"hello").unwrap();
        fs::write(place.join("notes.txt"), b"another's").unwrap();
        let blob = |key: &str, size| Blob {
            key: key.to_owned(),
            sha256: String::new(),
            size,
            store: store.clone(),
            seal: None,
        };
        let sealed = Blob {
            seal: Some(Seal {
                key_id: "k".to_owned(),
                salt: "s".to_owned(),
            }),
            ..blob(&key, 5)
        };
        let unknown = Blob {
            store: "gone".to_owned(),
            ..blob(&key, 5)
        };
        let blobs = [
            blob(&key, 5),
            blob(&key, 6),
            blob(&lost, 5),
            sealed,
            unknown,
        ];
        let lies = files.look(&blobs).await.unwrap();
        assert_eq!(
            lies,
            [
                Lies::Right,
                Lies::Otherwise(5),
                Lies::Nowhere,
                Lies::Otherwise(5),
                Lies::Unknown
            ]
        );
        assert_eq!(
            files.keys(&store, 0xab, i64::MAX).await.unwrap(),
            [key.as_str()]
        );
        assert!(files.keys(&store, 0xab, 0).await.unwrap().is_empty());
        assert!(files.keys(&store, 0xac, i64::MAX).await.unwrap().is_empty());
        assert!(files.has(&store, &key).await.unwrap());
        assert!(!files.has(&store, &lost).await.unwrap());
        let place = files.place(&blobs[3]).unwrap().unwrap();
        assert!(place.0.ends_with(format!("ab/00/{key}")) && place.1 > 5);
        assert_eq!(files.place(&blobs[4]).unwrap(), None);
        assert!(blob_path(folder.path(), "../../etc/passwd").is_err());
        assert_eq!(files.id(&store).await.unwrap(), None);
        fs::write(folder.path().join(MARKER), "me").unwrap();
        assert_eq!(files.id(&store).await.unwrap().as_deref(), Some("me"));
    }
}
