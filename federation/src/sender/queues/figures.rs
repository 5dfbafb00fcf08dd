//! What the sender has to show of itself, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Place, Sender};

/// What has become of transactions since the process began.
#[derive(Debug, Default)]
pub(in crate::sender) struct Counts {
    pub(in crate::sender) arrived: AtomicU64,
    pub(in crate::sender) refused: AtomicU64,
    pub(in crate::sender) failed: AtomicU64,
}

/// What the sender of this process is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderFigures {
    /// Destinations for which there may be something to do and that wait for a worker.
    pub waiting: u64,
    /// Those at which a worker is.
    pub sending: u64,
    /// Those that failed last and are left alone for a while.
    pub backing_off: u64,
    /// Those of any kind that were away for long, and get only what leads to the rest.
    pub catching_up: u64,
    /// Transactions that were taken, …
    pub arrived: u64,
    /// … that were refused for what they held, …
    pub refused: u64,
    /// … and that couldn't be handed over.
    pub failed: u64,
}

impl Sender {
    /// What it is doing. It looks at each destination that is in memory.
    pub fn figures(&self) -> SenderFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut figures = SenderFigures {
            arrived: read(&self.counts.arrived),
            refused: read(&self.counts.refused),
            failed: read(&self.counts.failed),
            ..SenderFigures::default()
        };
        for queue in self.state().queues.values() {
            match queue.place {
                Place::Idle => {}
                Place::Ready => figures.waiting += 1,
                Place::Running(_) => figures.sending += 1,
                Place::Later(_) => figures.backing_off += 1,
            }
            figures.catching_up += u64::from(queue.stand.is_some_and(|stand| stand.runs()));
        }
        figures
    }
}
