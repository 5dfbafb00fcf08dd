//! Statements in the words of a database, made once for each.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Names;
use crate::engine::dialect::Dialect;

/// A text of ours by its place in the binary, and the columns of its rows by theirs.
type Key = (Dialect, (usize, usize), Vec<usize>);

/// As many as the binary has statements.
static MADE: RwLock<Option<HashMap<Key, Arc<str>>>> = RwLock::new(None);

/// The text that `dialect` understands; `names` are the columns of what `ROWS($n)` stands for, by n − 1.
pub(super) fn text(dialect: Dialect, text: &'static str, names: &[Names]) -> Arc<str> {
    let rows = names.iter().filter(|names| !names.is_empty());
    let rows = rows.map(|names| names.as_ptr().addr()).collect();
    let key = (dialect, (text.as_ptr().addr(), text.len()), rows);
    let made = MADE.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = made.as_ref().and_then(|made| made.get(&key)) {
        return found.clone();
    }
    drop(made);
    let new: Arc<str> = dialect.sql(text, names).into();
    let mut made = MADE.write().unwrap_or_else(PoisonError::into_inner);
    made.get_or_insert_default().insert(key, new.clone());
    new
}
