//! State resolution, versions 2 and 2.1.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{EventId, OwnedEventId};

pub use crate::StateKey;
use crate::{Pdu, RoomRules};

/// A room's state as event ids.
pub type StateMap = BTreeMap<StateKey, OwnedEventId>;

/// The events that resolution may look at.
pub trait Events {
    /// The event, if it is at hand.
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>>;
    /// Whether the event was rejected.
    fn rejected(&self, id: &EventId) -> bool;
}

/// Events that resolution needs: load these and ask again. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} events are missing", .0.len())]
pub struct Missing(pub Vec<OwnedEventId>);

/// Merges the states of `forks` into one. The order of `forks` doesn't matter.
pub fn resolve(
    _rules: &RoomRules,
    _forks: &[StateMap],
    _events: &impl Events,
) -> Result<StateMap, Missing> {
    unimplemented!()
}
