//! Events by the time at which they say that they were sent.
//!
//! A commit writes the time of each event. Those that were stored before there was a column for it, or by an older
//! process beside this one, get theirs when somebody looks for a moment of their room.

use std::sync::Arc;

use serde::Deserialize;

use crate::engine::sql::{Columns as _, rows};
use crate::{Direction, EventNo, HistoryToken, Pos, Result, RoomNo, Store, StoredEvent};

/// Events that get their times together.
const PIECE: usize = 500;

/// A place between events in the order of their times; those of the same time are in the history's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeToken {
    /// Milliseconds since 1970.
    pub ts: i64,
    /// Right after this place among events of that time.
    pub place: HistoryToken,
}

impl TimeToken {
    /// Before all events of this time, on the way to the future; after them on the way to the past.
    pub fn at(ts: i64, direction: Direction) -> Self {
        let place = match direction {
            Direction::Forward => HistoryToken::START,
            Direction::Backward => HistoryToken::END,
        };
        Self { ts, place }
    }

    /// Behind an event of the history, in this direction.
    pub fn beyond(event: &StoredEvent, direction: Direction) -> Option<Self> {
        let place = match direction {
            Direction::Forward => HistoryToken::after(event),
            Direction::Backward => HistoryToken::before(event),
        };
        let ts = event.pdu.origin_server_ts();
        place.map(|place| Self { ts, place })
    }
}

rows! {
    struct TimeRow {
        no: EventNo,
        ts: i64,
    }
}

/// What is read of an event.
#[derive(Deserialize)]
struct Sent {
    origin_server_ts: i64,
}

impl Store {
    /// At most `limit` events of the room's history from a moment on, in the direction's order. Live events after `upto`
    /// are left out, and those that have [no time yet](Store::fill_times).
    pub async fn events_by_time(
        &self,
        room: RoomNo,
        from: TimeToken,
        direction: Direction,
        limit: usize,
        upto: Pos,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self.sql(match direction {
            Direction::Backward => {
                "SELECT no FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND (ts, depth, ord) <= ($2, $3, $4) AND ord <= $5 \
                 ORDER BY ts DESC, depth DESC, ord DESC LIMIT $6"
            }
            Direction::Forward => {
                "SELECT no FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND (ts, depth, ord) > ($2, $3, $4) AND ord <= $5 \
                 ORDER BY ts, depth, ord LIMIT $6"
            }
        });
        let query = query.bind(room).bind(from.ts);
        let query = query.bind(from.place.depth).bind(from.place.order);
        self.listed(query.bind(upto).bind(limit)).await
    }

    /// Gives events of the room that have no time theirs, about `most` of them at most. Whether all have it now.
    pub async fn fill_times(&self, room: RoomNo, most: usize) -> Result<bool> {
        let mut filled = 0;
        loop {
            let query = self
                .sql(
                    // In this order, so that it is the index of times that is asked, and finds none at once.
                    "SELECT no, json FROM event WHERE room = $1 AND ord IS NOT NULL AND ts IS NULL \
                     ORDER BY depth, ord LIMIT $2",
                )
                .bind(room)
                .bind(PIECE);
            let rows = self.rows(query).await?;
            if rows.is_empty() {
                return Ok(true);
            }
            if filled >= most {
                return Ok(false);
            }
            filled += rows.len();
            let mut times = Vec::with_capacity(rows.len());
            for row in &rows {
                let sent: Sent = serde_json::from_str(&row.get::<String>("json")?)?;
                times.push(TimeRow {
                    no: row.get("no")?,
                    ts: sent.origin_server_ts,
                });
            }
            // In one order everywhere: two processes may write the same ones.
            times.sort_by_key(|row| row.no);
            let query = self
                .sql(
                    "UPDATE event SET ts = x.ts FROM ROWS($1) AS x \
                     WHERE event.no = x.no AND event.ts IS NULL",
                )
                .rows(&times);
            self.execute(query).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_before_or_after_what_was_sent_then() {
        let (from, to) = (
            TimeToken::at(5, Direction::Forward),
            TimeToken::at(5, Direction::Backward),
        );
        let then = TimeToken {
            ts: 5,
            place: HistoryToken { depth: 1, order: 1 },
        };
        assert!(from < then && then < to);
        assert!(TimeToken::at(4, Direction::Backward) < from);
    }
}
