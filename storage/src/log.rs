//! The log: what everybody must be told, in one order.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{Entry, Interest, Pos, Result, RoomNo, Store, UserNo};

/// A handle on the log.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) store: Store,
}

impl Log {
    /// Every entry up to here can be read, and every cache is true as of here.
    pub fn head(&self) -> Pos {
        self.store.core.tail.head()
    }

    /// Asks the database how far the log is (other processes write to it too), takes what is new into
    /// the tail, and gives the head. Costs nothing where there are no other processes.
    pub async fn refresh(&self) -> Result<Pos> {
        unimplemented!()
    }

    /// Says *that* the head moved, never *what* is new.
    pub fn subscribe(&self) -> watch::Receiver<Pos> {
        self.store.core.tail.subscribe()
    }

    /// Wakes for log entries and typing in `rooms`, and for log entries that concern `user` (account
    /// data, invites, their own membership in any room, revoked tokens).
    pub fn interest(&self, rooms: &[RoomNo], user: Option<UserNo>) -> Interest {
        Interest::new(&self.store, rooms, user)
    }

    /// The entries with `after < pos ≤ upto`, from memory; `None` if the tail doesn't go back that far.
    pub fn tail(&self, after: Pos, upto: Pos) -> Option<Vec<Arc<Entry>>> {
        self.store.core.tail.range(after, upto, usize::MAX)
    }

    /// The first `limit` entries with `after < pos ≤ upto`: from memory if the tail goes back that far,
    /// else from the database. Fewer than `limit` means that there are no more up to `upto`.
    pub async fn read(&self, _after: Pos, _upto: Pos, _limit: usize) -> Result<Vec<Arc<Entry>>> {
        unimplemented!()
    }
}
