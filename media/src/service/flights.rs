//! Work that is done once, however many ask for it meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// So much is under way at a time.
const MOST: usize = 1_000;

type Under<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>;

/// What is under way, by what it is for.
pub(super) struct Flights<K, V>(Under<K, V>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Tells all who ask. The work may go on after that; who asks until it lets go of this is told the same.
pub(super) struct Tell<V> {
    /// It is over before those who wait hear that nothing comes, so that who asks then begins anew.
    _over: Box<dyn Send + Sync>,
    told: watch::Sender<Option<V>>,
}

impl<V> Tell<V> {
    pub(super) fn tell(&self, value: V) {
        self.told.send_replace(Some(value));
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
    /// What the work for `key` tells: that of another who asked, if it is still under way. The work goes on though
    /// nobody waits any more. `None` if too much is under way, or it told nothing.
    pub(super) async fn join<W>(&self, key: K, work: impl FnOnce(Tell<V>) -> W) -> Option<V>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (mut told, begins) = {
            let mut under = lock(&self.0);
            if let Some(told) = under.get(&key) {
                (told.clone(), None)
            } else if under.len() >= MOST {
                return None;
            } else {
                let (tell, told) = watch::channel(None);
                under.insert(key.clone(), told.clone());
                (told, Some(tell))
            }
        };
        if let Some(told) = begins {
            let over = Box::new(Over(self.0.clone(), key));
            tokio::spawn(work(Tell { _over: over, told }));
        }
        let value = told.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_asks_meanwhile_is_told_the_same() {
        let flights: Flights<u8, usize> = Flights::default();
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (runs, gate) = (runs.clone(), gate.clone());
            flights.join(1, move |tell| async move {
                let run = runs.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                tell.tell(run);
            })
        };
        let (first, second, ()) = tokio::join!(ask(), ask(), async { gate.notify_one() });
        assert_eq!((first, second), (Some(0), Some(0)));
        rhizome_storage::testing::eventually("it is over", async || lock(&flights.0).is_empty())
            .await;
        gate.notify_one();
        assert_eq!(ask().await, Some(1));
    }

    #[tokio::test]
    async fn work_that_dies_keeps_nobody_waiting() {
        let flights: Flights<u8, usize> = Flights::default();
        let told = flights.join(1, |_| async { panic!("as it is meant to") });
        assert_eq!(told.await, None);
        assert_eq!(
            flights.join(1, |tell| async move { tell.tell(7) }).await,
            Some(7)
        );
    }
}
