//! Names and their numbers.
//!
//! A name gets its number in a write of its own, before anything refers to it: if the commit that
//! wanted it fails, a number is wasted, nothing else.

mod keys;
mod rooms;
mod servers;
mod users;

use std::collections::HashMap;
use std::hash::Hash;

use crate::engine::cache::Cache;
use crate::engine::sql::{Column, Columns as _, Query, ReadRow};
use crate::{Error, Result, Store};

/// A kind of name.
trait Name: Clone + Eq + Hash {
    type No: Column + Into<i64> + Copy + Eq + Hash;
    /// Finds the names of the numbers `$1`: rows with `no` and what [`Name::read`] reads.
    const OF_NUMBERS: &'static str;
    /// Finds these names: rows like those above.
    fn find(store: &Store, names: &[&Self]) -> Query;
    fn read(row: &ReadRow) -> Result<Self>;
}

impl Store {
    /// The numbers of those names that have one.
    async fn numbers<N: Name>(
        &self,
        cache: &Cache<N, N::No>,
        names: &[N],
    ) -> Result<HashMap<N, N::No>> {
        let mut found = HashMap::with_capacity(names.len());
        let mut left = Vec::new();
        for name in names {
            match cache.get(name) {
                Some(no) => drop(found.insert(name.clone(), no)),
                None => left.push(name),
            }
        }
        if left.is_empty() {
            return Ok(found);
        }
        for row in self.rows(N::find(self, &left)).await? {
            let (no, name) = (row.get("no")?, N::read(&row)?);
            cache.insert(name.clone(), no);
            found.insert(name, no);
        }
        Ok(found)
    }

    /// The names of numbers that were given, as `make` wraps them.
    async fn names<N: Name, V: Clone>(
        &self,
        cache: &Cache<N::No, V>,
        nos: &[N::No],
        make: impl Fn(N) -> V,
    ) -> Result<Vec<V>> {
        let mut found = HashMap::with_capacity(nos.len());
        let mut left = Vec::new();
        for no in nos {
            match cache.get(no) {
                Some(name) => drop(found.insert(*no, name)),
                None => left.push(*no),
            }
        }
        if !left.is_empty() {
            let query = self.sql(N::OF_NUMBERS).numbers(left);
            for row in self.rows(query).await? {
                let (no, name) = (row.get("no")?, make(N::read(&row)?));
                cache.insert(no, name.clone());
                found.insert(no, name);
            }
        }
        in_order(nos, &found)
    }
}

/// Those of `names` that have no number, each once.
fn missing<N: Clone + Ord + Hash, No>(names: &[N], known: &HashMap<N, No>) -> Vec<N> {
    let mut new: Vec<N> = names
        .iter()
        .filter(|name| !known.contains_key(*name))
        .cloned()
        .collect();
    // In one order everywhere, so that two processes which insert the same names don't deadlock.
    new.sort();
    new.dedup();
    new
}

fn in_order<K: Eq + Hash, V: Clone>(wanted: &[K], found: &HashMap<K, V>) -> Result<Vec<V>> {
    wanted
        .iter()
        .map(|key| found.get(key).cloned())
        .collect::<Option<_>>()
        .ok_or_else(|| Error::broken("an interned name or number isn't there"))
}

fn only<T>(mut list: Vec<T>) -> Result<T> {
    list.pop()
        .ok_or_else(|| Error::broken("an interned name isn't there"))
}
