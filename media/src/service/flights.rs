//! Work that is done once, however many ask for it meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// So much is under way at a time.
const MOST: usize = 1_000;

/// How far something is.
#[derive(Clone)]
enum Told<V> {
    /// Nobody knows whether anything comes.
    Nothing,
    /// It comes.
    Begun,
    /// It is there.
    All(V),
}

type Under<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Told<V>>>>>;

/// What is under way, by what it is for.
pub(super) struct Flights<K, V> {
    under: Under<K, V>,
    /// Of those that are alike so many are under way at a time.
    most: usize,
    alike: fn(&K, &K) -> bool,
}

/// Why nothing was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// Too much is under way, or the work told nothing.
    Busy,
    /// Nothing had begun to come in the time that was waited for it.
    Late,
}

/// Tells all who ask. The work may go on after that; who asks until it lets go of this is told the same.
pub(super) struct Tell<V> {
    /// It is over before those who wait hear that nothing comes, so that who asks then begins anew.
    _over: Box<dyn Send + Sync>,
    told: watch::Sender<Told<V>>,
}

impl<V> Tell<V> {
    pub(super) fn tell(&self, value: V) {
        self.told.send_replace(Told::All(value));
    }

    /// It comes: who waits waits until it is there.
    pub(super) fn begins(&self) {
        self.told.send_if_modified(|told| {
            let is_news = matches!(told, Told::Nothing);
            if is_news {
                *told = Told::Begun;
            }
            is_news
        });
    }
}

/// Takes the entry away whatever ends the work.
struct Over<K: Hash + Eq, V>(Under<K, V>, K);

impl<K: Hash + Eq, V> Drop for Over<K, V> {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// None. Of those that are alike so many are under way at a time.
    pub(super) fn new(most: usize, alike: fn(&K, &K) -> bool) -> Self {
        let under = Arc::default();
        Self { under, most, alike }
    }

    /// How many that are like this one are under way, with it.
    pub(super) fn alike(&self, key: &K) -> usize {
        self.count(&lock(&self.under), key)
    }

    fn count<T>(&self, under: &HashMap<K, T>, key: &K) -> usize {
        under.keys().filter(|one| (self.alike)(one, key)).count()
    }

    /// What the work for `key` tells: that of another who asked, if it is still under way. The work goes on though
    /// nobody waits any more. `patience`: how long something is waited for to begin; others may wait longer.
    pub(super) async fn join<W>(
        &self,
        key: K,
        patience: Duration,
        work: impl FnOnce(Tell<V>) -> W,
    ) -> Result<V, Missed>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (mut told, begins) = {
            let mut under = lock(&self.under);
            if let Some(told) = under.get(&key) {
                (told.clone(), None)
            } else if under.len() >= MOST || self.count(&under, &key) >= self.most {
                return Err(Missed::Busy);
            } else {
                let (tell, told) = watch::channel(Told::Nothing);
                under.insert(key.clone(), told.clone());
                (told, Some(tell))
            }
        };
        if let Some(told) = begins {
            let over = Box::new(Over(self.under.clone(), key));
            tokio::spawn(work(Tell { _over: over, told }));
        }
        let begun = told.wait_for(|told| !matches!(told, Told::Nothing));
        let begun = tokio::time::timeout(patience, begun).await;
        begun.map_err(|_| Missed::Late)?.map_err(|_| Missed::Busy)?;
        let all = told.wait_for(|told| matches!(told, Told::All(_))).await;
        match &*all.map_err(|_| Missed::Busy)? {
            Told::All(value) => Ok(value.clone()),
            _ => Err(Missed::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn who_asks_meanwhile_is_told_the_same() {
        let flights: Flights<u8, usize> = Flights::new(9, u8::eq);
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (runs, gate) = (runs.clone(), gate.clone());
            flights.join(1, LONG, move |tell| async move {
                let run = runs.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                tell.tell(run);
            })
        };
        let (first, second, ()) = tokio::join!(ask(), ask(), async { gate.notify_one() });
        assert_eq!((first, second), (Ok(0), Ok(0)));
        rhizome_storage::testing::eventually("it is over", async || {
            lock(&flights.under).is_empty()
        })
        .await;
        gate.notify_one();
        assert_eq!(ask().await, Ok(1));
    }

    #[tokio::test]
    async fn work_that_dies_keeps_nobody_waiting() {
        let flights: Flights<u8, usize> = Flights::new(9, u8::eq);
        let told = flights.join(1, LONG, |_| async { panic!("as it is meant to") });
        assert_eq!(told.await, Err(Missed::Busy));
        assert_eq!(
            flights
                .join(1, LONG, |tell| async move { tell.tell(7) })
                .await,
            Ok(7)
        );
    }

    #[tokio::test]
    async fn who_joins_waits_no_longer_than_they_want_for_the_beginning() {
        let flights: Flights<u8, usize> = Flights::new(9, u8::eq);
        let (begin, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let ask = |patience| {
            let (begin, end) = (begin.clone(), end.clone());
            flights.join(1, patience, move |tell| async move {
                begin.notified().await;
                tell.begins();
                end.notified().await;
                tell.tell(7);
            })
        };
        let short = async {
            let late = ask(Duration::from_millis(1)).await;
            begin.notify_one();
            late
        };
        let begun = async {
            // Once it has begun nobody runs out of patience.
            loop {
                match ask(Duration::ZERO).await {
                    Err(Missed::Late) => {}
                    told => return told,
                }
            }
        };
        let ended = async {
            rhizome_storage::testing::eventually("it has begun", async || {
                let under = lock(&flights.under);
                let told = under.get(&1).map(|told| told.borrow().clone());
                matches!(told, Some(Told::Begun))
            })
            .await;
            end.notify_one();
        };
        let all = async { tokio::join!(ask(LONG), short, ended, begun) };
        let (long, short, (), begun) = rhizome_storage::testing::soon("it ends", all).await;
        assert_eq!((long, short, begun), (Ok(7), Err(Missed::Late), Ok(7)));
    }

    #[tokio::test]
    async fn of_those_alike_few_are_under_way() {
        let flights: Flights<(u8, u8), ()> = Flights::new(2, |a, b| a.0 == b.0);
        let ask = |key| {
            flights.join(key, Duration::ZERO, |tell| async move {
                let _held = tell;
                std::future::pending::<()>().await;
            })
        };
        assert_eq!(ask((1, 1)).await, Err(Missed::Late));
        assert_eq!(ask((1, 2)).await, Err(Missed::Late));
        assert_eq!(ask((1, 3)).await, Err(Missed::Busy));
        assert_eq!(ask((1, 2)).await, Err(Missed::Late));
        assert_eq!(ask((2, 1)).await, Err(Missed::Late));
        assert_eq!(flights.alike(&(1, 9)), 2);
    }
}
