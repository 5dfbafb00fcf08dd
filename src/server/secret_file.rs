//! Files that hold a secret.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Why a folder's names can't be seen onto the disk by themselves.
const CAN_NOT: [ErrorKind; 3] = [
    ErrorKind::PermissionDenied,
    ErrorKind::InvalidInput,
    ErrorKind::Unsupported,
];

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
    let unfinished = path.with_extension(format!("new.{}", std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::hard_link(&unfinished, path)?;
        // Its name as well.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        match fs::File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
        {
            // Not every file system does so, and not everybody may.
            Err(error) if CAN_NOT.contains(&error.kind()) => Ok(()),
            done => done,
        }
    })();
    let _ = fs::remove_file(&unfinished);
    written
}
