//! Positions of what is in memory only: one sequence for typing and presence, so that a token needs one place for both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A sequence; clones share it.
///
/// A stream takes a position while it holds the lock on what it changes. So whoever reads the head, and then the
/// stream, finds everything that has a position up to that head.
#[derive(Debug, Clone)]
pub(crate) struct Positions(Arc<AtomicI64>);

impl Positions {
    /// A sequence that goes on after `head`.
    pub(crate) fn new(head: i64) -> Self {
        Self(Arc::new(AtomicI64::new(head)))
    }

    /// The last position that was taken.
    pub(crate) fn head(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    /// Takes the next one.
    pub(crate) fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }
}
