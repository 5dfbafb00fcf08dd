//! Rooms and their heads.

use std::collections::HashMap;
use std::sync::Arc;

use rhizome_protocol::RoomRules;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};

use crate::engine::dialect::{escaped, unescaped};
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{EventNo, Pos, Result, RoomNo, SnapshotNo, Store};

/// Where a room stands. True as of [`crate::Log::head`], and for this process as soon as a commit has
/// returned.
#[derive(Debug, Clone)]
pub struct RoomHead {
    /// Its number.
    pub room: RoomNo,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// The rules of its version.
    pub rules: &'static RoomRules,
    /// Bumped by every change of its current state.
    pub state_version: i64,
    /// The current state; `None` before the first event, and while a join is under way.
    pub snapshot: Option<SnapshotNo>,
    /// The forward extremities.
    pub extremities: Vec<Extremity>,
    /// How many users are joined.
    pub joined: i64,
    /// How many users are invited.
    pub invited: i64,
    /// Whether it is in the public directory.
    pub public: bool,
    /// The position of the last event that counts as activity (`bump_stamp` of MSC4186), or of the first that we know.
    pub bump: Pos,
    /// The join by which we know no more of it than what was told without its members; `None`: all of its state is known
    /// (or none yet).
    pub partial: Option<EventNo>,
}

/// A forward extremity: an accepted event that no other has as a `prev_event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extremity {
    /// Its number.
    pub no: EventNo,
    /// Its id.
    pub event_id: OwnedEventId,
    /// The depth that it claims, on which the depth of what follows is based.
    pub depth: i64,
}

/// The heads of rooms that we take (or took) part in.
const HEADS: &str = "\
    SELECT no, room_id, version, state_version, snapshot, extremities, joined, invited, public, bump, \
    partial_join FROM room WHERE no IN NUMBERS($1) AND version IS NOT NULL";

impl Store {
    /// The room, if we take (or took) part in it.
    pub async fn room(&self, id: &RoomId) -> Result<Option<Arc<RoomHead>>> {
        match self.known_room(id).await? {
            Some(room) => self.room_by_no(room).await,
            None => Ok(None),
        }
    }

    /// The same by number.
    pub async fn room_by_no(&self, room: RoomNo) -> Result<Option<Arc<RoomHead>>> {
        let cache = &self.core.caches.rooms;
        if let Some(head) = cache.get(&room) {
            return Ok(Some(head));
        }
        let moment = cache.moment();
        let query = self.sql(HEADS).numbers([room]);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        let head = Arc::new(head_of(&row)?);
        cache.insert_since(moment, room, head.clone(), 1);
        Ok(Some(head))
    }

    /// Reads the heads of many rooms that aren't remembered at once: who asks for them next finds them.
    pub async fn load_rooms(&self, rooms: &[RoomNo]) -> Result<()> {
        self.heads(rooms).await.map(drop)
    }

    /// Many rooms at once, without those that we never took part in.
    pub async fn heads(&self, rooms: &[RoomNo]) -> Result<HashMap<RoomNo, Arc<RoomHead>>> {
        let cache = &self.core.caches.rooms;
        let moment = cache.moment();
        let mut found = HashMap::with_capacity(rooms.len());
        let mut unknown = Vec::new();
        for room in rooms {
            match cache.get(room) {
                Some(head) => drop(found.insert(*room, head)),
                None => unknown.push(*room),
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let query = self.sql(HEADS).numbers(unknown);
        for row in self.rows(query).await? {
            let head = Arc::new(head_of(&row)?);
            cache.insert_since(moment, head.room, head.clone(), 1);
            found.insert(head.room, head);
        }
        Ok(found)
    }

    /// Those of some rooms in which something may have happened after a position: what isn't named hasn't changed. Of those
    /// whose members weren't known once, where they came to be so.
    pub async fn rooms_changed(
        &self,
        rooms: &[RoomNo],
        after: Pos,
    ) -> Result<Vec<(RoomNo, Option<Pos>)>> {
        let query = self
            .sql(
                "SELECT r.no, k.pos FROM room r LEFT JOIN members_known k ON k.room = r.no \
                 WHERE r.no IN NUMBERS($1) AND r.last_pos > $2 ORDER BY r.no",
            )
            .numbers(rooms.iter().copied())
            .bind(after);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("no")?, row.get("pos")?)))
            .collect()
    }

    /// Rooms in the public directory, by number, after `after`.
    pub async fn public_rooms(&self, after: RoomNo, limit: usize) -> Result<Vec<RoomNo>> {
        let query = self
            .sql("SELECT no FROM room WHERE public = 1 AND no > $1 ORDER BY no LIMIT $2")
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("no")).collect()
    }
}

/// Reads a row of number, id, version, state version, snapshot, extremities, joined, invited, public, bump, partial join.
pub(crate) fn head_of(row: &ReadRow) -> Result<RoomHead> {
    Ok(RoomHead {
        room: row.get("no")?,
        room_id: row.get("room_id")?,
        rules: row.get("version")?,
        state_version: row.get("state_version")?,
        snapshot: row.get("snapshot")?,
        extremities: extremities_of(&row.get::<String>("extremities")?)?,
        joined: row.get("joined")?,
        invited: row.get("invited")?,
        public: row.get("public")?,
        bump: row.get("bump")?,
        partial: row.get("partial_join")?,
    })
}

/// Extremities as JSON; the ids escaped.
pub(crate) fn extremities_text(extremities: &[Extremity]) -> Result<String> {
    let rows: Vec<_> = extremities
        .iter()
        .map(|extremity| {
            let id = escaped(extremity.event_id.as_str());
            (extremity.no, id, extremity.depth)
        })
        .collect();
    Ok(serde_json::to_string(&rows)?)
}

/// The inverse of [`extremities_text`].
pub(crate) fn extremities_of(text: &str) -> Result<Vec<Extremity>> {
    let rows: Vec<(EventNo, String, i64)> = serde_json::from_str(text)?;
    rows.into_iter()
        .map(|(no, id, depth)| {
            let event_id = OwnedEventId::try_from(unescaped(id))
                .map_err(|_| crate::Error::broken("a stored extremity is no event id"))?;
            Ok(Extremity {
                no,
                event_id,
                depth,
            })
        })
        .collect()
}
