//! How many things somebody may have under way at a time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many of something each has under way. Whoever has none takes no memory. Cheap to clone.
#[derive(Debug)]
pub struct Places<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash + Clone> Places<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, which is free again when it is dropped; `None` if there are `most` already.
    pub fn take(&self, who: K, most: usize) -> Option<Place<K>> {
        let mut taken = self.lock();
        let count = taken.entry(who.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(taken);
        let places = self.clone();
        Some(Place { places, who })
    }
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Clone> {
    places: Places<K>,
    who: K,
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let places = Places::default();
        let (first, second) = (places.take("a", 2), places.take("a", 2));
        assert!(first.is_some() && second.is_some());
        assert!(places.take("a", 2).is_none());
        assert!(places.take("b", 2).is_some());
        drop(first);
        assert!(places.take("a", 2).is_some());
        drop(second);
        assert!(places.lock().is_empty(), "nothing is kept of who has none");
    }
}
