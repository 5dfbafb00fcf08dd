//! A room's state as the rules see it.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use crate::{Pdu, StateKey};

/// The state of a room as the rules see it.
pub trait StateView {
    /// The state event `(kind, state_key)`, if there is one.
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>>;
}

impl<T: StateView + ?Sized> StateView for &T {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        (**self).get(kind, state_key)
    }
}

impl StateView for [Arc<Pdu>] {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        self.iter().find(|event| event.is_state(kind, state_key))
    }
}

impl StateView for Vec<Arc<Pdu>> {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        StateView::get(self.as_slice(), kind, state_key)
    }
}

impl<S: BuildHasher> StateView for HashMap<StateKey, Arc<Pdu>, S> {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        HashMap::get(self, &StateKey::new(kind, state_key))
    }
}
