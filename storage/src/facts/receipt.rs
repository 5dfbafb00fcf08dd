//! Read receipts: the newest per (room, user, kind, thread), at the position where it moved last. They move
//! only forwards, whatever order they come in and from whichever process.

use std::sync::Arc;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::OwnedEventId;

use super::{Audience, Kind, Logged, LoggedKind, Stored, last_of_each};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::engine::trouble::Trouble;
use crate::rooms::unread::Pair;
use crate::{Pos, Result, RoomNo, Store, UserNo};

/// A read receipt. One that doesn't move forwards says nothing, and gets no position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Where.
    pub room: RoomNo,
    /// Whose.
    pub user: UserNo,
    /// `m.read`, `m.read.private`, [`DELIVERED`].
    pub kind: String,
    /// `thread_id`, if the receipt has one.
    pub thread: Option<String>,
    /// Up to here.
    pub event_id: OwnedEventId,
    /// When, in milliseconds since 1970.
    pub ts: i64,
}

/// How many threads of a room a user has receipts in, by kind.
const KEPT_THREADS: i64 = 100;

/// Room, user, kind, thread (empty for none).
type Key = (RoomNo, UserNo, String, String);

/// An event, and its place in the room's history if it has one.
type Place = (OwnedEventId, Option<i64>);

/// The type of the receipts that say what has reached a user's devices (docs/delivery.md).
pub const DELIVERED: &str = "org.rhizome.delivered";

/// Whether others are told of receipts of this type.
pub fn is_public(kind: &str) -> bool {
    kind == "m.read" || kind == DELIVERED
}

impl Receipt {
    /// Whether others are told of it, here and on other servers.
    pub fn is_public(&self) -> bool {
        is_public(&self.kind)
    }

    /// Whether a user who is in the room is told of it: private receipts are their owner's alone, and what has reached
    /// one's devices one knows.
    pub fn is_for(&self, reader: UserNo) -> bool {
        if self.user == reader {
            self.kind != DELIVERED
        } else {
            self.is_public()
        }
    }

    fn thread(&self) -> &str {
        self.thread.as_deref().unwrap_or_default()
    }

    fn key(&self) -> Key {
        let thread = self.thread().to_owned();
        (self.room, self.user, self.kind.clone(), thread)
    }
}

/// The receipts that a group may move.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Where they stand.
    at: HashMap<Key, Place>,
    /// The places of the events that they may move to.
    orders: HashMap<(RoomNo, OwnedEventId), i64>,
}

rows! {
    struct Asked<'a> {
        n: usize,
        room: RoomNo,
        user_no: UserNo,
        kind: &'a str,
        thread: &'a str,
        event_id: &'a OwnedEventId,
    }
}

rows! {
    struct Row<'a> {
        room: RoomNo,
        user_no: UserNo,
        kind: &'a str,
        thread: &'a str,
        event_id: &'a OwnedEventId,
        ts: i64,
        pos: i64,
    }
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct InThreads<'a> {
        room: RoomNo,
        user_no: UserNo,
        kind: &'a str,
        kept: i64,
    }
}

impl Kind for Receipt {
    type Basis = Standing;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Standing, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let distinct: BTreeMap<(Key, &OwnedEventId), &Self> = (facts.iter())
            .map(|receipt| ((receipt.key(), &receipt.event_id), *receipt))
            .collect();
        let wanted: Vec<&Self> = distinct.into_values().collect();
        let rows: Vec<_> = (wanted.iter().enumerate())
            .map(|(n, receipt)| Asked {
                n,
                room: receipt.room,
                user_no: receipt.user,
                kind: &receipt.kind,
                thread: receipt.thread(),
                event_id: &receipt.event_id,
            })
            .collect();
        let query = tx
            .sql(
                "SELECT x.n, r.event_id, stood.ord AS stands, goes.ord AS goes FROM ROWS($1) AS x \
                 LEFT JOIN receipt r ON r.room = x.room AND r.user_no = x.user_no \
                 AND r.kind = x.kind AND r.thread = x.thread \
                 LEFT JOIN event stood ON stood.event_id = r.event_id AND stood.room = r.room \
                 LEFT JOIN event goes ON goes.event_id = x.event_id AND goes.room = x.room",
            )
            .rows(&rows);
        for row in tx.rows(query).await? {
            let Some(receipt) = wanted.get(row.get::<usize>("n")?) else {
                continue;
            };
            if let Some(event_id) = row.get("event_id")? {
                let place = (event_id, row.get("stands")?);
                held.at.insert(receipt.key(), place);
            }
            if let Some(order) = row.get("goes")? {
                let event = (receipt.room, receipt.event_id.clone());
                held.orders.insert(event, order);
            }
        }
        Ok(())
    }

    fn apply(&self, held: &mut Standing) -> bool {
        let event = (self.room, self.event_id.clone());
        let order = held.orders.get(&event).copied();
        let behind = held.at.get(&self.key()).is_some_and(|(at, stands)| {
            *at == self.event_id || matches!((*stands, order), (Some(old), Some(new)) if new <= old)
        });
        if !behind {
            held.at.insert(self.key(), (event.1, order));
        }
        !behind
    }

    fn write(facts: &[(i64, &Self)], _: &Standing, statements: &mut Statements) -> Result<()> {
        let rows = last_of_each(facts, Self::key, |pos, receipt| Row {
            room: receipt.room,
            user_no: receipt.user,
            kind: &receipt.kind,
            thread: receipt.thread(),
            event_id: &receipt.event_id,
            ts: receipt.ts,
            pos,
        });
        statements.after(
            "INSERT INTO receipt (room, user_no, kind, thread, event_id, ts, pos) \
             SELECT room, user_no, kind, thread, event_id, ts, pos + $2 FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (room, user_no, kind, thread) DO UPDATE SET \
             event_id = excluded.event_id, ts = excluded.ts, pos = excluded.pos",
            &rows,
        )?;
        forget_threads(facts, statements)
    }
}

/// Of the threads that somebody has read, those that they have read last are remembered.
fn forget_threads(facts: &[(i64, &Receipt)], statements: &mut Statements) -> Result<()> {
    let in_threads =
        (facts.iter()).filter(|(_, receipt)| !["", "main"].contains(&receipt.thread()));
    let whose: BTreeSet<_> = in_threads
        .map(|(_, receipt)| InThreads {
            room: receipt.room,
            user_no: receipt.user,
            kind: &receipt.kind,
            kept: KEPT_THREADS,
        })
        .collect();
    statements.after(
        "DELETE FROM receipt WHERE pos IN (SELECT pos FROM (\
         SELECT r.pos AS pos, x.kept AS kept, \
         ROW_NUMBER() OVER (PARTITION BY r.room, r.user_no, r.kind ORDER BY r.pos DESC) AS n \
         FROM ROWS($1) AS x JOIN receipt r ON r.room = x.room AND r.user_no = x.user_no \
         AND r.kind = x.kind AND r.thread NOT IN ('', 'main')) AS ranked WHERE n > kept)",
        &whose.into_iter().collect::<Vec<_>>(),
    )
}

impl LoggedKind for Receipt {
    type Entry = Self;

    fn entry(&self) -> Self {
        let thread = self.thread.clone().filter(|thread| !thread.is_empty());
        Self {
            thread,
            ..self.clone()
        }
    }

    /// A private one is nobody else's business.
    fn audience(receipt: &Self) -> Audience {
        match receipt.kind.as_str() {
            "m.read.private" => Audience::User(receipt.user),
            _ => Audience::Room(receipt.room),
        }
    }

    fn room(receipt: &Self) -> Option<RoomNo> {
        Some(receipt.room)
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            room: world.room,
            user: world.user,
            kind: "m.read".to_owned(),
            thread: None,
            event_id: ruma::owned_event_id!("$read"),
            ts: 5,
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let receipts = store.receipts_of(world.room, world.user).await?;
        Ok(format!("{receipts:?}"))
    }
}

rows! {
    struct AtRow<'a> {
        event_id: &'a ruma::EventId,
    }
}

impl Store {
    /// Of the receipts in these rooms up to a position: those of a user, and those at some events. What has reached
    /// devices is told only where two are, now.
    pub async fn receipts_at(
        &self,
        rooms: &[RoomNo],
        user: UserNo,
        events: &[&ruma::EventId],
        upto: Pos,
    ) -> Result<Vec<Arc<Logged<Receipt>>>> {
        // As a table, which is hashed: no index leads to them.
        let events: Vec<_> = events.iter().map(|event_id| AtRow { event_id }).collect();
        let query = self
            .sql(
                "SELECT pos, room, user_no, kind, thread, event_id, ts FROM receipt \
                 WHERE room IN NUMBERS($1) AND pos <= $4 AND (user_no = $2 OR event_id IN (SELECT x.event_id FROM ROWS($3) AS x)) \
                 AND (kind <> 'org.rhizome.delivered' OR room IN (SELECT room FROM room_server \
                 WHERE room IN NUMBERS($5) GROUP BY room HAVING SUM(joined) = 2)) \
                 ORDER BY room, pos",
            )
            .numbers(rooms.iter().copied())
            .bind(user)
            .rows(&events)
            .bind(upto)
            .numbers(rooms.iter().copied());
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// The receipts in these rooms that moved with `after < pos ≤ upto`, ascending by position. What has reached devices
    /// is told only where two are, now: who comes into a chat later isn't concerned.
    pub async fn receipts_in_rooms_after(
        &self,
        rooms: &[RoomNo],
        after: Pos,
        upto: Pos,
    ) -> Result<Vec<Arc<Logged<Receipt>>>> {
        let query = self
            .sql(
                "SELECT pos, room, user_no, kind, thread, event_id, ts FROM receipt \
                 WHERE room IN NUMBERS($1) AND pos > $2 AND pos <= $3 \
                 AND (kind <> 'org.rhizome.delivered' OR room IN (SELECT room FROM room_server \
                 WHERE room IN NUMBERS($4) GROUP BY room HAVING SUM(joined) = 2)) ORDER BY pos",
            )
            .numbers(rooms.iter().copied())
            .bind(after)
            .bind(upto)
            .numbers(rooms.iter().copied());
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// A user's receipts in a room.
    pub async fn receipts_of(
        &self,
        room: RoomNo,
        user: UserNo,
    ) -> Result<Vec<Arc<Logged<Receipt>>>> {
        let query = self
            .sql(
                "SELECT pos, room, user_no, kind, thread, event_id, ts FROM receipt \
                 WHERE room = $1 AND user_no = $2 ORDER BY pos",
            )
            .bind(room)
            .bind(user);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }
}

/// A receipt, and the place of its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedReceipt {
    /// The receipt.
    pub receipt: Arc<Logged<Receipt>>,
    /// Its event's place in the room's history, if it has one.
    pub order: Option<i64>,
}

impl Store {
    /// What receipts of these users in these rooms say that they have read, of all kinds and threads, in no particular order.
    pub async fn placed_receipts(&self, of: &[(RoomNo, UserNo)]) -> Result<Vec<PlacedReceipt>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT r.pos, r.room, r.user_no, r.kind, r.thread, r.event_id, r.ts, e.ord \
                 FROM ROWS($1) AS x JOIN receipt r ON r.room = x.room AND r.user_no = x.user_no \
                 AND r.kind <> 'org.rhizome.delivered' LEFT JOIN event e ON e.event_id = r.event_id AND e.room = r.room",
            )
            .rows(&Pair::all(of));
        let rows = self.rows(query).await?;
        let placed = rows.iter().map(|row| {
            Ok(PlacedReceipt {
                receipt: Logged::read(row)?,
                order: row.get("ord")?,
            })
        });
        placed.collect()
    }
}

impl Stored for Receipt {
    const TABLE: &'static str = "receipt";
    const COLUMNS: &'static str = "pos, room, user_no, kind, thread, event_id, ts";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            room: row.get("room")?,
            user: row.get("user_no")?,
            kind: row.get("kind")?,
            thread: Some(row.get("thread")?).filter(|thread: &String| !thread.is_empty()),
            event_id: row.get("event_id")?,
            ts: row.get("ts")?,
        })
    }
}
