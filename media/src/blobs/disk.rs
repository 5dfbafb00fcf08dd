//! Blobs in a folder: `aa/bb/<key>`, where `aabb` begins the key, and `new/` for what is on its way.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};

use super::spool::blocking;
use super::{Blobs, Listed, MARKER, Pieces, Spooled, read_file};

/// Where files are that nobody knows of yet.
const NEW: &str = "new";

/// Blobs in a folder.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: Arc<Path>,
    new: PathBuf,
    /// The folders, by what their keys begin with, whose own names this process has seen onto the disk.
    lasting: Arc<Mutex<HashSet<String>>>,
}

impl Disk {
    /// The folder is made if it isn't there.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let new = folder.join(NEW);
        // What is there already may have been made just before the power went: at least the folder's own name is seen to.
        let above = folder.ancestors().skip(1);
        let made_now = above.clone().take_while(|above| !above.exists()).count();
        let above: Vec<_> = above.take(made_now + 1).collect();
        made(&new)?;
        sync(folder)?;
        for above in above {
            // The folder may be named from where the process runs.
            let here = above.as_os_str().is_empty();
            match sync(if here { Path::new(".") } else { above }) {
                // Who may not read it can't see to it, and hasn't made anything in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                done => done?,
            }
        }
        Ok(Self {
            folder: folder.into(),
            new,
            lasting: Arc::default(),
        })
    }

    fn path(&self, key: &str) -> io::Result<PathBuf> {
        path_in(&self.folder, key)
    }
}

/// Where something lies in a folder.
pub(super) fn path_in(folder: &Path, key: &str) -> io::Result<PathBuf> {
    if key == MARKER {
        return Ok(folder.join(key));
    }
    let (Some(first), Some(second)) = (key.get(..2), key.get(2..4)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    Ok(folder.join(first).join(second).join(key))
}

impl Blobs for Disk {
    fn spool(&self) -> &Path {
        &self.new
    }

    fn put<'a>(&'a self, key: &'a str, file: Spooled) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let (path, folder) = (self.path(key)?, self.folder.clone());
            let (begins, lasting) = (key.get(..4).unwrap_or(key).to_owned(), self.lasting.clone());
            blocking(move || {
                let lasts = lock(&lasting).contains(&begins);
                place(file, &path, &folder, lasts)?;
                lock(&lasting).insert(begins);
                Ok(())
            })
            .await
        }
        .boxed()
    }

    fn read<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, io::Result<Pieces>> {
        async move {
            let path = self.path(key)?;
            let file = blocking(move || File::open(path)).await?;
            Ok(read_file(Arc::new(file), range))
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let path = self.path(key)?;
            blocking(move || match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
            .await
        }
        .boxed()
    }

    fn list(&self) -> BoxStream<'_, io::Result<Vec<Listed>>> {
        let folders = async {
            let folder = self.folder.clone();
            let folders = blocking(move || names(&folder)).await;
            let mut failed = None;
            let folders = folders.unwrap_or_else(|error| {
                failed = Some(Err(error));
                Vec::new()
            });
            let folders = folders.into_iter().filter(|folder| is_ours(folder));
            stream::iter(failed).chain(stream::iter(folders).then(|folder| {
                blocking(move || {
                    let mut all = Vec::new();
                    for folder in names(&folder)? {
                        list_folder(&folder, &mut all)?;
                    }
                    Ok(all)
                })
            }))
        };
        folders.flatten_stream().boxed()
    }

    fn tidy(&self, before: i64) -> BoxFuture<'_, io::Result<u64>> {
        tidied(self.new.clone(), before).boxed()
    }
}

/// Deletes files in a folder from before this time; gives their number.
pub(super) async fn tidied(folder: PathBuf, before: i64) -> io::Result<u64> {
    blocking(move || {
        let mut all = Vec::new();
        list_folder(&folder, &mut all)?;
        let mut gone = 0;
        for old in all.iter().filter(|old| old.since < before) {
            let old = folder.join(&old.key);
            // It may have come meanwhile, and folders aren't ours.
            match fs::remove_file(&old) {
                Ok(()) => gone += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound || old.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    })
    .await
}

/// Makes a folder that only we read, if it isn't there.
pub(super) fn made(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

/// Gives a file its name, which is on the disk when this returns.
///
/// `lasts`: so is that of the folder that it comes into. That it is there isn't enough: another may just have made it.
fn place(file: Spooled, path: &Path, root: &Path, lasts: bool) -> io::Result<()> {
    let Some(folder) = path.parent() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    if !lasts || !folder.is_dir() {
        made(folder)?;
        let above = folder.ancestors().skip(1);
        for above in above.take_while(|above| above.starts_with(root)) {
            sync(above)?;
        }
    }
    file.rename(path)?;
    sync(folder)
}

fn lock(set: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the folder says is on the disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether its name is what keys begin with: two hexadecimal digits.
fn is_ours(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.len() == 2 && name.bytes().all(|one| one.is_ascii_hexdigit()))
}

pub(super) fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.path());
        }
    }
    Ok(names)
}

pub(super) fn list_folder(folder: &Path, into: &mut Vec<Listed>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(key) = entry.file_name().into_string() else {
            continue;
        };
        // Somebody else may have deleted it meanwhile.
        let Ok(modified) = entry.metadata().and_then(|known| known.modified()) else {
            continue;
        };
        let since = modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, rhizome_storage::millis);
        into.push(Listed { key, since });
    }
    Ok(())
}
