//! Statements in the words of a database, made once for each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use super::Names;
use crate::engine::dialect::Dialect;

/// Where a text stands in the binary.
pub(super) type Place = (usize, usize);

/// Texts that are made once, by what they are made of: as many as the binary has.
pub(super) struct Made<K>(RwLock<Option<HashMap<K, Arc<str>>>>);

impl<K: Eq + Hash> Made<K> {
    pub(super) const fn new() -> Self {
        Self(RwLock::new(None))
    }

    pub(super) fn get(&self, key: K, make: impl FnOnce() -> String) -> Arc<str> {
        let made = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.as_ref().and_then(|made| made.get(&key)) {
            return found.clone();
        }
        drop(made);
        let new: Arc<str> = make().into();
        let mut made = self.0.write().unwrap_or_else(PoisonError::into_inner);
        made.get_or_insert_default().insert(key, new.clone());
        new
    }
}

pub(super) fn place(text: &'static str) -> Place {
    (text.as_ptr().addr(), text.len())
}

/// By the text, and the columns of its rows.
static MADE: Made<(Dialect, Place, Vec<usize>)> = Made::new();

/// The text that `dialect` understands; `names` are the columns of what `ROWS($n)` stands for, by n − 1.
pub(super) fn text(dialect: Dialect, text: &'static str, names: &[Names]) -> Arc<str> {
    let rows = names.iter().filter(|names| !names.is_empty());
    let rows = rows.map(|names| names.as_ptr().addr()).collect();
    MADE.get((dialect, place(text), rows), || dialect.sql(text, names))
}
