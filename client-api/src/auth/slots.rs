//! Whose password is hashed next: a few at a time, and those first who have been at it least. Who tries a thousand passwords so
//! waits for who tries one, and not the other way round.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// How many wait for each slot at most; of more who are still there, who would come last is sent away.
const WAITING: usize = 128;

/// What is known of hashing passwords, for operators and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashing {
    /// How often it was begun.
    pub begun: u64,
    /// How many were under way at once, at most.
    pub most_at_once: usize,
    /// How many wait now.
    pub waiting: usize,
}

/// The slots, and who waits for one.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// By turn, then in the order in which they came.
    waiting: BTreeMap<(u32, u64), oneshot::Sender<Slot>>,
    came: u64,
    begun: u64,
    most_at_once: usize,
}

/// A slot that is taken. The next one's when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    of: Option<Arc<Slots>>,
}

impl Slots {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot, once it is one's turn; `None` if too many come before.
    pub(super) async fn take(self: &Arc<Self>, turn: u32) -> Option<Slot> {
        let waits = {
            let mut state = self.lock();
            if state.running < self.most {
                state.running += 1;
                state.most_at_once = state.most_at_once.max(state.running);
                state.begun += 1;
                return Some(Slot {
                    of: Some(self.clone()),
                });
            }
            let (slot, waits) = oneshot::channel();
            let place = (turn, state.came);
            state.came += 1;
            state.waiting.insert(place, slot);
            if state.waiting.len() > self.most * WAITING {
                // Who has gone takes nobody's place.
                state.waiting.retain(|_, slot| !slot.is_closed());
            }
            if state.waiting.len() > self.most * WAITING {
                state.waiting.pop_last();
            }
            waits
        };
        let slot = waits.await.ok()?;
        self.lock().begun += 1;
        Some(slot)
    }

    pub(super) fn hashing(&self) -> Hashing {
        let state = self.lock();
        Hashing {
            begun: state.begun,
            most_at_once: state.most_at_once,
            waiting: state.waiting.len(),
        }
    }

    /// Gives a slot to who is next; who has gone meanwhile is passed over.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let Some((_, next)) = state.waiting.pop_first() else {
                    state.running -= 1;
                    return;
                };
                next
            };
            let slot = Slot {
                of: Some(self.clone()),
            };
            match next.send(slot) {
                Ok(()) => return,
                // It isn't dropped as one that somebody had.
                Err(mut slot) => slot.of = None,
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.of.take() {
            slots.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::BoxFuture};

    use super::*;

    fn turn(slots: &Arc<Slots>, turn: u32) -> BoxFuture<'static, Option<Slot>> {
        let slots = slots.clone();
        Box::pin(async move { slots.take(turn).await })
    }

    fn waits(taking: &mut BoxFuture<'static, Option<Slot>>) -> bool {
        taking.now_or_never().is_none()
    }

    #[tokio::test]
    async fn so_many_at_once_and_who_was_at_it_least_is_next() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take(9).await, slots.take(9).await);
        assert!(first.is_some() && second.is_some());
        let mut storm: Vec<_> = (0..3).map(|_| turn(&slots, 2)).collect();
        for one in &mut storm {
            assert!(waits(one));
        }
        let mut ordinary = turn(&slots, 1);
        assert!(waits(&mut ordinary));
        let mut at_home = turn(&slots, 0);
        assert!(waits(&mut at_home));
        assert_eq!(slots.hashing().waiting, 5);

        drop(first);
        let Some(Some(home)) = (&mut at_home).now_or_never() else {
            panic!("who is at home is next");
        };
        assert!(waits(&mut ordinary) && waits(&mut storm[0]));
        drop(second);
        let Some(Some(slot)) = (&mut ordinary).now_or_never() else {
            panic!("then who hasn't tried");
        };
        // Of equals, who came first; who has gone is passed over.
        drop(storm.remove(0));
        drop((home, slot));
        for one in &mut storm {
            assert!(matches!(one.now_or_never(), Some(Some(_))));
        }
        drop(storm);
        assert_eq!(slots.lock().running, 0);
        let hashing = slots.hashing();
        assert_eq!(
            (hashing.begun, hashing.most_at_once, hashing.waiting),
            (6, 2, 0)
        );
    }

    #[tokio::test]
    async fn so_many_wait_and_who_would_be_last_is_sent_away() {
        let slots = Slots::new(1);
        let running = slots.take(0).await;
        let mut storm: Vec<_> = (0..WAITING).map(|_| turn(&slots, 5)).collect();
        for one in &mut storm {
            assert!(waits(one));
        }
        let mut worse = turn(&slots, 6);
        assert!(matches!((&mut worse).now_or_never(), Some(None)));
        let mut better = turn(&slots, 4);
        assert!(waits(&mut better));
        assert!(matches!(
            (&mut storm[WAITING - 1]).now_or_never(),
            Some(None)
        ));
        assert!(waits(&mut storm[WAITING - 2]));
        // Instead of who has gone somebody else waits.
        drop(storm.remove(0));
        let mut late = turn(&slots, 7);
        assert!(waits(&mut late));
        assert!(waits(&mut storm[WAITING - 3]));
        assert_eq!(slots.hashing().waiting, WAITING);
        drop(running);
        assert!(matches!((&mut better).now_or_never(), Some(Some(_))));
    }
}
