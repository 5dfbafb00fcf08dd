//! Files of a backup: written once, readable for their owner only, with sums of what is in them.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use ring::digest::{Context, SHA256};

/// How much of a file is in memory.
const PIECE: usize = 1 << 20;

/// How large a file is, and the SHA-256 of it, hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summed {
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// Why a file couldn't be copied.
#[derive(Debug)]
pub(super) enum CopyError {
    /// It can't be read.
    Read(io::Error),
    /// The copy can't be written.
    Write(io::Error),
}

impl From<CopyError> for anyhow::Error {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Read(error) => Self::from(error).context("a file can't be read"),
            CopyError::Write(error) => Self::from(error).context("a file can't be written"),
        }
    }
}

/// Copies a file to where nothing is yet. It isn't synced.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Summed, CopyError> {
    let mut source = File::open(from).map_err(CopyError::Read)?;
    let mut copy = create(to).map_err(CopyError::Write)?;
    read_through(&mut source, |piece| copy.write_all(piece))
}

/// What is in a file.
pub(super) fn sum(path: &Path) -> io::Result<Summed> {
    let mut file = File::open(path)?;
    read_through(&mut file, |_| Ok(())).map_err(|error| match error {
        CopyError::Read(error) | CopyError::Write(error) => error,
    })
}

fn read_through(
    from: &mut impl Read,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Summed, CopyError> {
    let (mut hash, mut size) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        hash.update(piece);
        write(piece).map_err(CopyError::Write)?;
        size += piece.len() as u64;
    }
    let mut sha256 = String::with_capacity(64);
    for byte in hash.finish().as_ref() {
        // Writing to a string can't fail.
        let _ = write!(sha256, "{byte:02x}");
    }
    Ok(Summed { size, sha256 })
}

/// A file where none is yet.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Writes a file where none is yet, durable when this returns, but for its name.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes a folder, and those above it, if it isn't there.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Sees onto the disk what is in a file, or the names in a folder.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Sees onto the disk all that was written where this folder is: of many files in many folders that is less than each by
/// itself.
pub(super) fn sync_all(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    Ok(rustix::fs::syncfs(&folder)?)
}

/// How much room there is in a folder.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let known = rustix::fs::statvfs(folder)?;
    Ok(known.f_bavail.saturating_mul(known.f_frsize))
}

/// Whether nothing is there but, maybe, empty folders.
pub(super) fn is_empty(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || !is_empty(&entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn copies_are_summed_and_never_replace_anything() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&from, "abc").unwrap();
        let summed = copy(&from, &to).unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((summed.size, &*summed.sha256), (3, known));
        assert_eq!(sum(&to).unwrap(), summed);
        let mode = fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(copy(&from, &to), Err(CopyError::Write(_))));
        let none = folder.path().join("none");
        assert!(matches!(
            copy(&none, &folder.path().join("c")),
            Err(CopyError::Read(_))
        ));
        assert!(write(&to, b"x").is_err());
        sync_all(folder.path()).unwrap();
    }

    #[test]
    fn folders_in_which_there_are_only_folders_are_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_empty(&folder.path().join("none")).unwrap());
        make_folder(&folder.path().join("a/b")).unwrap();
        assert!(is_empty(folder.path()).unwrap());
        fs::write(folder.path().join("a/b/c"), "").unwrap();
        assert!(!is_empty(folder.path()).unwrap());
    }
}
