//! Who goes on with an upload in this process: one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// So long somebody waits until who was before them has stored what they have.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who goes on with uploads, by their ids.
#[derive(Debug, Default)]
pub(in crate::service) struct Turns(Mutex<HashMap<String, Arc<Slot>>>);

#[derive(Debug, Default)]
struct Slot {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Of who came last.
    stop: Mutex<CancellationToken>,
}

impl Slot {
    /// Whoever came last makes way.
    fn stops_for(&self, next: CancellationToken) {
        let mut last = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, next).cancel();
    }
}

/// One who waits for their turn, or has it.
struct Waiting<'a> {
    among: &'a Turns,
    id: &'a str,
    slot: Arc<Slot>,
}

/// Somebody's turn, until it is dropped.
pub(super) struct Turn<'a> {
    /// Somebody else wants to go on.
    pub(super) stop: CancellationToken,
    _held: OwnedMutexGuard<()>,
    _place: Waiting<'a>,
}

impl Turns {
    /// Bids whoever has the turn to stop, and takes it. `None` if they don't in time.
    pub(super) async fn take<'a>(&'a self, id: &'a str) -> Option<Turn<'a>> {
        let place = Waiting {
            slot: self.slot(id),
            among: self,
            id,
        };
        let stop = CancellationToken::new();
        place.slot.stops_for(stop.clone());
        let turn = place.slot.turn.clone().lock_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await.ok()?;
        Some(Turn {
            stop,
            _held: turn,
            _place: place,
        })
    }

    fn slot(&self, id: &str) -> Arc<Slot> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(id.to_owned()).or_default().clone()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.among.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The table's and this one's own.
        if Arc::strong_count(&self.slot) == 2 {
            all.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_goes_on_at_a_time_and_stops_for_the_next() {
        let turns = Turns::default();
        let first = turns.take("a").await.unwrap();
        let other = turns.take("b").await.unwrap();
        let second = async {
            let second = turns.take("a").await.unwrap();
            assert!(!second.stop.is_cancelled());
        };
        let stopping = async {
            first.stop.cancelled().await;
            drop(first);
        };
        tokio::join!(second, stopping);
        assert!(!other.stop.is_cancelled());
        drop(other);
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
