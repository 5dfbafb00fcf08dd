//! A bounded map that forgets what wasn't used lately, or only once.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use quick_cache::sync::{Cache as Inner, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

/// A bounded map. What is used again and again stays, also if much passes through that is used once, as when somebody reads
/// a room's whole history.
#[derive(Debug)]
pub struct Cache<K, V> {
    inner: Inner<K, Weighed<V>, ByWeight, RandomState>,
    /// When what changed: what was read before that may be stale.
    changes: RwLock<Changes>,
    hashes: RandomState,
}

/// What a cache has to show of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// How many values it holds, …
    pub entries: u64,
    /// … how much they weigh, in what the cache counts in, …
    pub weight: u64,
    /// … and may weigh.
    pub capacity: u64,
    /// How often a value was there that somebody asked for, …
    pub hits: u64,
    /// … and how often not.
    pub misses: u64,
}

/// So many places there are for when something changed; a place is shared by keys.
const PLACES: usize = 256;

#[derive(Debug)]
struct Changes {
    now: u64,
    /// When everything may have changed.
    all: u64,
    last: [u64; PLACES],
}

impl Changes {
    fn is_since(&self, moment: u64, place: usize) -> bool {
        self.all.max(self.last[place]) > moment
    }
}

#[derive(Debug, Clone)]
struct Weighed<V> {
    value: V,
    weight: u64,
}

#[derive(Debug, Clone)]
struct ByWeight;

impl<K, V> Weighter<K, Weighed<V>> for ByWeight {
    fn weight(&self, _: &K, held: &Weighed<V>) -> u64 {
        held.weight
    }
}

/// What has no weight would stay for ever.
fn weighed<V>(value: V, weight: usize) -> Weighed<V> {
    let weight = u64::try_from(weight.max(1)).unwrap_or(u64::MAX);
    Weighed { value, weight }
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// Holds entries of at most `capacity` in weight. What weighs nearly as much alone isn't kept.
    pub fn new(capacity: usize) -> Self {
        // In one piece, so that a heavy entry finds its place. The number of entries is a guess, for what is remembered of
        // those that went.
        let mut options = OptionsBuilder::new();
        options.shards(1).weight_capacity(capacity as u64);
        options.estimated_items_capacity(capacity.min(MOST_REMEMBERED));
        // The rest is for what has just come: whoever loads many at once finds them a moment later.
        options.hot_allocation(0.7);
        let lifecycle = DefaultLifecycle::default();
        let options = options
            .build()
            .unwrap_or_else(|_| unreachable!("both are given"));
        Self {
            inner: Inner::with_options(options, ByWeight, RandomState::new(), lifecycle),
            changes: RwLock::new(Changes {
                now: 0,
                all: 0,
                last: [0; PLACES],
            }),
            hashes: RandomState::new(),
        }
    }

    /// Nothing changes while this is held.
    fn changes(&self) -> RwLockReadGuard<'_, Changes> {
        self.changes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        usize::from(self.hashes.hash_one(key).to_le_bytes()[0])
    }

    /// Changes what a key has: what was read before isn't put there any more.
    fn change_at(&self, place: usize, change: impl FnOnce()) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        changes.now += 1;
        changes.last[place] = changes.now;
        change();
    }

    /// The same of any number of keys.
    fn change_all(&self, change: impl FnOnce()) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        changes.now += 1;
        changes.all = changes.now;
        change();
    }

    /// The value of a key, which counts as used by that.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        Some(self.inner.get(key)?.value)
    }

    /// The same of many, in their order.
    pub fn get_all(&self, keys: &[K]) -> Vec<Option<V>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Puts a value there, of weight 1: it is what the key has from now on, whatever somebody else has read before.
    pub fn insert(&self, key: K, value: V) {
        self.insert_weighing(key, value, 1);
    }

    /// Puts a value there that takes as much room as `weight` others.
    pub fn insert_weighing(&self, key: K, value: V, weight: usize) {
        self.change_at(self.place(&key), || {
            self.inner.insert(key, weighed(value, weight));
        });
    }

    /// Puts `value` there unless the key has one already; gives the one that is there now.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as whoever puts something there has it"
    )]
    pub fn get_or_insert(&self, key: K, value: V, weight: usize) -> V {
        let new = || Ok::<_, std::convert::Infallible>(weighed(value, weight));
        let Ok(held) = self.inner.get_or_insert_with(&key, new);
        held.value
    }

    /// A moment to give to [`Cache::insert_since`]: take it before the value is read.
    pub fn moment(&self) -> u64 {
        self.changes().now
    }

    /// Puts there what was read after `moment`, unless the key was removed or given a value since (what was read may be
    /// older than that) or has one.
    pub fn insert_since(&self, moment: u64, key: K, value: V, weight: usize) {
        self.get_or_insert_since(moment, key, value, weight);
    }

    /// The same; gives the value that is there now, or what was read if there is none.
    pub fn get_or_insert_since(&self, moment: u64, key: K, value: V, weight: usize) -> V {
        let changes = self.changes();
        if changes.is_since(moment, self.place(&key)) {
            return self.get(&key).unwrap_or(value);
        }
        self.get_or_insert(key, value, weight)
    }

    /// Puts there what was read after `moment` in place of a value that the key may have, unless that changed since.
    pub fn replace_since(&self, moment: u64, key: K, value: V, weight: usize) {
        let changes = self.changes();
        if !changes.is_since(moment, self.place(&key)) {
            self.inner.insert(key, weighed(value, weight));
        }
    }

    /// Takes a value out.
    pub fn remove<Q>(&self, key: &Q)
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.change_at(self.place(key), || drop(self.inner.remove(key)));
    }

    /// Takes out all values that `leave` names; to look at them takes time.
    pub fn remove_where(&self, leave: impl Fn(&V) -> bool) {
        self.change_all(|| self.inner.retain(|_, held| !leave(&held.value)));
    }

    /// What it holds, and how often that was of use.
    pub fn figures(&self) -> CacheFigures {
        CacheFigures {
            entries: self.inner.len() as u64,
            weight: self.inner.weight(),
            capacity: self.inner.capacity(),
            hits: self.inner.hits(),
            misses: self.inner.misses(),
        }
    }

    /// Takes everything out.
    pub fn clear(&self) {
        self.change_all(|| self.inner.clear());
    }
}

/// Of so many entries at most that went it is remembered that they were there.
const MOST_REMEMBERED: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        cache.insert(0, "kept");
        for n in 1..1_000 {
            cache.insert(n, "passing");
            assert_eq!(cache.get(&0), Some("kept"));
        }
        let held = (0..1_000).filter(|n| cache.get(n).is_some()).count();
        assert!(held <= 10, "{held} entries are held");
    }

    #[test]
    fn much_that_is_used_once_does_not_push_out_what_is_used_often() {
        let cache = Cache::new(100);
        for n in 0..50 {
            cache.insert(n, ());
            assert!(cache.get(&n).is_some() && cache.get(&n).is_some());
        }
        for n in 1_000..100_000 {
            cache.insert(n, ());
        }
        let stayed = (0..50).filter(|n| cache.get(n).is_some()).count();
        assert!(stayed > 40, "{stayed} of 50 are left");
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
    fn what_was_read_before_it_was_written_is_not_kept_though_that_is_forgotten() {
        let cache = Cache::new(10);
        let moment = cache.moment();
        for n in 0..1_000 {
            cache.insert(n, "new");
        }
        let is_there = |n: &i32| cache.get(n).is_some();
        let stayed = (0..1_000).find(is_there).unwrap();
        let gone = (0..1_000).find(|n| !is_there(n)).unwrap();
        assert_eq!(cache.get_or_insert_since(moment, stayed, "old", 1), "new");
        cache.insert_since(moment, gone, "old", 1);
        cache.replace_since(moment, gone, "old", 1);
        assert_eq!(cache.get(&gone), None);
    }

    #[test]
    fn what_is_named_goes() {
        let cache = Cache::new(100);
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
    fn heavy_entries_take_the_place_of_light_ones_and_leave_it_again() {
        let cache = Cache::new(20);
        for _ in 0..100 {
            cache.insert_weighing(1, (), 9);
            cache.remove(&1);
            cache.insert_weighing(1, (), 9);
            cache.remove_where(|()| true);
        }
        cache.insert_weighing(2, (), 9);
        assert!(cache.get(&2).is_some());
        cache.insert_weighing(3, (), 19);
        let held = [2, 3].map(|key| cache.get(&key).is_some());
        assert_ne!(held, [true, true], "both weigh more than there is room for");
        cache.insert_weighing(4, (), 21);
        assert!(cache.get(&4).is_none());
    }
}
