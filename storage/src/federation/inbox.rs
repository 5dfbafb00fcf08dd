//! What other servers sent: transactions that were done, and events that can't be decided yet.
//!
//! An event comes into the inbox with its form, signatures and hash checked, and leaves it when it is
//! decided or given up. Rows are claimed by moving their due time into the future: whoever dies with
//! a claim only delays.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};

use crate::engine::sql::{Columns as _, rows};
use crate::{Result, Store};

/// An event that waits to be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxEvent {
    /// The event.
    pub event_id: OwnedEventId,
    /// The server that gave it to us.
    pub origin: OwnedServerName,
    /// Its room, which we may still be joining.
    pub room_id: OwnedRoomId,
    /// The version whose rules it was checked by.
    pub room_version: String,
    /// Its canonical JSON.
    pub event: Arc<str>,
    /// When it arrived, milliseconds since 1970.
    pub received_ts: i64,
    /// How often it was tried in vain.
    pub attempts: i64,
}

rows! {
    struct InboxRow<'a> {
        event_id: &'a OwnedEventId,
        origin: &'a OwnedServerName,
        room_id: &'a OwnedRoomId,
        room_version: &'a str,
        event: &'a str,
        received_ts: i64,
        place: usize,
    }
}

/// What one origin has waiting in one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxLane {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The server that gave us the events.
    pub origin: OwnedServerName,
    /// Whether one of them was never tried.
    pub is_new: bool,
}

impl Store {
    /// The answer that a transaction of another server got, if it was done ([`Fact::InboundTxn`](crate::Fact)).
    pub async fn inbound_txn(&self, origin: &ServerName, txn_id: &str) -> Result<Option<String>> {
        let query = self
            .sql("SELECT response FROM inbound_txn WHERE origin = $1 AND txn_id = $2")
            .bind(origin)
            .bind(txn_id);
        let row = self.row(query).await?;
        row.map(|row| row.get("response")).transpose()
    }

    /// Forgets transactions that were done before `before` (milliseconds since 1970).
    pub async fn forget_inbound_txns(&self, before: i64) -> Result<u64> {
        let query = self
            .sql("DELETE FROM inbound_txn WHERE received_ts < $1")
            .bind(before);
        self.execute(query).await
    }

    /// Puts events into the inbox, in order, due since they arrived. Of one origin at most `limit` are kept: gives
    /// the number of those that were (or had been) taken in, from the front.
    pub async fn inbox_add(&self, events: &[InboxEvent], limit: usize) -> Result<usize> {
        let Some(first) = events.first() else {
            return Ok(0);
        };
        let waiting = usize::try_from(self.inbox_size(&first.origin).await?).unwrap_or(usize::MAX);
        let taken = events.len().min(limit.saturating_sub(waiting));
        if taken == 0 {
            return Ok(0);
        }
        let rows: Vec<_> = events[..taken]
            .iter()
            .enumerate()
            .map(|(place, event)| InboxRow {
                event_id: &event.event_id,
                origin: &event.origin,
                room_id: &event.room_id,
                room_version: &event.room_version,
                event: &event.event,
                received_ts: event.received_ts,
                place,
            })
            .collect();
        let query = self
            .sql(
                "INSERT INTO inbox (event_id, origin, room_id, room_version, event, received_ts, place, \
                                    attempts, due_ts) \
                 SELECT event_id, origin, room_id, room_version, event, received_ts, place, 0, received_ts \
                 FROM ROWS($1) AS x WHERE true \
                 ON CONFLICT (event_id, origin) DO NOTHING",
            )
            .rows(&rows);
        self.execute(query).await?;
        Ok(taken)
    }

    /// How many events of a server wait.
    pub async fn inbox_size(&self, origin: &ServerName) -> Result<i64> {
        let query = self
            .sql("SELECT COUNT(*) AS count FROM inbox WHERE origin = $1")
            .bind(origin);
        Ok(self
            .row(query)
            .await?
            .map(|row| row.get("count"))
            .transpose()?
            .unwrap_or(0))
    }

    /// What is due at `now`, by room and origin: of each origin at most `per_origin` rooms, and everybody's first
    /// before anybody's second. New events go before those that were tried, then what waits longest.
    pub async fn inbox_lanes(
        &self,
        now: i64,
        per_origin: usize,
        limit: usize,
    ) -> Result<Vec<InboxLane>> {
        let query = self
            .sql(
                "SELECT room_id, origin, tried FROM ( \
                     SELECT room_id, origin, MIN(attempts) AS tried, MIN(due_ts) AS first, \
                     ROW_NUMBER() OVER (PARTITION BY origin ORDER BY MIN(attempts), MIN(due_ts), room_id) \
                     AS place FROM inbox WHERE due_ts <= $1 GROUP BY room_id, origin \
                 ) AS lane WHERE place <= $2 \
                 ORDER BY place, CASE WHEN tried = 0 THEN 0 ELSE 1 END, first, origin LIMIT $3",
            )
            .bind(now)
            .bind(per_origin)
            .bind(limit);
        let mut lanes = Vec::new();
        for row in self.rows(query).await? {
            lanes.push(InboxLane {
                room_id: row.get("room_id")?,
                origin: row.get("origin")?,
                is_new: row.get::<i64>("tried")? == 0,
            });
        }
        Ok(lanes)
    }

    /// When the next event that isn't due at `now` comes due.
    pub async fn inbox_next_due(&self, now: i64) -> Result<Option<i64>> {
        let query = self
            .sql("SELECT MIN(due_ts) AS due FROM inbox WHERE due_ts > $1")
            .bind(now);
        match self.row(query).await? {
            Some(row) => row.get("due"),
            None => Ok(None),
        }
    }

    /// Claims events of a room that an origin gave us and that are due at `now`, until `until`: those that were
    /// tried least first (or `only_new` ones), in order of arrival.
    pub async fn inbox_claim(
        &self,
        room_id: &RoomId,
        origin: &ServerName,
        only_new: bool,
        (now, until): (i64, i64),
        limit: usize,
    ) -> Result<Vec<InboxEvent>> {
        let query = self
            .sql(
                "UPDATE inbox SET due_ts = $4 WHERE due_ts <= $3 AND (event_id, origin) IN ( \
                     SELECT event_id, origin FROM inbox \
                     WHERE room_id = $1 AND origin = $2 AND due_ts <= $3 AND attempts <= $5 \
                     ORDER BY attempts, received_ts, place LIMIT $6) \
                 RETURNING event_id, origin, room_id, room_version, event, received_ts, attempts, place",
            )
            .bind(room_id)
            .bind(origin)
            .bind(now)
            .bind(until)
            .bind(if only_new { 0 } else { i64::MAX })
            .bind(limit);
        let rows = self.execute_returning(query).await?;
        let mut claimed = rows.iter().map(waiting).collect::<Result<Vec<_>>>()?;
        // What RETURNING gives has no order.
        claimed.sort_by_key(|(place, event)| (event.attempts, event.received_ts, *place));
        Ok(claimed.into_iter().map(|(_, event)| event).collect())
    }

    /// What waits in a room for its next attempt at `now`: the first of each origin, at most so many of all.
    pub async fn inbox_waiting(
        &self,
        room_id: &RoomId,
        now: i64,
        per_origin: usize,
        limit: usize,
    ) -> Result<Vec<InboxEvent>> {
        let query = self
            .sql(
                "SELECT event_id, origin, room_id, room_version, event, received_ts, attempts, place \
                 FROM inbox WHERE (event_id, origin) IN ( \
                     SELECT event_id, origin FROM ( \
                         SELECT event_id, origin, ROW_NUMBER() OVER ( \
                             PARTITION BY origin ORDER BY attempts, received_ts, place) AS turn \
                         FROM inbox WHERE room_id = $1 AND due_ts > $2 \
                     ) AS waits WHERE turn <= $3) \
                 ORDER BY attempts, received_ts, place LIMIT $4",
            )
            .bind(room_id)
            .bind(now)
            .bind(per_origin)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| Ok(waiting(row)?.1)).collect()
    }

    /// Gives up what has been here since before `before` (milliseconds since 1970).
    pub async fn inbox_forget(&self, before: i64) -> Result<u64> {
        let query = self
            .sql("DELETE FROM inbox WHERE received_ts < $1")
            .bind(before);
        self.execute(query).await
    }

    /// Takes an event out, whoever gave it to us: it is decided.
    pub async fn inbox_done(&self, event_id: &EventId) -> Result<()> {
        let query = self
            .sql("DELETE FROM inbox WHERE event_id = $1")
            .bind(event_id);
        self.execute(query).await?;
        Ok(())
    }

    /// Takes one server's copy of an event out: it is given up.
    pub async fn inbox_give_up(&self, event_id: &EventId, origin: &ServerName) -> Result<()> {
        let query = self
            .sql("DELETE FROM inbox WHERE event_id = $1 AND origin = $2")
            .bind(event_id)
            .bind(origin);
        self.execute(query).await?;
        Ok(())
    }

    /// Notes that an event was tried in vain, and when to try again.
    pub async fn inbox_later(
        &self,
        event_id: &EventId,
        origin: &ServerName,
        due: i64,
    ) -> Result<()> {
        let query = self
            .sql("UPDATE inbox SET due_ts = $3, attempts = attempts + 1 WHERE event_id = $1 AND origin = $2")
            .bind(event_id)
            .bind(origin)
            .bind(due);
        self.execute(query).await?;
        Ok(())
    }

    /// Puts an event off that wasn't tried.
    pub async fn inbox_put_off(
        &self,
        event_id: &EventId,
        origin: &ServerName,
        due: i64,
    ) -> Result<()> {
        let query = self
            .sql("UPDATE inbox SET due_ts = $3 WHERE event_id = $1 AND origin = $2")
            .bind(event_id)
            .bind(origin)
            .bind(due);
        self.execute(query).await?;
        Ok(())
    }

    /// Ends every claim and wait: for a process that has just started and knows that it is the only one.
    pub async fn inbox_wake_all(&self) -> Result<u64> {
        let query = self
            .sql("UPDATE inbox SET due_ts = $1 WHERE due_ts > $1")
            .bind(self.clock().now_ms());
        self.execute(query).await
    }

    /// Makes all that waits in a room due: something has come that it may have waited for. Gives the
    /// number of events that were not due.
    pub async fn inbox_wake(&self, room_id: &RoomId) -> Result<u64> {
        let query = self
            .sql("UPDATE inbox SET due_ts = $2 WHERE room_id = $1 AND due_ts > $2")
            .bind(room_id)
            .bind(self.clock().now_ms());
        self.execute(query).await
    }
}

/// A row of the inbox, with its place among what arrived at the same time.
fn waiting(row: &crate::engine::sql::ReadRow) -> Result<(i64, InboxEvent)> {
    let event = InboxEvent {
        event_id: row.get("event_id")?,
        origin: row.get("origin")?,
        room_id: row.get("room_id")?,
        room_version: row.get("room_version")?,
        event: row.get("event")?,
        received_ts: row.get("received_ts")?,
        attempts: row.get("attempts")?,
    };
    Ok((row.get("place")?, event))
}

#[cfg(test)]
mod tests;
