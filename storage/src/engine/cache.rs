//! A bounded map that forgets what was not used lately.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A bounded map. Two generations: what is used moves to the young one; when that is full, the old one is dropped
/// and the young one becomes old. Constant time, and close enough to least-recently-used.
#[derive(Debug)]
pub struct Cache<K, V> {
    capacity: usize,
    inner: Mutex<Generations<K, V>>,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
    /// How often something was removed: what was read before that may be stale.
    removals: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// Holds entries of at most about `capacity` in weight (both generations together).
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity / 2,
            inner: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
                weight: 0,
                removals: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations<K, V>> {
        // What user code runs under the lock only looks at values, so the maps are whole even after a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key, which counts as used by that.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lock().get(self.capacity, key)
    }

    /// The same of many at once, in their order.
    pub fn get_all(&self, keys: &[K]) -> Vec<Option<V>> {
        let mut inner = self.lock();
        let mut get = |key| inner.get(self.capacity, key);
        keys.iter().map(&mut get).collect()
    }

    /// Puts a value there, of weight 1.
    pub fn insert(&self, key: K, value: V) {
        self.insert_weighing(key, value, 1);
    }

    /// Puts a value there that takes as much room as `weight` others.
    pub fn insert_weighing(&self, key: K, value: V, weight: usize) {
        let mut inner = self.lock();
        inner.old.remove(&key);
        inner.put(self.capacity, key, value, weight);
    }

    /// Puts `value` there unless the key has one already; gives the one that is there now.
    pub fn get_or_insert(&self, key: K, value: V, weight: usize) -> V {
        let mut inner = self.lock();
        let found = inner.young.get(&key).or_else(|| inner.old.get(&key));
        if let Some((found, _)) = found {
            return found.clone();
        }
        inner.put(self.capacity, key, value.clone(), weight);
        value
    }

    /// A moment to give to [`Cache::insert_since`]: take it before the value is read.
    pub fn moment(&self) -> u64 {
        self.lock().removals
    }

    /// Puts there what was read after `moment`, unless anything was removed since (the value may be
    /// older than what made the removal necessary) or the key has a value.
    pub fn insert_since(&self, moment: u64, key: K, value: V, weight: usize) {
        let mut inner = self.lock();
        if inner.removals == moment
            && !inner.young.contains_key(&key)
            && !inner.old.contains_key(&key)
        {
            inner.put(self.capacity, key, value, weight);
        }
    }

    /// The same, in place of a value that the key may have.
    pub fn replace_since(&self, moment: u64, key: K, value: V, weight: usize) {
        let mut inner = self.lock();
        if inner.removals == moment {
            inner.old.remove(&key);
            inner.put(self.capacity, key, value, weight);
        }
    }

    /// Takes a value out.
    pub fn remove<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut inner = self.lock();
        inner.removals += 1;
        if let Some((_, weight)) = inner.young.remove(key) {
            inner.weight -= weight;
        }
        inner.old.remove(key);
    }

    /// Takes out all values that `leave` names; to look at them takes time.
    pub fn remove_where(&self, leave: impl Fn(&V) -> bool) {
        let mut inner = self.lock();
        inner.removals += 1;
        let Generations {
            young, old, weight, ..
        } = &mut *inner;
        young.retain(|_, (value, of_it)| {
            let stays = !leave(value);
            *weight -= if stays { 0 } else { *of_it };
            stays
        });
        old.retain(|_, (value, _)| !leave(value));
    }

    /// Takes everything out.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.removals += 1;
        inner.young.clear();
        inner.old.clear();
        inner.weight = 0;
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Generations<K, V> {
    fn get<Q>(&mut self, capacity: usize, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        let found = value.clone();
        self.put(capacity, key, value, weight);
        Some(found)
    }

    fn put(&mut self, capacity: usize, key: K, value: V, weight: usize) {
        if self.weight + weight > capacity && !self.young.is_empty() {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        if let Some((_, before)) = self.young.insert(key, (value, weight)) {
            self.weight -= before;
        }
        self.weight += weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        cache.insert(0, "kept");
        for n in 1..100 {
            cache.insert(n, "passing");
            assert_eq!(cache.get(&0), Some("kept"));
        }
        assert_eq!(
            cache.get_all(&[0, 1, 99]),
            [Some("kept"), None, Some("passing")]
        );
        let held = (0..100).filter(|n| cache.get(n).is_some()).count();
        assert!(held <= 10, "{held} entries are held");
    }

    #[test]
    fn what_was_read_before_a_removal_is_not_kept() {
        let cache = Cache::new(10);
        let moment = cache.moment();
        cache.remove(&1);
        cache.insert_since(moment, 1, "stale", 1);
        assert_eq!(cache.get(&1), None);
        cache.insert_since(cache.moment(), 1, "fresh", 1);
        assert_eq!(cache.get(&1), Some("fresh"));
    }

    #[test]
    fn what_is_named_goes_from_both_generations() {
        let cache = Cache::new(6);
        for n in 0..5 {
            cache.insert_weighing(n, n, 1);
        }
        let moment = cache.moment();
        cache.remove_where(|n| n % 2 == 0);
        let held: Vec<i32> = (0..5).filter(|n| cache.get(n).is_some()).collect();
        assert_eq!(held, [1, 3]);
        cache.insert_since(moment, 0, 0, 1);
        assert_eq!(cache.get(&0), None);
    }

    #[test]
    fn weights_are_given_back() {
        let cache = Cache::new(20);
        for _ in 0..100 {
            cache.insert_weighing(1, (), 9);
            cache.remove(&1);
            cache.insert_weighing(1, (), 9);
            cache.remove_where(|()| true);
        }
        cache.insert_weighing(2, (), 9);
        assert!(cache.get(&2).is_some());
        cache.insert_weighing(2, (), 9);
        assert!(cache.get(&1).is_none());
    }
}
