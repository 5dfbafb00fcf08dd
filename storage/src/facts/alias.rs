//! New aliases, and those that move with their room. They stand by themselves: nothing caches them, and nobody waits
//! for one.

use std::collections::HashSet;

use ruma::OwnedRoomAliasId;

use super::Kind;
use super::decision::Decision;
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Result, RoomNo, UserNo};

/// A new alias; refused with [`CommitError::AliasTaken`] if it exists.
#[derive(Debug, Clone)]
pub struct NewAlias {
    /// The alias.
    pub alias: OwnedRoomAliasId,
    /// What it names.
    pub room: RoomNo,
    /// Who made it.
    pub creator: UserNo,
}

rows! {
    struct Row<'a> {
        alias: &'a OwnedRoomAliasId,
        room: RoomNo,
        creator: UserNo,
    }
}

impl Kind for NewAlias {
    /// Those that are taken.
    type Basis = HashSet<OwnedRoomAliasId>;

    async fn look_up(held: &mut Self::Basis, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let query = tx
            .sql("SELECT alias FROM room_alias WHERE alias IN TEXTS($1)")
            .texts(facts.iter().map(|new| new.alias.as_str()));
        for row in tx.rows(query).await? {
            held.insert(row.get("alias")?);
        }
        Ok(())
    }

    fn check(&self, held: &Self::Basis, _retried: bool) -> Option<Decision> {
        let taken = held.contains(&self.alias);
        taken.then(|| Decision::Refuse(CommitError::AliasTaken(self.alias.clone())))
    }

    fn apply(&self, held: &mut Self::Basis) -> bool {
        held.insert(self.alias.clone());
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Self::Basis, statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(_, new)| Row {
                alias: &new.alias,
                room: new.room,
                creator: new.creator,
            })
            .collect();
        statements.before(
            "INSERT INTO room_alias (alias, room, creator) \
             SELECT alias, room, creator FROM ROWS($1) AS x",
            &rows,
        )
    }
}

/// The aliases of a room lead to another one from now on: all that it has when this is written.
#[derive(Debug, Clone, Copy)]
pub struct AliasesMoved {
    /// The room.
    pub from: RoomNo,
    /// The one that takes its place.
    pub to: RoomNo,
}

rows! {
    struct Move {
        replaced: RoomNo,
        room: RoomNo,
    }
}

impl Kind for AliasesMoved {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(_, moved)| Move {
                replaced: moved.from,
                room: moved.to,
            })
            .collect();
        statements.before(
            "UPDATE room_alias SET room = x.room FROM ROWS($1) AS x \
             WHERE room_alias.room = x.replaced",
            &rows,
        )
    }
}
