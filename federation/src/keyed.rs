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
pub(crate) struct Held<K: Eq + Hash> {
    guard: Option<OwnedMutexGuard<()>>,
    key: K,
    locks: Arc<Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>>,
}

impl<K: Eq + Hash + Clone> Keyed<K> {
    /// Waits for the lock of `key`.
    pub(crate) async fn lock(&self, key: K) -> Held<K> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        // Made before waiting, so that whoever gives up waiting tidies up as well.
        let mut held = Held {
            guard: None,
            key,
            locks: Arc::clone(&self.locks),
        };
        held.guard = Some(lock.lock_owned().await);
        held
    }
}

impl<K: Eq + Hash> Drop for Held<K> {
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
