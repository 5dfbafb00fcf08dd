//! What is counted of files, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Media;

/// Bytes that were moved.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) uploaded: AtomicU64,
    pub(super) fetched: AtomicU64,
    pub(super) read: AtomicU64,
}

/// Bytes of files since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaFigures {
    /// That came by uploads, whole ones.
    pub uploaded: u64,
    /// That other servers gave.
    pub fetched: u64,
    /// That were read to be given to somebody.
    pub read: u64,
}

impl Media {
    /// What was moved.
    pub fn figures(&self) -> MediaFigures {
        let moved = &self.0.moved;
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        MediaFigures {
            uploaded: read(&moved.uploaded),
            fetched: read(&moved.fetched),
            read: read(&moved.read),
        }
    }
}
