//! Files on their way: written under a name that nobody knows, hashed meanwhile, gone unless they are stored.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use ring::digest::{Context, SHA256};
use tokio::task::spawn_blocking;

use super::{PIECE, Pieces};

/// A file's name that is deleted when this is dropped.
#[derive(Debug)]
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // If this fails, a sweep finds it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file that is being written.
pub(crate) struct Spool {
    temporary: Temporary,
    file: Arc<File>,
    /// Away while something is written.
    hash: Option<Context>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    written: u64,
}

/// A file that was written and is durable, under a name that nobody knows.
#[derive(Debug)]
pub(crate) struct Spooled {
    temporary: Temporary,
    file: Arc<File>,
    /// Hexadecimal.
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

impl Spool {
    /// An empty one in this folder.
    pub(crate) async fn begin(folder: &Path) -> io::Result<Self> {
        let name = rhizome_storage::random::hex::<16>().map_err(io::Error::other)?;
        let path = folder.join(name);
        let made = blocking(move || {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create_new(true).mode(0o600);
            Ok((options.open(&path)?, path))
        });
        let (file, path) = made.await?;
        Ok(Self {
            temporary: Temporary(Some(path)),
            file: Arc::new(file),
            hash: Some(Context::new(&SHA256)),
            waiting: Vec::new(),
            waiting_bytes: 0,
            written: 0,
        })
    }

    /// Takes a piece; it is written once there are enough.
    pub(crate) async fn push(&mut self, piece: Bytes) -> io::Result<()> {
        self.waiting_bytes += piece.len();
        self.waiting.push(piece);
        if self.waiting_bytes >= PIECE {
            self.flush(false).await?;
        }
        Ok(())
    }

    /// The file, and how much of it can be read by now.
    pub(crate) fn so_far(&self) -> (&Arc<File>, u64) {
        (&self.file, self.written)
    }

    /// How many bytes were given to it.
    pub(crate) fn size(&self) -> u64 {
        self.written + self.waiting_bytes as u64
    }

    /// Hashing and writing are done where they keep nobody waiting.
    async fn flush(&mut self, sync: bool) -> io::Result<()> {
        let pieces = std::mem::take(&mut self.waiting);
        let file = self.file.clone();
        let Some(mut hash) = self.hash.take() else {
            return Err(io::Error::other("the file couldn't be written before"));
        };
        let written = blocking(move || {
            for piece in &pieces {
                hash.update(piece);
                (&*file).write_all(piece)?;
            }
            if sync {
                file.sync_all()?;
            }
            Ok(hash)
        });
        self.hash = Some(written.await?);
        self.written += std::mem::take(&mut self.waiting_bytes) as u64;
        Ok(())
    }

    /// All has come: when this returns, it is on the disk.
    pub(crate) async fn finish(mut self) -> io::Result<Spooled> {
        self.flush(true).await?;
        let Some(hash) = self.hash else {
            return Err(io::Error::other("the file couldn't be written before"));
        };
        Ok(Spooled {
            temporary: self.temporary,
            file: self.file,
            sha256: hex(hash.finish().as_ref()),
            size: self.written,
        })
    }
}

impl Spooled {
    /// The first bytes, at most so many.
    pub(crate) async fn beginning(&self, most: usize) -> io::Result<Bytes> {
        let most = usize::try_from(self.size).map_or(most, |size| size.min(most));
        let file = self.file.clone();
        blocking(move || {
            let mut bytes = vec![0; most];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes.into())
        })
        .await
    }

    /// Its bytes, from the beginning.
    pub(crate) fn pieces(&self) -> Pieces {
        read_file(self.file.clone(), 0..self.size)
    }

    /// Gives it its name. (Called where waiting is fine.)
    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
        if let Some(path) = &self.temporary.0 {
            std::fs::rename(path, to)?;
        }
        self.temporary.0 = None;
        Ok(())
    }
}

/// A part of a file, piece by piece. The file may have no name any more.
pub(crate) fn read_file(file: Arc<File>, range: Range<u64>) -> Pieces {
    let reading = stream::try_unfold((file, range), async |(file, range)| {
        if range.is_empty() {
            return Ok(None);
        }
        let most = usize::try_from(range.end - range.start).map_or(PIECE, |left| left.min(PIECE));
        let (start, reading) = (range.start, file.clone());
        let piece = blocking(move || {
            let mut piece = vec![0; most];
            reading.read_exact_at(&mut piece, start)?;
            Ok(Bytes::from(piece))
        });
        let piece = piece.await?;
        let rest = start + piece.len() as u64..range.end;
        Ok(Some((piece, (file, rest))))
    });
    reading.boxed()
}

/// Work that waits for a disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
