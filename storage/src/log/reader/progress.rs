//! How far the readers of this process have got, for who looks at them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use crate::Pos;
use crate::engine::lock;

/// How far the readers of this process have got.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<BTreeMap<String, Arc<Reached>>>);

/// How far one has.
#[derive(Debug, Default)]
pub(super) struct Reached(AtomicI64);

impl Reached {
    pub(super) fn is(&self, at: Pos) {
        self.0.store(at.0, Ordering::Relaxed);
    }
}

impl Progress {
    /// The reader reads in this process, from there on.
    pub(super) fn begin(&self, name: &str, at: Pos) -> Arc<Reached> {
        let reached = Arc::<Reached>::default();
        reached.is(at);
        lock(&self.0).insert(name.to_owned(), reached.clone());
        reached
    }

    /// It doesn't any more.
    pub(super) fn end(&self, name: &str) {
        lock(&self.0).remove(name);
    }

    /// All of them, by name.
    pub(crate) fn now(&self) -> Vec<(String, Pos)> {
        let readers = lock(&self.0);
        let each = readers.iter();
        each.map(|(name, reached)| (name.clone(), Pos(reached.0.load(Ordering::Relaxed))))
            .collect()
    }
}
