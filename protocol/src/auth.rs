//! The authorization rules.

use std::{collections::HashMap, sync::Arc};

use ruma::UserId;

use crate::{Object, Pdu, Rejection, RoomRules, StateKey};

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

impl<S: std::hash::BuildHasher> StateView for HashMap<StateKey, Arc<Pdu>, S> {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        HashMap::get(self, &StateKey::new(kind, state_key))
    }
}

/// Which state entries belong into the `auth_events` of an event (server-server "Auth events
/// selection"): `(type, state key)` pairs. In v12 without the create event.
pub fn auth_keys(
    _rules: &RoomRules,
    _kind: &str,
    _sender: &UserId,
    _state_key: Option<&str>,
    _content: &Object,
) -> Vec<(String, String)> {
    unimplemented!()
}

/// The rules about the event itself and the auth events that it names: the create event's rule, and
/// "considering the event's `auth_events`". `auth_events` holds each with whether it was rejected, in any
/// order; in v12 it may hold the implied create event.
pub fn check_auth_events(_event: &Pdu, _auth_events: &[(Arc<Pdu>, bool)]) -> Result<(), Rejection> {
    unimplemented!()
}

/// Whether the event is allowed by `state`: the whole list of rules except for those that look at `auth_events`.
pub fn authorize(_event: &Pdu, _state: &(impl StateView + ?Sized)) -> Result<(), Rejection> {
    unimplemented!()
}
