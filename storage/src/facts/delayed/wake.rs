//! Waking who sends delayed events when one is due earlier than what they wait for.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::Store;

/// Until when this process's sender of delayed events waits.
#[derive(Debug)]
pub(crate) struct DelayedWake {
    until_ms: AtomicI64,
    woken: Notify,
}

impl Default for DelayedWake {
    fn default() -> Self {
        Self {
            until_ms: AtomicI64::new(i64::MAX),
            woken: Notify::new(),
        }
    }
}

impl DelayedWake {
    /// One is due at this time. Who waits for less isn't disturbed: heartbeats, which push the time of their events on, wake
    /// nobody.
    pub(crate) fn due(&self, due_ms: i64) {
        if due_ms < self.until_ms.load(Ordering::SeqCst) {
            self.woken.notify_one();
        }
    }
}

impl Store {
    /// From now on, what is scheduled wakes who waits by [`Store::delayed_due_earlier`], until they say for what they wait
    /// ([`Store::wait_for_delayed`]): to be called before asking what is due.
    pub fn look_for_delayed(&self) {
        let wake = &self.core.delayed;
        wake.until_ms.store(i64::MAX, Ordering::SeqCst);
    }

    /// Who sends delayed events waits until this time; `None`: for as long as none is scheduled.
    pub fn wait_for_delayed(&self, until_ms: Option<i64>) {
        let until_ms = until_ms.unwrap_or(i64::MAX);
        self.core.delayed.until_ms.store(until_ms, Ordering::SeqCst);
    }

    /// Resolves when an event is due earlier than that, in this process or another.
    pub async fn delayed_due_earlier(&self) {
        self.core.delayed.woken.notified().await;
    }
}
