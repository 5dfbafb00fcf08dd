//! Where bytes lie. A blob is written once, whole, and never changed.

mod disk;
mod hex;
mod looking;
mod s3;
mod sealed;
mod spool;
mod writing;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;

use crate::config::{Place, StoreConfig};

pub(crate) use disk::Disk;
use hex::is_hex;
pub use looking::{Lies, STORE_ID, StoredFiles, blob_path};
use s3::S3;
pub(crate) use sealed::{Cipher, Keys, opened, sealed_part, sealed_size};
pub(crate) use spool::{Spool, Spooled, read_file};
pub(crate) use writing::Writing;

/// Bytes that come, in pieces of at most [`PIECE`].
pub(crate) type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// How many bytes of a file are in memory at a time.
pub(crate) const PIECE: usize = 64 << 10;

/// The key of what says whose a store is. No blob is called so.
pub(crate) const MARKER: &str = "store-id";

/// The form of a blob's key: a name of 64 hexadecimal digits and 12 random ones. What else lies in a store is somebody
/// else's.
pub(crate) fn is_key(key: &str) -> bool {
    let parts = key.split_once('-');
    parts.is_some_and(|(name, random)| is_hex(name, 64) && is_hex(random, 12))
}

/// Something that a store holds.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) key: String,
    /// When it came there, milliseconds since 1970.
    pub(crate) since: i64,
}

/// A place for blobs.
pub(crate) trait Blobs: Send + Sync {
    /// The folder for files on their way to it.
    fn spool(&self) -> &Path;

    /// Stores a file under a key that was never used, durable when this returns.
    fn put<'a>(&'a self, key: &'a str, file: Spooled) -> BoxFuture<'a, io::Result<()>>;

    /// Opens a blob's bytes; what isn't there is [`io::ErrorKind::NotFound`].
    fn read<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, io::Result<Pieces>>;

    /// Deletes a blob, if it is there.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<()>>;

    /// All that it holds, a few at a time.
    fn list(&self) -> BoxStream<'_, io::Result<Vec<Listed>>>;

    /// Deletes what was on its way to it and never came, from before this time (ms); gives the number.
    fn tidy(&self, before: i64) -> BoxFuture<'_, io::Result<u64>>;

    /// An address at which anybody gets a blob for so long, as what is said; `None` if it gives none.
    fn address<'a>(
        &'a self,
        _key: &'a str,
        _valid_for: Duration,
        _told: Told<'a>,
    ) -> BoxFuture<'a, io::Result<Option<String>>> {
        ready(Ok(None)).boxed()
    }
}

/// What is told of a blob to who gets it from its store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// `Content-Type`
    pub(crate) content_type: &'a str,
    /// `Content-Disposition`
    pub(crate) disposition: &'a str,
}

/// The store of a configuration.
pub(crate) fn open(config: &StoreConfig) -> io::Result<Arc<dyn Blobs>> {
    match &config.place {
        Place::Disk(folder) => Ok(Arc::new(Disk::open(folder)?)),
        Place::S3(config) => Ok(Arc::new(S3::open(config)?)),
    }
}
