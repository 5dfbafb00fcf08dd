//! Rooms in which users get notices of this server: one for each. Nothing caches them, and nobody waits for one.

use std::collections::HashMap;

use super::Kind;
use super::decision::Decision;
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Result, RoomNo, Store, UserNo};

/// A user gets notices in this room; refused with [`CommitError::NoticesElsewhere`] if they have one for that, other
/// than the one that it replaces.
#[derive(Debug, Clone, Copy)]
pub struct NoticeRoom {
    /// The user.
    pub user: UserNo,
    /// The room.
    pub room: RoomNo,
    /// The room in which they got them before.
    pub replaces: Option<RoomNo>,
}

rows! {
    struct Row {
        user_no: UserNo,
        room: RoomNo,
    }
}

impl Kind for NoticeRoom {
    /// Who has which.
    type Basis = HashMap<UserNo, RoomNo>;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Self::Basis, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let query = tx
            .sql("SELECT user_no, room FROM notice_room WHERE user_no IN NUMBERS($1)")
            .numbers(facts.iter().map(|fact| fact.user));
        for row in tx.rows(query).await? {
            held.insert(row.get("user_no")?, row.get("room")?);
        }
        Ok(())
    }

    fn check(&self, held: &Self::Basis, _retried: bool) -> Option<Decision> {
        let taken = held.get(&self.user).copied() != self.replaces;
        taken.then_some(Decision::Refuse(CommitError::NoticesElsewhere(self.user)))
    }

    fn apply(&self, held: &mut Self::Basis) -> bool {
        held.insert(self.user, self.room);
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Self::Basis, statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(_, fact)| Row {
                user_no: fact.user,
                room: fact.room,
            })
            .collect();
        statements.before(
            "INSERT INTO notice_room (user_no, room) SELECT user_no, room FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (user_no) DO UPDATE SET room = excluded.room",
            &rows,
        )
    }
}

impl Store {
    /// The room in which a user gets notices of this server.
    pub async fn notice_room(&self, user: UserNo) -> Result<Option<RoomNo>> {
        let query = self
            .sql("SELECT room FROM notice_room WHERE user_no = $1")
            .bind(user);
        let row = self.row(query).await?;
        row.map(|row| row.get("room")).transpose()
    }
}
