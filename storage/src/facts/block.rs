//! What the operator keeps out: rooms, servers, names of users to be.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::{Result, Store};

table! {
    /// The operator keeps something out, or lets it in again.
    pub struct Block in block {
        key {
            /// A room, a server, a name or a user: [`Block::ROOM`] and so on.
            kind: String = kind,
            /// Which: a room's id, a server's name, a name before the colon, both in small letters, a user's id.
            what: String = what,
        }
        /// Of a server: which way, as [`Way`](crate::Way) spells it.
        way: String = way,
        /// Why, for the operator to read.
        reason: String = reason,
        /// Since when, in milliseconds since 1970.
        since_ms: i64 = since_ms,
        /// Whether it is kept out.
        blocked: bool = blocked,
    }
}

impl Block {
    /// Nobody here joins it, knocks on it, or is invited to it.
    pub const ROOM: &str = "room";
    /// It isn't spoken with.
    pub const SERVER: &str = "server";
    /// Nobody registers it.
    pub const NAME: &str = "name";
    /// What this user of ours does is shown to nobody else.
    pub const SHADOW: &str = "shadow";
}

impl Kind for Block {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for Block {
    type Entry = Self;

    fn entry(&self) -> Self {
        self.clone()
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn forget(_: &Self, store: &Store) {
        store.forget_blocks();
    }

    #[cfg(test)]
    fn sample(_: &super::tests::World) -> Self {
        Self {
            kind: Self::ROOM.into(),
            what: "!sample:elsewhere".into(),
            way: String::new(),
            reason: "a sample".into(),
            since_ms: 1,
            blocked: true,
        }
    }

    #[cfg(test)]
    async fn view(_: &super::tests::World, store: &Store) -> Result<String> {
        Ok(format!("{:?}", store.blocks().await?))
    }
}
