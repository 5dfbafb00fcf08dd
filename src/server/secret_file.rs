//! Files that hold a secret.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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
        fs::hard_link(&unfinished, path)
    })();
    let _ = fs::remove_file(&unfinished);
    written
}
