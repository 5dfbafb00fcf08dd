//! The stores by their names.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blobs::{self, Blobs};
use crate::config::{MediaConfig, Place};
use crate::error::MediaError;

/// The stores by their names.
pub(super) struct Places {
    by_name: HashMap<String, Arc<dyn Blobs>>,
    newest: (String, Arc<dyn Blobs>),
    folders: Vec<(String, PathBuf)>,
}

/// Whether one folder is the other, whatever they are called.
fn is_same(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| path.metadata().map(|known| (known.dev(), known.ino()));
    one == other || matches!((inode(one), inode(other)), (Ok(one), Ok(other)) if one == other)
}

/// The true name of a store's folder, if none that is known is it, or lies in it, or holds it.
fn alone(folder: &Path, name: &str, folders: &[(String, PathBuf)]) -> Result<PathBuf, MediaError> {
    let folder = folder
        .canonicalize()
        .map_err(|error| MediaError::bytes(format_args!("{}: {error}", folder.display())))?;
    let meets = folders.iter().find(|(_, other)| {
        let nested = folder.starts_with(other) || other.starts_with(&folder);
        nested || is_same(&folder, other)
    });
    let Some((other, path)) = meets else {
        return Ok(folder);
    };
    Err(MediaError::bytes(format_args!(
        "the stores {other:?} and {name:?} lie in one folder, or one in the other's: {} and {}; \
         give each a folder of its own",
        path.display(),
        folder.display()
    )))
}

impl Places {
    pub(super) fn open(config: &MediaConfig) -> Result<Self, MediaError> {
        let mut by_name = HashMap::new();
        let mut newest = None;
        let mut folders: Vec<(String, PathBuf)> = Vec::new();
        for one in &config.stores {
            let opened = blobs::open(one)
                .map_err(|error| MediaError::bytes(format_args!("store {}: {error}", one.name)))?;
            if let Place::Disk(folder) = &one.place {
                folders.push((one.name.clone(), alone(folder, &one.name, &folders)?));
            }
            newest.get_or_insert_with(|| (one.name.clone(), opened.clone()));
            if by_name.insert(one.name.clone(), opened).is_some() {
                return Err(MediaError::bytes(format_args!(
                    "two stores are called {:?}",
                    one.name
                )));
            }
        }
        let newest = newest.ok_or_else(|| MediaError::bytes("no store is configured"))?;
        Ok(Self {
            by_name,
            newest,
            folders,
        })
    }

    /// Where new bytes go.
    pub(super) fn newest(&self) -> (&str, &Arc<dyn Blobs>) {
        (&self.newest.0, &self.newest.1)
    }

    /// The store of this name.
    pub(super) fn get(&self, name: &str) -> Result<&Arc<dyn Blobs>, MediaError> {
        self.by_name.get(name).ok_or_else(|| {
            MediaError::bytes(format_args!(
                "files lie in the store {name:?}, which isn't configured"
            ))
        })
    }

    /// Whether two names are of the same place by now.
    pub(super) fn are_one(&self, one: &str, other: &str) -> bool {
        let folder = |name| {
            let found = self.folders.iter().find(|(of, _)| of == name);
            found.map(|(_, folder)| folder)
        };
        one == other
            || matches!((folder(one), folder(other)), (Some(one), Some(other)) if is_same(one, other))
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Arc<dyn Blobs>)> {
        self.by_name.iter()
    }
}
