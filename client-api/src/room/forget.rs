//! Users forget rooms as they leave them, where the operator wants it so
//! (<https://spec.matrix.org/v1.19/client-server-api/#mforget_forced_upon_leave-capability>).
//!
//! A reader of the log does it: people are also made to leave, by others and from elsewhere.

use rhizome_protocol::Membership;
use rhizome_storage::{
    CommitError, EntryKind, Fact, Failure, Forgotten, Lease, LogWork, Pos, StateChanged, Store,
    Stretch, UserNo,
};
use ruma::OwnedServerName;

/// Makes users forget what they have left, as the work of a [`rhizome_storage::LogReader`].
#[derive(Debug)]
pub struct ForgetLeft {
    store: Store,
    server: OwnedServerName,
}

impl ForgetLeft {
    /// For the users of `server`.
    pub fn new(store: &Store, server: OwnedServerName) -> Self {
        Self {
            store: store.clone(),
            server,
        }
    }

    /// Whoever has come back since is left alone: only who is out of a room can forget it.
    async fn forget(&self, left: &[Forgotten]) -> Result<(), CommitError> {
        let users: Vec<UserNo> = left.iter().map(|left| left.user).collect();
        let names = self.store.users(&users).await?;
        let here = left.iter().zip(names);
        let here = here.filter(|(_, name)| name.server_name() == self.server);
        let facts: Vec<Fact> = here.map(|(left, _)| Fact::from(*left)).collect();
        if facts.is_empty() {
            return Ok(());
        }
        self.store.commit(facts.into()).await.map(drop)
    }
}

fn gone(kind: &EntryKind) -> Option<Forgotten> {
    match kind {
        EntryKind::State(StateChanged {
            room,
            member: Some((user, Membership::Leave | Membership::Ban)),
            ..
        }) => Some(Forgotten {
            user: *user,
            room: *room,
        }),
        _ => None,
    }
}

impl LogWork for ForgetLeft {
    /// What was left before the operator wanted it so is remembered.
    async fn begin(&self, _: &Lease, done: Pos) -> Result<Pos, Failure> {
        let head = self.store.log().head();
        Ok(if done == Pos(0) { head } else { done })
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        let left = stretch.entries.iter();
        let left: Vec<_> = left.filter_map(|entry| gone(&entry.kind)).collect();
        Ok(self.forget(&left).await?)
    }
}
