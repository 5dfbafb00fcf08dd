//! What the client API has to show of itself, for metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rhizome_storage::CacheFigures;

use crate::App;

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// `/sync` and `/events` that wait for something to tell.
    pub(crate) polls: AtomicUsize,
    /// Sliding sync's requests that do.
    pub(crate) sliding_polls: AtomicUsize,
    pub(crate) pushes: PushCounts,
    pub(crate) service_transactions: AtomicU64,
    pub(crate) service_failures: AtomicU64,
}

/// What has become of notifications.
#[derive(Debug, Default)]
pub(crate) struct PushCounts {
    pub(crate) accepted: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// One more, as long as this is there.
pub(crate) struct OneOf<'a>(&'a AtomicUsize);

impl<'a> OneOf<'a> {
    pub(crate) fn new(number: &'a AtomicUsize) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Drop for OneOf<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the client API is doing, and has done since the process began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFigures {
    /// Requests to `/sync` and `/events` that wait for something to tell.
    pub polls: u64,
    /// Requests of sliding sync that do.
    pub sliding_polls: u64,
    /// Open WebSockets.
    pub sockets: u64,
    /// Notifications that were taken, …
    pub pushes_accepted: u64,
    /// … whose pusher isn't known any more where they went, …
    pub pushes_rejected: u64,
    /// … that nobody will ever take, …
    pub pushes_dropped: u64,
    /// … and tries that failed and come again.
    pub pushes_failed: u64,
    /// Transactions that application services have acknowledged, …
    pub service_transactions: u64,
    /// … and tries that failed.
    pub service_failures: u64,
    /// What is remembered.
    pub caches: Vec<(&'static str, CacheFigures)>,
}

impl App {
    /// What it is doing, and has done.
    pub fn figures(&self) -> ClientFigures {
        let (counts, pushes) = (&self.counts, &self.counts.pushes);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = |number: &AtomicUsize| number.load(Ordering::Relaxed) as u64;
        ClientFigures {
            polls: now(&counts.polls),
            sliding_polls: now(&counts.sliding_polls),
            sockets: self.sync.sockets.open() as u64,
            pushes_accepted: read(&pushes.accepted),
            pushes_rejected: read(&pushes.rejected),
            pushes_dropped: read(&pushes.dropped),
            pushes_failed: read(&pushes.failed),
            service_transactions: read(&counts.service_transactions),
            service_failures: read(&counts.service_failures),
            caches: vec![
                ("access tokens", self.tokens.figures()),
                ("unread counts", self.sync.counts.figures()),
            ],
        }
    }
}
