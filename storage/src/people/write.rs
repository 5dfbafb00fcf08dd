//! Writing down what people are called.

use std::collections::BTreeSet;

use ruma::ServerName;

use super::plan::{AWAY, Plan, TAKEN};
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::{EventNo, Lease, Result, RoomNo, Store, UserNo};

/// Takes a name whose bearer is in a room that anybody may look into for seen by all.
macro_rules! seen {
    () => {
        "CASE WHEN EXISTS (SELECT 1 FROM people_member d JOIN people_room r ON r.room = d.room AND r.open IN (1, 11) \
         WHERE d.user_no = people_name.user_no AND d.n = people_name.n) THEN 1 ELSE hidden END"
    };
}

/// What is done in the end, to some users.
const SETTLE: [&str; 4] = [
    // Names that nobody is called by any more.
    "DELETE FROM people_name WHERE user_no IN NUMBERS($1) AND n > 0 AND NOT EXISTS (\
     SELECT 1 FROM people_member d WHERE d.user_no = people_name.user_no AND d.n = people_name.n)",
    "DELETE FROM people_word WHERE user_no IN NUMBERS($1) AND NOT EXISTS (\
     SELECT 1 FROM people_name x WHERE x.user_no = people_word.user_no AND x.n = people_word.n)",
    concat!(
        "UPDATE people_name SET seen = ",
        seen!(),
        " WHERE user_no IN NUMBERS($1) AND seen <> ",
        seen!()
    ),
    "UPDATE people_word SET seen = (\
     SELECT x.seen FROM people_name x WHERE x.user_no = people_word.user_no AND x.n = people_word.n) \
     WHERE user_no IN NUMBERS($1) AND seen <> (\
     SELECT x.seen FROM people_name x WHERE x.user_no = people_word.user_no AND x.n = people_word.n)",
];

impl Store {
    /// Writes down what these users are called now, and where: anywhere, or in these rooms. `anew`: also if nothing of that has changed, as who may look
    /// into a room has. `false` if the lease is lost.
    pub(super) async fn write_people(
        &self,
        lease: &Lease,
        here: &ServerName,
        users: &[UserNo],
        rooms: Option<&BTreeSet<RoomNo>>,
        anew: bool,
    ) -> Result<bool> {
        let plan = self.plan(here, users, rooms).await?;
        if plan.is_empty() && !anew {
            return Ok(true);
        }
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(false);
        }
        plan.write(&mut tx).await?;
        for sql in SETTLE {
            let query = tx.sql(sql).numbers(users.iter().copied());
            tx.execute(query).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Writes down whether anybody may look into a room; `taken`: its members are about to be. `false` if the lease is lost.
    pub(super) async fn write_room(
        &self,
        lease: &Lease,
        here: &ServerName,
        room: RoomNo,
        taken: bool,
    ) -> Result<bool> {
        let mut rows = self.doors(here, &[room]).await?;
        for row in &mut rows {
            row.open += if taken { TAKEN } else { 0 };
        }
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(false);
        }
        let query = tx
            .sql(
                "INSERT INTO people_room (room, open) SELECT x.room, x.open FROM ROWS($1) AS x WHERE TRUE \
                 ON CONFLICT (room) DO UPDATE SET open = excluded.open",
            )
            .rows(&rows);
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Whether it isn't written down yet who may look into a room now.
    pub(super) async fn door_has_changed(&self, here: &ServerName, room: RoomNo) -> Result<bool> {
        let query = self
            .sql("SELECT open FROM people_room WHERE room = $1")
            .bind(room);
        let row = self.row(query).await?;
        let known: Option<i64> = row.map(|row| row.get("open")).transpose()?;
        let doors = self.doors(here, &[room]).await?;
        Ok(known != doors.first().map(|row| row.open))
    }

    /// Those of some rooms which we weren't in, or whose members haven't all been taken since.
    pub(super) async fn rooms_come_back_to(
        &self,
        rooms: impl IntoIterator<Item = RoomNo>,
    ) -> Result<Vec<RoomNo>> {
        let mut rooms = rooms.into_iter().peekable();
        if rooms.peek().is_none() {
            // Of messages there are none.
            return Ok(Vec::new());
        }
        let query = self
            .sql("SELECT room FROM people_room WHERE room IN NUMBERS($1) AND open >= $2")
            .numbers(rooms)
            .bind(AWAY);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("room")).collect()
    }

    /// Forgets what these events said, as they say something else: gives whom they were of.
    pub(super) async fn forget_names(
        &self,
        lease: &Lease,
        events: &[EventNo],
    ) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT m.user_no FROM event e JOIN membership m ON m.room = e.room AND m.event = e.no \
                 WHERE e.no IN NUMBERS($1)",
            )
            .numbers(events.iter().copied());
        let rows = self.rows(query).await?;
        let users = rows.iter().map(|row| row.get("user_no"));
        let users: Vec<UserNo> = users.collect::<Result<_>>()?;
        if users.is_empty() {
            return Ok(users);
        }
        let mut tx = self.begin().await?;
        if lease.hold(&mut tx).await? {
            let query = tx
                .sql(
                    "UPDATE people_member SET event = 0 \
                     WHERE user_no IN NUMBERS($1) AND event IN NUMBERS($2)",
                )
                .numbers(users.iter().copied())
                .numbers(events.iter().copied());
            tx.execute(query).await?;
            tx.commit().await?;
        } else {
            tx.rollback().await;
        }
        Ok(users)
    }
}

impl Plan {
    pub(super) async fn write(&self, tx: &mut Tx) -> Result<()> {
        for sql in [
            "DELETE FROM people_word WHERE user_no IN NUMBERS($1)",
            "DELETE FROM people_name WHERE user_no IN NUMBERS($1)",
            "DELETE FROM people_member WHERE user_no IN NUMBERS($1)",
        ] {
            if !self.nobody.is_empty() {
                let query = tx.sql(sql).numbers(self.nobody.iter().copied());
                tx.execute(query).await?;
            }
        }
        let statements = [
            tx.sql(
                "DELETE FROM people_word WHERE (user_no, n) IN (SELECT x.user_no, x.n FROM ROWS($1) AS x)",
            )
            .rows(&self.names),
            tx.sql(
                "INSERT INTO people_name (user_no, n, name, avatar, hidden, seen) \
                 SELECT x.user_no, x.n, x.name, x.avatar, x.hidden, x.hidden FROM ROWS($1) AS x WHERE TRUE \
                 ON CONFLICT (user_no, n) DO UPDATE SET name = excluded.name, avatar = excluded.avatar, \
                 hidden = excluded.hidden",
            )
            .rows(&self.names),
            // -1: as their name is, in the end.
            tx.sql(
                "INSERT INTO people_word (user_no, n, word, seen) \
                 SELECT x.user_no, x.n, x.word, -1 FROM ROWS($1) AS x",
            )
            .rows(&self.words),
            tx.sql(
                "DELETE FROM people_member WHERE (user_no, room) IN \
                 (SELECT x.user_no, x.room FROM ROWS($1) AS x)",
            )
            .rows(&self.gone),
            tx.sql(
                "INSERT INTO people_member (user_no, room, n, event) \
                 SELECT x.user_no, x.room, x.n, x.event FROM ROWS($1) AS x WHERE TRUE \
                 ON CONFLICT (user_no, room) DO UPDATE SET n = excluded.n, event = excluded.event",
            )
            .rows(&self.members),
            tx.sql(
                "INSERT INTO people_room (room, open) SELECT x.room, x.open FROM ROWS($1) AS x WHERE TRUE \
                 ON CONFLICT (room) DO NOTHING",
            )
            .rows(&self.rooms),
        ];
        for query in statements {
            tx.execute(query).await?;
        }
        Ok(())
    }
}
