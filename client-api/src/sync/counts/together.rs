//! Loads that are asked for at the same time are one: after a restart, one message makes everybody who listens ask
//! for a tally of the same room, which are few queries together and thousands apart.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rhizome_storage::{Pos, Store};
use tokio::sync::{Semaphore, oneshot};

use super::{
    AT_ONCE,
    alerts::Alerts,
    load::{Loaded, Wanted, load},
};
use crate::{MatrixError, push::wishes::Compiled};

/// Loads under way.
const LOADS: usize = 2;
/// How often it is tried when those who load for others fail.
const ATTEMPTS: usize = 3;

/// What is asked for.
#[derive(Debug)]
pub struct Together {
    waiting: Mutex<Waiting>,
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct Waiting {
    asks: VecDeque<Ask>,
    last: u64,
}

#[derive(Debug)]
struct Ask {
    number: u64,
    wanted: Vec<Wanted>,
    upto: Pos,
    answer: oneshot::Sender<Vec<Loaded>>,
}

impl Default for Together {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            turns: Semaphore::new(LOADS),
        }
    }
}

impl Together {
    /// As [`load`], as of `upto` or a moment later.
    pub async fn load(
        &self,
        store: &Store,
        evaluation: (&Compiled, &Alerts),
        wanted: &[Wanted],
        upto: Pos,
    ) -> Result<Vec<Loaded>, MatrixError> {
        for _ in 0..ATTEMPTS {
            let (answer, mut answered) = oneshot::channel();
            let number = self.ask(wanted.to_vec(), upto, answer);
            let loaded = tokio::select! {
                biased;
                loaded = &mut answered => loaded,
                turn = self.turns.acquire() => {
                    let asks = self.lock().take(number);
                    if let Some(upto) = asks.iter().map(|ask| ask.upto).max() {
                        give(store, evaluation, asks, upto).await?;
                    }
                    drop(turn);
                    answered.await
                }
            };
            if let Ok(loaded) = loaded {
                return Ok(loaded);
            }
            // Whoever loaded it failed, or was given up.
        }
        Err(MatrixError::busy())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, wanted: Vec<Wanted>, upto: Pos, answer: oneshot::Sender<Vec<Loaded>>) -> u64 {
        let mut waiting = self.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.asks.push_back(Ask {
            number,
            wanted,
            upto,
            answer,
        });
        number
    }
}

impl Waiting {
    /// This one and the first that wait, as far as they fit; none if somebody has taken it.
    ///
    /// Whoever has a turn takes their own first: nobody waits for an answer that nobody is to give.
    fn take(&mut self, number: u64) -> Vec<Ask> {
        self.asks.retain(|ask| !ask.answer.is_closed());
        let own = self.asks.iter().position(|ask| ask.number == number);
        let mut asks: Vec<Ask> = own
            .and_then(|own| self.asks.remove(own))
            .into_iter()
            .collect();
        let Some(mut size) = asks.first().map(|own| own.wanted.len()) else {
            return asks;
        };
        while let Some(next) = self.asks.front() {
            size += next.wanted.len();
            if size > AT_ONCE {
                break;
            }
            asks.extend(self.asks.pop_front());
        }
        asks
    }
}

/// Loads for all, and gives each its own.
async fn give(
    store: &Store,
    evaluation: (&Compiled, &Alerts),
    asks: Vec<Ask>,
    upto: Pos,
) -> Result<(), MatrixError> {
    let wanted: Vec<Wanted> = asks.iter().flat_map(|ask| ask.wanted.clone()).collect();
    let mut loaded = load(store, evaluation, &wanted, upto).await?.into_iter();
    for ask in asks {
        let own = loaded.by_ref().take(ask.wanted.len()).collect();
        // Who has gone needs no answer.
        let _ = ask.answer.send(own);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::{future::join_all, poll};
    use rhizome_storage::{RoomNo, UserNo, testing::each_database};
    use ruma::UserId;

    use super::*;

    async fn wanted(store: &Store, count: usize) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for number in 0..count {
            let id = UserId::parse(format!("@u{number}:here")).unwrap();
            let user = store.user_no(&id).await.unwrap();
            wanted.push(Wanted {
                user,
                room: RoomNo(1),
                since: Pos(0),
            });
        }
        wanted
    }

    /// What it costs when so many wait at once; the answers are checked.
    async fn cost(store: &Store, count: usize) -> u64 {
        let wanted = wanted(store, count).await;
        let (compiled, alerts) = (Compiled::default(), Alerts::default());
        let together = Together::default();
        let turns = together.turns.acquire_many(2).await.unwrap();
        let asks = wanted.iter().enumerate().map(|(number, one)| {
            let upto = Pos(i64::try_from(number).unwrap());
            let (one, together, evaluation) = (*one, &together, (&compiled, &alerts));
            async move { together.load(store, evaluation, &[one], upto).await }
        });
        let mut all = Box::pin(join_all(asks));
        assert!(poll!(&mut all).is_pending());
        let before = store.counters().now();
        drop(turns);
        for (number, loaded) in all.await.into_iter().enumerate() {
            let loaded = loaded.unwrap();
            assert_eq!(loaded.len(), 1);
            assert!(loaded[0].tally.upto >= Pos(i64::try_from(number).unwrap()));
        }
        (store.counters().now() - before).queries
    }

    #[tokio::test]
    async fn many_who_wait_at_once_cost_as_few_queries_as_one() {
        each_database(|store| async move {
            let alone = cost(&store, 1).await;
            assert_eq!(cost(&store, AT_ONCE).await, alone);
        })
        .await;
    }

    #[test]
    fn who_has_a_turn_takes_their_own_and_leaves_nobody_behind() {
        let together = Together::default();
        let wanted = |count| {
            let one = Wanted {
                user: UserNo(1),
                room: RoomNo(1),
                since: Pos(0),
            };
            vec![one; count]
        };
        let mut waiting = Vec::new();
        for count in [AT_ONCE, 1, 150, 60, 40] {
            let (answer, answered) = oneshot::channel();
            together.ask(wanted(count), Pos(0), answer);
            waiting.push(answered);
        }
        let take = |number| -> Vec<u64> {
            let asks = together.lock().take(number);
            asks.iter().map(|ask| ask.number).collect()
        };
        assert_eq!(take(2), [2]);
        assert_eq!(take(1), [1]);
        assert_eq!(take(2), [0; 0]);
        // The fifth doesn't fit with the two before it, and is taken in its own turn.
        waiting.remove(3);
        assert_eq!(take(3), [3, 5]);
        assert!(together.lock().asks.is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_takes_nobody_along() {
        each_database(|store| async move {
            let wanted = wanted(&store, 3).await;
            let (compiled, alerts) = (Compiled::default(), Alerts::default());
            let together = Together::default();
            let load = |user: usize| {
                together.load(&store, (&compiled, &alerts), &wanted[user..=user], Pos(1))
            };
            loop {
                let turns = together.turns.acquire_many(2).await.unwrap();
                let (mut first, mut second) = (Box::pin(load(0)), Box::pin(load(1)));
                assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
                drop(turns);
                let loaded = poll!(&mut first);
                assert!(together.lock().asks.is_empty(), "it hasn't taken both");
                // Dropped while it loads, unless the database answered within that poll: then once more.
                drop(first);
                assert_eq!(second.await.unwrap().len(), 1);
                if loaded.is_pending() {
                    break;
                }
            }
            assert_eq!(load(2).await.unwrap().len(), 1);
        })
        .await;
    }
}
