//! Files that hold a secret.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rhizome_storage::random;

/// Why a folder's names can't be seen onto the disk by themselves.
const CAN_NOT: [ErrorKind; 3] = [
    ErrorKind::PermissionDenied,
    ErrorKind::InvalidInput,
    ErrorKind::Unsupported,
];

/// What the ending begins with of a file that isn't done; a number by chance follows.
const UNFINISHED: &str = "new.";

/// What is in one, which is made if it isn't there. What hangs on it is lost with it: it never changes by itself.
pub(super) fn load_or_create(
    path: &Path,
    make: impl FnOnce() -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    let read = || fs::read(path).with_context(|| format!("{} can't be read", path.display()));
    if path.exists() {
        return read();
    }
    let content = make()?;
    match create(path, &content) {
        Ok(()) => Ok(content),
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(),
        Err(error) => Err(error).with_context(|| format!("{} can't be written", path.display())),
    }
}

/// Makes one, readable for its owner only, durable when this returns. Never replaces a file.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    // Written whole beside its place, then linked: nobody ever sees half of it.
    let unfinished = unfinished(path)?;
    let written = (|| {
        let file = write(&unfinished, content)?;
        file.sync_all()?;
        fs::hard_link(&unfinished, path)?;
        sync_name(path)
    })();
    let _ = fs::remove_file(&unfinished);
    written
}

/// Puts other content into one that holds `before`, all at once, durable when this returns. Who owns it and who may read it
/// stays as it is, also if root does this for a server of another user.
pub(super) fn replace(path: &Path, before: &[u8], content: &[u8]) -> io::Result<()> {
    // Where a link leads to is where it is kept.
    let path = &fs::canonicalize(path)?;
    let unfinished = unfinished(path)?;
    let written = (|| {
        let old = fs::metadata(path)?;
        let file = write(&unfinished, content)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
        file.sync_all()?;
        if fs::read(path)? != before {
            return Err(io::Error::other(
                "somebody else has changed it meanwhile; look at it, and try again",
            ));
        }
        // From here on the new content is there, also after a crash: of both names the disk knows one.
        fs::rename(&unfinished, path)?;
        sync_name(path)
    })();
    let _ = fs::remove_file(&unfinished);
    sweep(path);
    written
}

/// Its content is written there first, by whoever made up this name alone. (Two processes in containers may have the same number.)
fn unfinished(path: &Path) -> io::Result<PathBuf> {
    let number = u64::from_be_bytes(random::bytes().map_err(io::Error::other)?);
    Ok(path.with_extension(format!("{UNFINISHED}{number}")))
}

/// Never into what is there already, nor where a link leads to: root may do this in a folder of somebody else's.
fn write(unfinished: &Path, content: &[u8]) -> io::Result<fs::File> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(unfinished)?;
    file.write_all(content)?;
    Ok(file)
}

/// Sees a file's name onto the disk.
fn sync_name(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match fs::File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()) {
        // Not every file system does so, and not everybody may.
        Err(error) if CAN_NOT.contains(&error.kind()) => Ok(()),
        done => done,
    }
}

/// Removes what processes have left that were killed before the file had its name. One that is just about to give it one
/// finds it gone, and says so.
fn sweep(path: &Path) {
    let begin = path.with_extension(UNFINISHED);
    let begin = begin.file_name().and_then(OsStr::to_str);
    let entries = path.parent().map(fs::read_dir);
    let (Some(begin), Some(Ok(entries))) = (begin, entries) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(begin));
        let is_left = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        if process.is_some_and(is_left) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
