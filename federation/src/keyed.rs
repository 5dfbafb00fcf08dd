//! One lock per key, made when wanted and gone when idle.
//!
//! Only ever an optimisation inside this process: what must be unique is so in the database.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// Locks by key. Memory is in proportion to the keys that are held or waited for.
#[derive(Debug)]
pub(crate) struct Keyed<K> {
    locks: Arc<Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>>,
}

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self {
            locks: Arc::default(),
        }
    }
}

/// Holds one key's lock until dropped.
#[derive(Debug)]
pub(crate) struct KeyedGuard<K: Eq + Hash> {
    guard: Option<OwnedMutexGuard<()>>,
    key: K,
    locks: Arc<Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>>,
}

impl<K: Eq + Hash + Clone> Keyed<K> {
    /// Waits for the lock of `key`.
    pub(crate) async fn lock(&self, key: K) -> KeyedGuard<K> {
        let (lock, mut held) = self.prepare(key);
        held.guard = Some(lock.lock_owned().await);
        held
    }

    /// The same, unless `most` hold it or wait for it already.
    pub(crate) async fn lock_among(&self, key: K, most: usize) -> Option<KeyedGuard<K>> {
        let (lock, mut held) = self.prepare(key);
        // One is the map's, one is ours.
        if Arc::strong_count(&lock) > most + 1 {
            drop(lock);
            return None;
        }
        held.guard = Some(lock.lock_owned().await);
        Some(held)
    }

    /// The holder is made before waiting, so that whoever gives up waiting tidies up as well.
    fn prepare(&self, key: K) -> (Arc<tokio::sync::Mutex<()>>, KeyedGuard<K>) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Arc::clone(locks.entry(key.clone()).or_default());
        let held = KeyedGuard {
            guard: None,
            key,
            locks: Arc::clone(&self.locks),
        };
        (lock, held)
    }
}

impl<K: Eq + Hash> Drop for KeyedGuard<K> {
    fn drop(&mut self) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.guard.take());
        // Nobody but the map has it: those who wait hold a clone.
        if locks
            .get(&self.key)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_per_key_and_nothing_left_behind() {
        let keyed = Arc::new(Keyed::default());
        let one = keyed.lock("a").await;
        let other = keyed.lock("b").await;
        let second = tokio::spawn({
            let keyed = Arc::clone(&keyed);
            async move { keyed.lock("a").await }
        });
        while !second.is_finished() && Arc::strong_count(&keyed.locks.lock().unwrap()["a"]) < 3 {
            tokio::task::yield_now().await;
        }
        assert!(keyed.lock_among("a", 2).await.is_none());
        // Who gives up waiting leaves nothing behind either.
        let third = keyed.lock("a");
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(20), third)
                .await
                .is_err()
        );
        assert!(!second.is_finished());
        drop(one);
        drop((second.await.unwrap(), other));
        assert!(keyed.locks.lock().unwrap().is_empty());
    }
}
