//! What a client wants to be different, handed from the one who hears it to the one who reads the log, between two
//! of its turns: so that every frame is wholly of the old or wholly of the new.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::face::Change;
use crate::MatrixError;

/// A place for one change: a client's frames are dealt with one after the other.
#[derive(Default)]
pub(super) struct Changes {
    slot: Mutex<Slot>,
    came: Notify,
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Asked(Change, oneshot::Sender<()>),
    /// Nobody reads any more.
    Closed,
}

impl Changes {
    /// Hands a change over, and waits until it is taken up.
    pub(super) async fn ask(&self, change: Change) -> Result<(), MatrixError> {
        let (taken, wait) = oneshot::channel();
        {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*slot, Slot::Empty) {
                *slot = Slot::Asked(change, taken);
            }
        }
        self.came.notify_one();
        // Whoever is refused a place finds the other end dropped.
        wait.await.map_err(|_| MatrixError::busy())
    }

    /// Waits for a change.
    pub(super) async fn come(&self) {
        self.came.notified().await;
    }

    /// Takes up what was asked, if anything was.
    pub(super) fn take_up(&self, mut apply: impl FnMut(Change)) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Asked(..))
            && let Slot::Asked(change, taken) = std::mem::take(&mut *slot)
        {
            apply(change);
            let _ = taken.send(());
        }
    }

    /// From now on nobody reads: whoever waits is told so.
    pub(super) fn close(&self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Slot::Closed;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn filter() -> Change {
        Change::Filter(Arc::default())
    }

    #[tokio::test]
    async fn a_change_is_taken_up_once_and_its_end_is_told() {
        let changes = Changes::default();
        let reader = async {
            changes.come().await;
            let mut taken = 0;
            changes.take_up(|_| taken += 1);
            changes.take_up(|_| taken += 1);
            taken
        };
        let (asked, taken) = tokio::join!(changes.ask(filter()), reader);
        assert!(asked.is_ok());
        assert_eq!(taken, 1);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_reader_that_has_ended() {
        let changes = Changes::default();
        let (asked, ()) = tokio::join!(changes.ask(filter()), async { changes.close() });
        assert!(asked.is_err());
        assert!(changes.ask(filter()).await.is_err());
    }
}
