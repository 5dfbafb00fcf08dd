//! What other servers are to be told.

use std::collections::BTreeSet;

use crate::{RoomNo, UserNo};

/// News for other servers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OutgoingPresence {
    /// Users here whose presence has changed, or is to be said again.
    pub changed: BTreeSet<UserNo>,
    /// Who came into which room a moment ago: one of ours, of whom the room's servers may not know, or another's, whose
    /// server may not know of those who are there.
    pub came: BTreeSet<(RoomNo, UserNo)>,
}

impl OutgoingPresence {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.came.is_empty()
    }
}
