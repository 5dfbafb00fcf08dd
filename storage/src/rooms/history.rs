//! A room's history, page by page.

use std::sync::Arc;

use crate::engine::sql::{Columns as _, rows};
use crate::{EventNo, KeyNo, Pos, Result, RoomNo, Store, StoredEvent};

/// A place between events: right after the event with this depth and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryToken {
    /// The event's depth.
    pub depth: i64,
    /// Its order.
    pub order: i64,
}

impl HistoryToken {
    /// After everything.
    pub const END: Self = Self {
        depth: i64::MAX,
        order: i64::MAX,
    };
    /// Before everything.
    pub const START: Self = Self {
        depth: i64::MIN,
        order: i64::MIN,
    };

    /// Right after `event`; `None` if it is no part of the history.
    pub fn after(event: &StoredEvent) -> Option<Self> {
        Some(Self {
            depth: event.depth,
            order: event.order?,
        })
    }

    /// Right before `event`; `None` if it is no part of the history.
    pub fn before(event: &StoredEvent) -> Option<Self> {
        Some(Self {
            depth: event.depth,
            order: event.order?.saturating_sub(1),
        })
    }
}

/// Which way to page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the past; starts with the event at the token.
    Backward,
    /// To the future; starts after the token.
    Forward,
}

rows! {
    struct Since {
        room: RoomNo,
        since: i64,
    }
}

rows! {
    struct RoomRow {
        room: RoomNo,
    }
}

impl Store {
    /// At most `limit` events of the room from the token on, in the direction's order, by (depth,
    /// order). Live events after `upto` are left out.
    pub async fn history(
        &self,
        room: RoomNo,
        from: HistoryToken,
        direction: Direction,
        limit: usize,
        upto: Pos,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self.sql(match direction {
            Direction::Backward => {
                "SELECT no FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND (depth, ord) <= ($2, $3) AND ord <= $4 \
                 ORDER BY depth DESC, ord DESC LIMIT $5"
            }
            Direction::Forward => {
                "SELECT no FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND (depth, ord) > ($2, $3) AND ord <= $4 \
                 ORDER BY depth, ord LIMIT $5"
            }
        });
        let query = query.bind(room).bind(from.depth).bind(from.order);
        self.listed(query.bind(upto).bind(limit)).await
    }

    /// The newest `limit` live events with `after < pos ≤ upto`, ascending by position.
    pub async fn room_timeline(
        &self,
        room: RoomNo,
        after: Pos,
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self
            .sql(
                "SELECT no FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND ord > $2 AND ord <= $3 ORDER BY ord DESC LIMIT $4",
            )
            .bind(room)
            .bind(after.0.max(0))
            .bind(upto)
            .bind(limit);
        let mut events = self.listed(query).await?;
        events.reverse();
        Ok(events)
    }

    /// The newest `limit` live events up to `upto` of each of these rooms, in order, room by room.
    pub async fn room_timelines(
        &self,
        rooms: &[RoomNo],
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        self.room_timelines_after(rooms, (Pos(0), upto), limit)
            .await
    }

    /// The same of those with `after < pos ≤ upto`.
    pub async fn room_timelines_after(
        &self,
        rooms: &[RoomNo],
        (after, upto): (Pos, Pos),
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let rows: Vec<_> = rooms.iter().map(|room| RoomRow { room: *room }).collect();
        let query = self
            .sql(
                "SELECT e.no FROM ROWS($1) AS x NEWEST($4, $2, $3) \
                 ORDER BY e.room, e.ord",
            )
            .rows(&rows)
            .bind(upto)
            .bind(limit)
            .bind(after.0.max(0));
        self.listed(query).await
    }

    /// The numbers of the newest `limit` live events of each room after its position and up to `upto`, in order,
    /// room by room.
    pub async fn events_since(
        &self,
        rooms: &[(RoomNo, Pos)],
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<(RoomNo, EventNo)>> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let since = |(room, after): &(RoomNo, Pos)| Since {
            room: *room,
            since: after.0.max(0),
        };
        let query = self
            .sql(
                "SELECT e.room, e.no FROM ROWS($1) AS x NEWEST(x.since, $2, $3) ORDER BY e.room, e.ord",
            )
            .rows(&rooms.iter().map(since).collect::<Vec<_>>())
            .bind(upto)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("room")?, row.get("no")?)))
            .collect()
    }

    /// The newest `limit` live events of these rooms together, of each after its position and up to `upto`; newest
    /// first.
    pub async fn newest_of(
        &self,
        rooms: &[(RoomNo, Pos)],
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let since = |(room, after): &(RoomNo, Pos)| Since {
            room: *room,
            since: after.0.max(0),
        };
        let rooms: Vec<Since> = rooms.iter().map(since).collect();
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT x.room, x.since, (SELECT MAX(n.ord) FROM event n WHERE n.room = x.room \
                 AND n.ord IS NOT NULL AND n.ord > x.since AND n.ord <= $2) AS ord FROM ROWS($1) AS x",
            )
            .rows(&rooms)
            .bind(upto);
        let mut newest: Vec<(i64, Since)> = Vec::new();
        for row in self.rows(query).await? {
            let (room, since) = (row.get("room")?, row.get("since")?);
            let ord: Option<i64> = row.get("ord")?;
            newest.extend(ord.map(|ord| (ord, Since { room, since })));
        }
        // Where there are as many rooms, each with its newest event, nothing older than all of these is among them.
        newest.sort_unstable_by_key(|(ord, _)| -ord);
        newest.truncate(limit);
        let floor = newest.last().filter(|_| newest.len() == limit);
        let floor = floor.map_or(0, |(ord, _)| ord - 1);
        let within = newest.into_iter().map(|(_, of)| Since {
            room: of.room,
            since: of.since.max(floor),
        });
        let query = self
            .sql(
                "SELECT e.no FROM ROWS($1) AS x NEWEST(x.since, $2, $3) ORDER BY e.ord DESC LIMIT $3",
            )
            .rows(&within.collect::<Vec<_>>())
            .bind(upto)
            .bind(limit);
        self.listed(query).await
    }

    /// The oldest `limit` live events of these rooms together, of each after its position and up to `upto`, in order.
    pub async fn oldest_of(
        &self,
        rooms: &[(RoomNo, Pos)],
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let rooms = rooms.iter().map(|(room, after)| Since {
            room: *room,
            since: after.0.max(0),
        });
        let query = self
            .sql("SELECT e.no FROM ROWS($1) AS x OLDEST(x.since, $2, $3) ORDER BY e.ord LIMIT $3")
            .rows(&rooms.collect::<Vec<_>>())
            .bind(upto)
            .bind(limit);
        self.listed(query).await
    }

    /// The oldest `limit` live events with `after < pos ≤ upto`, in order.
    pub async fn live_after(
        &self,
        room: RoomNo,
        after: Pos,
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self
            .sql(
                "SELECT no FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND ord > $2 AND ord <= $3 ORDER BY ord LIMIT $4",
            )
            .bind(room)
            .bind(after.0.max(0))
            .bind(upto)
            .bind(limit);
        self.listed(query).await
    }

    /// Right before the newest `count` of the room's events with `after < pos ≤ upto`; `None` if there are no more.
    pub async fn live_before(
        &self,
        room: RoomNo,
        after: Pos,
        upto: Pos,
        count: usize,
    ) -> Result<Option<Pos>> {
        let query = self
            .sql(
                "SELECT ord FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND ord > $2 AND ord <= $3 ORDER BY ord DESC LIMIT 1 OFFSET $4",
            )
            .bind(room)
            .bind(after.0.max(0))
            .bind(upto)
            .bind(count);
        let row = self.row(query).await?;
        row.map(|row| row.get("ord")).transpose()
    }

    /// The changes of the room's current state with `after < pos ≤ upto`, ascending: position, entry,
    /// old and new event.
    pub async fn state_changes(
        &self,
        room: RoomNo,
        after: Pos,
        upto: Pos,
    ) -> Result<Vec<(Pos, KeyNo, Option<EventNo>, Option<EventNo>)>> {
        let query = self
            .sql(
                "SELECT pos, state_key, old_event, new_event FROM state_change \
                 WHERE room = $1 AND pos > $2 AND pos <= $3 ORDER BY pos",
            )
            .bind(room)
            .bind(after)
            .bind(upto);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                let (old, new) = (row.get("old_event")?, row.get("new_event")?);
                Ok((row.get("pos")?, row.get("state_key")?, old, new))
            })
            .collect()
    }
}
