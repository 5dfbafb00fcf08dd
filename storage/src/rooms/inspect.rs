//! Counts and listings for whoever looks into a room. Reads only; what may be large is counted by the
//! database, or read page by page.

use std::sync::Arc;

use rhizome_protocol::Membership;

use crate::engine::sql::Columns as _;
use crate::{EventNo, KeyNo, Placement, Result, RoomHead, RoomNo, Status, Store, StoredEvent};

/// How many of a room's events are in one situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventCount {
    /// What became of them.
    pub status: Status,
    /// Where they belong.
    pub placement: Placement,
    /// How many.
    pub count: i64,
}

/// What a room's state costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotSizes {
    /// Stored snapshots.
    pub snapshots: i64,
    /// The bytes of their bodies.
    pub bytes: i64,
    /// Events of the history after which the state is another one than before.
    pub state_events: i64,
    /// Entries of the current state.
    pub entries: i64,
}

/// After which event to go on reading those that are outside of the history; `START` for the first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutsideToken {
    /// Its depth.
    pub depth: i64,
    /// Its number.
    pub no: EventNo,
}

impl OutsideToken {
    /// Before everything.
    pub const START: Self = Self {
        depth: i64::MIN,
        no: EventNo(i64::MIN),
    };

    /// Right after `event`.
    pub fn after(event: &StoredEvent) -> Self {
        Self {
            depth: event.depth,
            no: event.no,
        }
    }
}

impl Store {
    /// How many events the room has, by what became of them.
    pub async fn event_counts(&self, room: RoomNo) -> Result<Vec<EventCount>> {
        // Two halves, each with an index that has nothing but this room's.
        let query = self
            .sql(
                "SELECT status, placement, COUNT(*) AS count FROM event \
                 WHERE room = $1 AND ord IS NOT NULL GROUP BY status, placement \
                 UNION ALL SELECT status, placement, COUNT(*) AS count FROM event \
                 WHERE room = $1 AND ord IS NULL GROUP BY status, placement ORDER BY 1, 2",
            )
            .bind(room);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(EventCount {
                    status: row.get("status")?,
                    placement: row.get("placement")?,
                    count: row.get("count")?,
                })
            })
            .collect()
    }

    /// How many members the room has, by membership.
    pub async fn membership_counts(&self, room: RoomNo) -> Result<Vec<(Membership, i64)>> {
        let query = self
            .sql(
                "SELECT membership, COUNT(*) AS count FROM membership WHERE room = $1 \
                 GROUP BY membership ORDER BY membership",
            )
            .bind(room);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("membership")?, row.get("count")?)))
            .collect()
    }

    /// What the room's state takes in the database.
    pub async fn snapshot_sizes(&self, room: RoomNo) -> Result<SnapshotSizes> {
        let query = self
            .sql(
                "SELECT (SELECT COUNT(*) FROM state_snapshot WHERE room = $1) AS snapshots, \
                 (SELECT CAST(COALESCE(SUM(LENGTH(body)), 0) AS BIGINT) \
                 FROM state_snapshot WHERE room = $1) AS bytes, \
                 (SELECT COUNT(*) FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND state_after <> COALESCE(state_before, 0)) AS state_events, \
                 (SELECT COUNT(*) FROM current_state WHERE room = $1) AS entries",
            )
            .bind(room);
        let Some(row) = self.row(query).await? else {
            return Ok(SnapshotSizes::default());
        };
        Ok(SnapshotSizes {
            snapshots: row.get("snapshots")?,
            bytes: row.get("bytes")?,
            state_events: row.get("state_events")?,
            entries: row.get("entries")?,
        })
    }

    /// The deepest `limit` events of the room that were rejected or soft-failed, deepest first.
    pub async fn refused_events(
        &self,
        room: RoomNo,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self
            .sql(
                "SELECT no FROM event WHERE room = $1 AND ord IS NULL AND status <> 0 \
                 ORDER BY depth DESC, no DESC LIMIT $2",
            )
            .bind(room)
            .bind(limit);
        self.listed(query).await
    }

    /// The next `limit` events of the room, by depth, that are no part of the history though they have
    /// states around them: rejected and soft-failed ones.
    pub async fn events_outside(
        &self,
        room: RoomNo,
        after: OutsideToken,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self
            .sql(
                "SELECT no FROM event WHERE room = $1 AND ord IS NULL AND (depth, no) > ($2, $3) \
                 AND placement <> 2 ORDER BY depth, no LIMIT $4",
            )
            .bind(room)
            .bind(after.depth)
            .bind(after.no)
            .bind(limit);
        self.listed(query).await
    }

    /// The room as the database has it, and the rows that mirror its current state, both of the same
    /// state version. `None` for a room that we don't know, and while it changes faster than we read.
    pub async fn mirrored_state(
        &self,
        room: RoomNo,
    ) -> Result<Option<(Arc<RoomHead>, Vec<(KeyNo, EventNo)>)>> {
        for _ in 0..5 {
            self.core.caches.rooms.remove(&room);
            let Some(head) = self.room_by_no(room).await? else {
                return Ok(None);
            };
            let query = self
                .sql(
                    "SELECT r.state_version, c.state_key, c.event FROM room r \
                     LEFT JOIN current_state c ON c.room = r.no WHERE r.no = $1",
                )
                .bind(room);
            let (mut entries, mut same) = (Vec::new(), true);
            for row in self.rows(query).await? {
                same &= row.get::<i64>("state_version")? == head.state_version;
                if let (Some(key), Some(event)) = (row.get("state_key")?, row.get("event")?) {
                    entries.push((key, event));
                }
            }
            if same {
                return Ok(Some((head, entries)));
            }
        }
        Ok(None)
    }
}
