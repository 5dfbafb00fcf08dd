//! One answer for all who ask the same at the same time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OnceCell;

type Cells<K, V> = HashMap<K, Arc<OnceCell<V>>>;

/// What is being asked for. Memory is in proportion to that.
#[derive(Debug)]
pub(crate) struct Once<K, V>(Mutex<Cells<K, V>>);

impl<K, V> Default for Once<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, V> Once<K, V> {
    fn cells(&self) -> MutexGuard<'_, Cells<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Once<K, V> {
    /// What `work` gives, or that of another who is at it for the same key. If that one gives up, the next begins.
    pub(super) async fn get(&self, key: K, work: impl Future<Output = V>) -> V {
        // Dropped in the opposite order: the cell is let go of, then it is looked whether anybody has it.
        let _tidy = Tidy {
            of: self,
            key: key.clone(),
        };
        let cell = Arc::clone(self.cells().entry(key).or_default());
        cell.get_or_init(|| work).await.clone()
    }
}

/// Takes the cell away when nobody but the map has it.
struct Tidy<'a, K: Eq + Hash, V> {
    of: &'a Once<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Tidy<'_, K, V> {
    fn drop(&mut self) {
        let mut cells = self.of.cells();
        if cells
            .get(&self.key)
            .is_some_and(|cell| Arc::strong_count(cell) == 1)
        {
            cells.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
        task::Poll,
    };

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_asks_meanwhile_is_told_the_same_and_nothing_stays() {
        let (once, asked, answer) = (
            Once::<&str, usize>::default(),
            AtomicUsize::new(0),
            Notify::new(),
        );
        let work = || async {
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            answer.notified().await;
            nth
        };
        let answering = async { answer.notify_one() };
        let (one, same, ()) = tokio::join!(once.get("a", work()), once.get("a", work()), answering);
        assert_eq!((one, same, asked.load(Ordering::Relaxed)), (0, 0, 1));
        assert!(once.cells().is_empty());
        // What is over is asked for anew, and something else is something else.
        answer.notify_one();
        assert_eq!(once.get("a", work()).await, 1);
        answer.notify_one();
        assert_eq!(once.get("b", work()).await, 2);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_it_to_the_next() {
        let once = Once::<&str, usize>::default();
        let mut first = Box::pin(once.get("a", std::future::pending()));
        let mut second = Box::pin(once.get("a", async { 2 }));
        let are_waiting = poll_fn(|cx| {
            let pending = [first.as_mut().poll(cx), second.as_mut().poll(cx)];
            Poll::Ready(pending.iter().all(Poll::is_pending))
        });
        assert!(are_waiting.await);
        drop(first);
        assert_eq!(second.await, 2);
        assert!(once.cells().is_empty());
    }
}
