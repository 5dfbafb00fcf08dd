//! Files on their way: written under a name that nobody knows, hashed meanwhile, gone unless they are stored.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};
use rhizome_storage::Seal;
use ring::digest::{Context, Digest, SHA256};
use tokio::task::spawn_blocking;

use super::hex::hex;
use super::{Cipher, PIECE, Pieces, opened, sealed_part};

/// Pieces below this are copied into one: each holds what it came in, which may be far more than it is.
const SMALL: usize = 4 << 10;
/// So much is read, or hashed and written, at once: each time costs two changes of threads.
const BATCH: usize = 2 * PIECE;

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
    state: Option<State>,
    /// How it is sealed, if it is.
    seal: Option<(Seal, Arc<Cipher>)>,
    waiting: Vec<Bytes>,
    /// What came last in small pieces, after those that wait.
    small: Vec<u8>,
    waiting_bytes: usize,
    /// How many bytes can be read: of a sealed file those of whole pieces.
    written: u64,
    size: u64,
}

/// What goes on from piece to piece.
struct State {
    hash: Context,
    /// What isn't sealed yet: up to a piece, as nobody knows whether it is the last one.
    plain: Vec<u8>,
    /// How many pieces are sealed.
    sealed: u64,
}

/// A file that was written and is durable, under a name that nobody knows.
#[derive(Debug)]
pub(crate) struct Spooled {
    temporary: Temporary,
    file: Arc<File>,
    pub(crate) seal: Option<(Seal, Arc<Cipher>)>,
    /// Of the plain bytes, hexadecimal.
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

impl Spool {
    /// An empty one in this folder.
    pub(crate) async fn begin(
        folder: &Path,
        seal: Option<(Seal, Arc<Cipher>)>,
    ) -> io::Result<Self> {
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
            state: Some(State {
                hash: Context::new(&SHA256),
                plain: Vec::new(),
                sealed: 0,
            }),
            seal,
            waiting: Vec::new(),
            small: Vec::new(),
            waiting_bytes: 0,
            written: 0,
            size: 0,
        })
    }

    /// Takes a piece; it is written once there are enough.
    pub(crate) async fn push(&mut self, piece: Bytes) -> io::Result<()> {
        self.waiting_bytes += piece.len();
        self.size += piece.len() as u64;
        if piece.len() < SMALL {
            self.small.extend_from_slice(&piece);
        } else {
            self.join_small();
            self.waiting.push(piece);
        }
        if self.waiting_bytes >= BATCH {
            self.flush(false).await?;
        }
        Ok(())
    }

    /// The file, and how much of it can be read by now.
    pub(crate) fn so_far(&self) -> (&Arc<File>, u64) {
        (&self.file, self.written)
    }

    /// By what it can be read, if it is sealed.
    pub(crate) fn cipher(&self) -> Option<Arc<Cipher>> {
        self.seal.as_ref().map(|(_, cipher)| cipher.clone())
    }

    /// How many bytes were given to it.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn join_small(&mut self) {
        if !self.small.is_empty() {
            self.waiting.push(std::mem::take(&mut self.small).into());
        }
    }

    /// Hashing and writing are done where they keep nobody waiting.
    async fn flush(&mut self, sync: bool) -> io::Result<()> {
        self.join_small();
        let pieces = std::mem::take(&mut self.waiting);
        let file = self.file.clone();
        let cipher = self.seal.as_ref().map(|(_, cipher)| cipher.clone());
        let Some(mut state) = self.state.take() else {
            return Err(io::Error::other("the file couldn't be written before"));
        };
        self.waiting_bytes = 0;
        let written = blocking(move || {
            for piece in &pieces {
                state.hash.update(piece);
                match &cipher {
                    None => (&*file).write_all(piece)?,
                    Some(cipher) => state.seal(cipher, &file, piece)?,
                }
            }
            if sync {
                if let Some(cipher) = &cipher {
                    state.seal_rest(cipher, &file)?;
                }
                file.sync_all()?;
            }
            Ok(state)
        });
        let state = written.await?;
        self.written = match self.seal {
            Some(_) => self.size.min(state.sealed * PIECE as u64),
            None => self.size,
        };
        self.state = Some(state);
        Ok(())
    }

    /// All has come: when this returns, it is on the disk.
    pub(crate) async fn finish(mut self) -> io::Result<Spooled> {
        self.flush(true).await?;
        let Some(state) = self.state else {
            return Err(io::Error::other("the file couldn't be written before"));
        };
        Ok(Spooled {
            temporary: self.temporary,
            file: self.file,
            seal: self.seal,
            sha256: hex(state.hash.finish().as_ref()),
            size: self.size,
        })
    }
}

impl State {
    /// Seals whole pieces that others follow.
    fn seal(&mut self, cipher: &Cipher, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        for bytes in bytes.chunks(PIECE) {
            let (before, after) = bytes.split_at(bytes.len().min(PIECE - self.plain.len()));
            self.plain.extend_from_slice(before);
            if after.is_empty() {
                continue;
            }
            cipher.seal(self.sealed, false, &mut self.plain)?;
            file.write_all(&self.plain)?;
            self.sealed += 1;
            self.plain.clear();
            self.plain.extend_from_slice(after);
        }
        Ok(())
    }

    /// Seals the last piece, which may be empty if it is the only one.
    fn seal_rest(&mut self, cipher: &Cipher, mut file: &File) -> io::Result<()> {
        cipher.seal(self.sealed, true, &mut self.plain)?;
        file.write_all(&self.plain)?;
        self.sealed += 1;
        self.plain = Vec::new();
        Ok(())
    }
}

impl Spooled {
    /// The first bytes, at most so many.
    pub(crate) async fn beginning(&self, most: usize) -> io::Result<Bytes> {
        let first = self.pieces().next().await.transpose()?.unwrap_or_default();
        Ok(first.slice(..first.len().min(most)))
    }

    /// Its bytes, from the beginning.
    pub(crate) fn pieces(&self) -> Pieces {
        let all = 0..self.size;
        match &self.seal {
            None => read_file(self.file.clone(), all),
            Some((_, cipher)) => {
                let sealed = read_file(self.file.clone(), sealed_part(&all, self.size));
                opened(sealed, cipher.clone(), all, self.size)
            }
        }
    }

    /// The file as it is on the disk, and how long it is there.
    pub(super) async fn raw(&self) -> io::Result<(Arc<File>, u64)> {
        let file = self.file.clone();
        blocking(move || {
            let length = file.metadata()?.len();
            Ok((file, length))
        })
        .await
    }

    /// Gives it its name. (Called where waiting is fine.)
    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
        if let Some(path) = &self.temporary.0 {
            // What a sweep finds is as old as its name.
            self.file.set_modified(std::time::SystemTime::now())?;
            std::fs::rename(path, to)?;
        }
        self.temporary.0 = None;
        Ok(())
    }
}

/// A part of a file, piece by piece. The file may have no name any more.
pub(crate) fn read_file(file: Arc<File>, range: Range<u64>) -> Pieces {
    let begin = (file, range, Bytes::new());
    let reading = stream::try_unfold(begin, async |(file, range, mut read)| {
        if read.is_empty() {
            read = read_some(&file, &range).await?;
        }
        if read.is_empty() {
            return Ok(None);
        }
        let piece = read.split_to(read.len().min(PIECE));
        let rest = range.start + piece.len() as u64..range.end;
        Ok(Some((piece, (file, rest, read))))
    });
    reading.boxed()
}

/// The first bytes of a part of a file, as many as are worth going elsewhere for.
async fn read_some(file: &Arc<File>, part: &Range<u64>) -> io::Result<Bytes> {
    let most = usize::try_from(part.end - part.start).map_or(BATCH, |left| left.min(BATCH));
    if most == 0 {
        return Ok(Bytes::new());
    }
    let (start, file) = (part.start, file.clone());
    blocking(move || {
        let mut bytes = vec![0; most];
        file.read_exact_at(&mut bytes, start)?;
        Ok(Bytes::from(bytes))
    })
    .await
}

/// What a part of a file hashes to.
pub(super) struct Hashes {
    pub(super) sha256: Digest,
    pub(super) md5: [u8; 16],
}

/// The hashes of a part of a file.
pub(super) async fn hashes_of(file: Arc<File>, mut part: Range<u64>) -> io::Result<Hashes> {
    blocking(move || {
        let (mut sha256, mut md5) = (Context::new(&SHA256), Md5::new());
        let mut piece = vec![0; PIECE];
        while !part.is_empty() {
            let left = usize::try_from(part.end - part.start).unwrap_or(PIECE);
            let piece = &mut piece[..left.min(PIECE)];
            file.read_exact_at(piece, part.start)?;
            sha256.update(piece);
            md5.update(&*piece);
            part.start += piece.len() as u64;
        }
        Ok(Hashes {
            sha256: sha256.finish(),
            md5: md5.finalize().into(),
        })
    })
    .await
}

/// Work that waits for a disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
