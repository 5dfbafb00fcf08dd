//! Rooms that were joined before their members were known: whom to ask for the rest, and when.
//!
//! What makes a room partial, or complete, is part of a [`RoomWrite`](crate::RoomWrite) ([`Partial`](crate::Partial)). The
//! rest here are plain statements.

use std::collections::HashMap;

use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{DeviceList, EventNo, Pos, Result, RoomNo, Store, UserNo};

/// A room that isn't complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialRoom {
    /// Which.
    pub room: RoomNo,
    /// The join that it is partial by.
    pub join: EventNo,
    /// When that was, milliseconds since 1970.
    pub joined_ms: i64,
    /// Servers that may tell the state before the join, in the order in which they are asked.
    pub ask: Vec<OwnedServerName>,
    /// How often they have been asked in vain, one after another.
    pub tries: u32,
    /// When they are to be asked next, milliseconds since 1970.
    pub retry_at: i64,
}

const ROOM: &str = "\
    SELECT p.room, r.partial_join, p.joined_ms, p.ask, p.tries, p.retry_at \
    FROM partial_room p JOIN room r ON r.no = p.room WHERE p.room = $1 AND r.partial_join IS NOT NULL";

impl Store {
    /// The room, if it is partial.
    pub async fn partial_room(&self, room: RoomNo) -> Result<Option<PartialRoom>> {
        let row = self.row(self.sql(ROOM).bind(room)).await?;
        row.as_ref().map(partial_of).transpose()
    }

    /// The rooms that are to be completed next, whenever that is.
    pub async fn next_partial_rooms(&self, limit: usize) -> Result<Vec<PartialRoom>> {
        let query = self
            .sql(
                "SELECT p.room, r.partial_join, p.joined_ms, p.ask, p.tries, p.retry_at \
                 FROM partial_room p JOIN room r ON r.no = p.room \
                 WHERE r.partial_join IS NOT NULL ORDER BY p.retry_at, p.room LIMIT $1",
            )
            .bind(limit);
        self.rows(query).await?.iter().map(partial_of).collect()
    }

    /// Puts a room off to `retry_at` (ms), with so many tries, unless it was put off, or is to be tried at once, since it was
    /// read.
    pub async fn put_off_partial(
        &self,
        room: &PartialRoom,
        tries: u32,
        retry_at: i64,
    ) -> Result<()> {
        let query = self
            .sql(
                "UPDATE partial_room SET tries = $3, retry_at = $4 WHERE room = $1 AND retry_at = $2",
            )
            .bind(room.room)
            .bind(room.retry_at)
            .bind(i64::from(tries))
            .bind(retry_at);
        self.execute(query).await?;
        Ok(())
    }

    /// A partial room is wanted: it is tried at once.
    pub async fn want_partial(&self, room: RoomNo) -> Result<()> {
        let query = self
            .sql("UPDATE partial_room SET tries = 0, retry_at = 0 WHERE room = $1")
            .bind(room);
        self.execute(query).await?;
        Ok(())
    }

    /// The events that were decided upon the partial state of this join, in the order of their numbers.
    pub async fn partial_events(&self, join: EventNo) -> Result<Vec<EventNo>> {
        let query = self
            .sql("SELECT event AS no FROM partial_event WHERE joined = $1 ORDER BY event")
            .bind(join);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("no")).collect()
    }

    /// Whether the event was decided upon partial state, and not again since.
    pub async fn is_partial_event(&self, event: EventNo) -> Result<bool> {
        let query = self
            .sql("SELECT joined FROM partial_event WHERE event = $1")
            .bind(event);
        Ok(self.row(query).await?.is_some())
    }

    /// Whether the server was said to be in a room that is partial: in this one, or in any.
    pub async fn is_said_to_be_in(
        &self,
        server: &ServerName,
        room: Option<RoomNo>,
    ) -> Result<bool> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(false);
        };
        let query = match room {
            Some(room) => self
                .sql("SELECT server FROM partial_server WHERE room = $2 AND server = $1")
                .bind(server)
                .bind(room),
            None => self
                .sql("SELECT server FROM partial_server WHERE server = $1 LIMIT 1")
                .bind(server),
        };
        Ok(self.row(query).await?.is_some())
    }

    /// Where in the log the members of these rooms came to be known, of those of which they weren't once.
    pub async fn members_known(&self, rooms: &[RoomNo]) -> Result<HashMap<RoomNo, Pos>> {
        let query = self
            .sql("SELECT room, pos FROM members_known WHERE room IN NUMBERS($1)")
            .numbers(rooms.iter().copied());
        let rows = self.rows(query).await?;
        let known = rows
            .iter()
            .map(|row| Ok((row.get("room")?, row.get("pos")?)));
        known.collect()
    }

    /// What changed of the devices of the room's joined members after a position: of each the last device, and the
    /// cross-signing keys.
    pub async fn devices_changed_in(&self, room: RoomNo, after: Pos) -> Result<Vec<DeviceList>> {
        let query = self
            .sql(
                "SELECT d.user_no, d.device_pos, d.device_id, d.keys_pos \
                 FROM membership m JOIN device_list d ON d.user_no = m.user_no \
                 WHERE m.room = $1 AND m.membership = 1 AND d.pos > $2 ORDER BY d.user_no",
            )
            .bind(room)
            .bind(after);
        let mut changed = Vec::new();
        for row in self.rows(query).await? {
            let user = row.get("user_no")?;
            let is_new = |pos: Option<Pos>| pos.is_some_and(|pos| pos > after);
            if is_new(row.get("device_pos")?) {
                let device = row.get("device_id")?;
                changed.push(DeviceList { user, device });
            }
            if is_new(row.get("keys_pos")?) {
                let device = None;
                changed.push(DeviceList { user, device });
            }
        }
        Ok(changed)
    }

    /// Those who are joined and came to be members of the room at this position, where others were given.
    pub async fn members_given_at(&self, room: RoomNo, since: Pos) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT user_no FROM membership WHERE room = $1 AND membership = 1 AND since = $2 \
                 ORDER BY user_no",
            )
            .bind(room)
            .bind(since);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }
}

fn partial_of(row: &ReadRow) -> Result<PartialRoom> {
    Ok(PartialRoom {
        room: row.get("room")?,
        join: row.get("partial_join")?,
        joined_ms: row.get("joined_ms")?,
        ask: serde_json::from_str(&row.get::<String>("ask")?)?,
        tries: u32::try_from(row.get::<i64>("tries")?).unwrap_or(u32::MAX),
        retry_at: row.get("retry_at")?,
    })
}
