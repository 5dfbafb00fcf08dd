//! The form of state snapshots.

use std::sync::Arc;

use crate::{RoomNo, SnapshotNo};

/// The nodes of one snapshot that it doesn't share with older ones.
#[derive(Debug)]
pub(crate) struct Nodes;

/// A snapshot that was derived and is written by the commit which refers to it. As long as it is
/// held, others can be derived from it.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    pub(crate) no: SnapshotNo,
    pub(crate) room: RoomNo,
    pub(crate) parent: Option<SnapshotNo>,
    pub(crate) nodes: Arc<Nodes>,
}

impl NewSnapshot {
    /// Its number.
    pub fn no(&self) -> SnapshotNo {
        self.no
    }
}
