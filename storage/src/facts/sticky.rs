//! Events that are sticky, as long as they are
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)).
//!
//! Written with such an event, and again when the room's state has changed its mind about it: readers are told of an
//! event where its row stands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::table::table;
use super::{Audience, Kind, Logged, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::{EventNo, Pos, Result, RoomNo, Store, UserNo};

/// How many rows are deleted at once.
const PIECE: usize = 1_000;

table! {
    /// An event is sticky.
    #[derive(Copy)]
    pub struct Sticky in sticky {
        key {
            /// Which.
            event: EventNo = event,
        }
        /// Its room.
        room: RoomNo = room,
        /// Who sent it.
        sender: UserNo = sender,
        /// Until when, in milliseconds since 1970.
        expires_ms: i64 = expires_ms,
        /// Whether the room's current state allows it.
        allowed: bool = allowed,
    }
}

impl Kind for Sticky {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for Sticky {
    type Entry = Self;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(sticky: &Self) -> Audience {
        if sticky.allowed {
            Audience::Room(sticky.room)
        } else {
            Audience::Nobody
        }
    }

    fn room(sticky: &Self) -> Option<RoomNo> {
        Some(sticky.room)
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            event: EventNo(1),
            room: world.room,
            sender: world.user,
            expires_ms: i64::MAX,
            allowed: true,
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let span = (Pos(0), Pos(i64::MAX));
        let sticky = store.sticky_in(&[world.room], span, 0, 9).await?;
        Ok(format!("{sticky:?}"))
    }
}

rows! {
    struct Member {
        room: RoomNo,
        sender: UserNo,
    }
}

impl Member {
    fn of((room, sender): &(RoomNo, UserNo)) -> Self {
        Self {
            room: *room,
            sender: *sender,
        }
    }
}

impl Store {
    /// The first `limit` events of these rooms with `after < pos ≤ upto` that are sticky at `now_ms`, ascending by where
    /// readers are told of them.
    pub async fn sticky_in(
        &self,
        rooms: &[RoomNo],
        (after, upto): (Pos, Pos),
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<Arc<Logged<Sticky>>>> {
        let query = self
            .sql(
                "SELECT pos, event, room, sender, expires_ms, allowed FROM sticky \
                 WHERE room IN NUMBERS($1) AND pos > $2 AND pos <= $3 AND expires_ms > $4 \
                 AND allowed = 1 ORDER BY pos LIMIT $5",
            )
            .numbers(rooms.iter().copied())
            .bind(after)
            .bind(upto)
            .bind(now_ms)
            .bind(limit);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// Events of these rooms that are sticky at `now_ms` and stand up to a position, for who comes into them: at most
    /// `each` of a sender in a room, their newest, and at most `limit`. Everybody's newest are first, so that nobody hides
    /// the others by sending many.
    pub async fn sticky_for_entrant(
        &self,
        rooms: &[RoomNo],
        upto: Pos,
        now_ms: i64,
        (each, limit): (usize, usize),
    ) -> Result<Vec<Arc<Logged<Sticky>>>> {
        let query = self
            .sql(
                "SELECT pos, event, room, sender, expires_ms, allowed FROM (\
                 SELECT pos, event, room, sender, expires_ms, allowed, \
                 ROW_NUMBER() OVER (PARTITION BY room, sender ORDER BY pos DESC) AS n FROM sticky \
                 WHERE room IN NUMBERS($1) AND pos <= $2 AND expires_ms > $3 AND allowed = 1) AS ranked \
                 WHERE n <= $4 ORDER BY n, pos DESC LIMIT $5",
            )
            .numbers(rooms.iter().copied())
            .bind(upto)
            .bind(now_ms)
            .bind(each)
            .bind(limit);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// Of these users the events in these rooms that are sticky at `now_ms`, at most `limit`: all, or those that the room's
    /// state didn't allow.
    pub async fn sticky_of(
        &self,
        members: &[(RoomNo, UserNo)],
        refused_only: bool,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<Arc<Logged<Sticky>>>> {
        let members: Vec<_> = members.iter().map(Member::of).collect();
        let query = self
            .sql(
                "SELECT s.pos, s.event, s.room, s.sender, s.expires_ms, s.allowed FROM ROWS($1) AS x \
                 JOIN sticky s ON s.room = x.room AND s.sender = x.sender \
                 WHERE s.expires_ms > $2 AND (s.allowed = 0 OR $3 = 0) ORDER BY s.pos LIMIT $4",
            )
            .rows(&members)
            .bind(now_ms)
            .bind(refused_only)
            .bind(limit);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// How many events of each of these users in these rooms are sticky at `now_ms`: all, and those of them that the
    /// room's state didn't allow. Who has none is left out.
    pub async fn sticky_counts(
        &self,
        members: &[(RoomNo, UserNo)],
        now_ms: i64,
    ) -> Result<HashMap<(RoomNo, UserNo), (usize, usize)>> {
        let members: Vec<_> = members.iter().map(Member::of).collect();
        let query = self
            .sql(
                "SELECT s.room, s.sender, s.allowed, COUNT(*) AS n FROM ROWS($1) AS x \
                 JOIN sticky s ON s.room = x.room AND s.sender = x.sender \
                 WHERE s.expires_ms > $2 GROUP BY s.room, s.sender, s.allowed",
            )
            .rows(&members)
            .bind(now_ms);
        let mut counts = HashMap::new();
        for row in self.rows(query).await? {
            let (all, refused) = counts
                .entry((row.get("room")?, row.get("sender")?))
                .or_insert((0, 0));
            let n: usize = row.get("n")?;
            *all += n;
            if !row.get::<bool>("allowed")? {
                *refused += n;
            }
        }
        Ok(counts)
    }

    /// Which of these rooms have events that are sticky at `now_ms`.
    pub async fn rooms_with_sticky(&self, rooms: &[RoomNo], now_ms: i64) -> Result<Vec<RoomNo>> {
        let query = self
            .sql(
                "SELECT DISTINCT room FROM sticky \
                 WHERE room IN NUMBERS($1) AND expires_ms > $2",
            )
            .numbers(rooms.iter().copied())
            .bind(now_ms);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("room")).collect()
    }

    /// Deletes what isn't sticky any more. Gives the number of rows.
    pub(crate) async fn purge_sticky(&self, pause: Duration) -> Result<u64> {
        let mut gone = 0;
        loop {
            let query = self
                .sql(
                    "DELETE FROM sticky WHERE event IN \
                     (SELECT event FROM sticky WHERE expires_ms <= $1 LIMIT $2)",
                )
                .bind(self.clock().now_ms())
                .bind(PIECE);
            let deleted = self.execute(query).await?;
            gone += deleted;
            if deleted < PIECE as u64 {
                return Ok(gone);
            }
            self.clock().sleep(pause).await;
        }
    }
}
