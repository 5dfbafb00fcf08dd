//! Reading the log from the database: first what stands where, then, kind by kind, what it says.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::facts::entry::{EventRestored, LiveEvent, StateChanged};
use crate::{Entry, EntryKind, EventNo, Pos, Result, RoomNo, Store, facts};

/// The numbers of what isn't a fact; the facts' follow, in the order of [`facts::TABLES`].
const EVENT: usize = 0;
const STATE: usize = 1;
const RESTORED: usize = 2;
const FACTS: usize = 3;

/// What stands where: kind and position, and an event's number.
static PLACES: LazyLock<String> = LazyLock::new(|| {
    let mut sql = String::from(
        "SELECT kind, pos, event FROM (\
         SELECT 0 AS kind, ord AS pos, no AS event FROM event \
         WHERE ord IS NOT NULL AND ord > $1 AND ord <= $2 \
         UNION ALL SELECT 1, pos, NULL FROM state_change WHERE pos > $1 AND pos <= $2 \
         UNION ALL SELECT 2, pos, NULL FROM restored WHERE pos > $1 AND pos <= $2",
    );
    for (number, table) in facts::TABLES.iter().enumerate() {
        let kind = number + FACTS;
        // Writing to a string can't fail.
        let _ = write!(
            sql,
            " UNION ALL SELECT {kind}, pos, NULL FROM {table} WHERE pos > $1 AND pos <= $2"
        );
    }
    sql.push_str(") AS entries ORDER BY pos");
    sql
});

rows! {
    struct SinceRow {
        room: RoomNo,
        after: Pos,
    }
}

impl Store {
    /// The first `limit` entries with `after < pos ≤ upto` from the database; fewer than that only if
    /// there are no more. `fresh`: made by other processes, so what the caches hold of these events
    /// is older.
    pub(super) async fn read_log(
        &self,
        after: Pos,
        upto: Pos,
        limit: usize,
        fresh: bool,
    ) -> Result<Vec<Arc<Entry>>> {
        // A window of N positions holds at most N entries, and fewer where facts have moved on.
        let mut window = i64::try_from(limit).unwrap_or(i64::MAX).clamp(1, 10_000);
        let mut after = after;
        let mut entries = Vec::new();
        while after < upto && entries.len() < limit {
            let to = Pos(after.0.saturating_add(window).min(upto.0));
            entries.extend(self.read_window(after, to, fresh).await?);
            after = to;
            window = (window * 2).min(10_000);
        }
        entries.truncate(limit);
        Ok(entries)
    }

    async fn read_window(&self, after: Pos, upto: Pos, fresh: bool) -> Result<Vec<Arc<Entry>>> {
        let query = self.sql(&PLACES).bind(after).bind(upto);
        let mut events: Vec<(Pos, EventNo)> = Vec::new();
        let mut places = Vec::new();
        let mut by_kind: HashMap<usize, Vec<Pos>> = HashMap::new();
        for row in self.rows(query).await? {
            let (kind, pos) = (row.get("kind")?, row.get("pos")?);
            places.push(pos);
            match kind {
                EVENT => events.push((pos, row.get("event")?)),
                _ => by_kind.entry(kind).or_default().push(pos),
            }
        }
        let mut found = self.event_entries(&events, fresh).await?;
        for (kind, positions) in by_kind {
            found.extend(self.entries_at(kind, &positions).await?);
        }
        // A fact that has moved on in the meantime stands at a later position.
        let entries = places.into_iter().filter_map(|pos| {
            let kind = found.remove(&pos)?;
            Some(Arc::new(Entry { pos, kind }))
        });
        Ok(entries.collect())
    }

    async fn event_entries(
        &self,
        events: &[(Pos, EventNo)],
        fresh: bool,
    ) -> Result<HashMap<Pos, EntryKind>> {
        if events.is_empty() {
            return Ok(HashMap::new());
        }
        let nos: Vec<EventNo> = events.iter().map(|(_, no)| *no).collect();
        let stored = if fresh {
            self.reload_events(&nos).await?
        } else {
            self.events_by_no(&nos).await?
        };
        let stored: HashMap<_, _> = stored.into_iter().map(|event| (event.no, event)).collect();
        let entries = events.iter().filter_map(|(pos, no)| {
            let event = stored.get(no)?.clone();
            let room = event.room;
            Some((*pos, EntryKind::Event(LiveEvent { room, event })))
        });
        Ok(entries.collect())
    }

    /// The changes of rooms' current states up to a position, of each room after one of its own, ascending, from the
    /// database.
    pub async fn state_changes_in(
        &self,
        rooms: &[(RoomNo, Pos)],
        upto: Pos,
    ) -> Result<Vec<Arc<Entry>>> {
        let rooms: Vec<_> = (rooms.iter())
            .map(|(room, after)| SinceRow {
                room: *room,
                after: *after,
            })
            .collect();
        let query = self
            .sql(
                "SELECT s.pos, s.room, s.state_key, s.old_event, s.new_event, s.member, s.membership \
                 FROM ROWS($1) AS x JOIN state_change s \
                 ON s.room = x.room AND s.pos > x.after AND s.pos <= $2 ORDER BY s.pos",
            )
            .rows(&rooms)
            .bind(upto);
        let rows = self.rows(query).await?;
        let entries = rows.iter().map(|row| {
            let (pos, kind) = state(row)?;
            Ok(Arc::new(Entry { pos, kind }))
        });
        entries.collect()
    }

    async fn entries_at(&self, kind: usize, positions: &[Pos]) -> Result<Vec<(Pos, EntryKind)>> {
        match kind {
            STATE => {
                let query = self
                    .sql(
                        "SELECT pos, room, state_key, old_event, new_event, member, membership \
                         FROM state_change WHERE pos IN NUMBERS($1)",
                    )
                    .numbers(positions.iter().copied());
                self.rows(query).await?.iter().map(state).collect()
            }
            RESTORED => {
                let query = self
                    .sql("SELECT pos, room, event FROM restored WHERE pos IN NUMBERS($1)")
                    .numbers(positions.iter().copied());
                self.rows(query).await?.iter().map(restored).collect()
            }
            fact => facts::at(self, fact - FACTS, positions).await,
        }
    }
}

fn state(row: &ReadRow) -> Result<(Pos, EntryKind)> {
    let user = row.get("member")?;
    let membership = row.get("membership")?;
    let entry = StateChanged {
        room: row.get("room")?,
        key: row.get("state_key")?,
        old: row.get("old_event")?,
        new: row.get("new_event")?,
        member: Option::zip(user, membership),
    };
    Ok((row.get("pos")?, EntryKind::State(entry)))
}

fn restored(row: &ReadRow) -> Result<(Pos, EntryKind)> {
    let entry = EventRestored {
        room: row.get::<RoomNo>("room")?,
        event: row.get("event")?,
    };
    Ok((row.get("pos")?, EntryKind::Restored(entry)))
}
