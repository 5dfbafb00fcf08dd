//! What other servers sent: transactions that were done, and events that can't be decided yet.
//!
//! An event comes into the inbox with its form, signatures and hash checked, and leaves it when it is
//! decided or given up. Rows are claimed by moving their due time into the future: whoever dies with
//! a claim only delays.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};

use crate::engine::db::{Columns as _, json_rows};
use crate::engine::dialect::escaped;
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
            .bind(origin.to_string())
            .bind(escaped(txn_id).into_owned());
        Ok(self.row(query).await?.map(|row| row.text(0)).transpose()?)
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
            .map(|(place, event)| {
                (
                    escaped(event.event_id.as_str()),
                    event.origin.as_str(),
                    escaped(event.room_id.as_str()),
                    &event.room_version,
                    &event.event,
                    event.received_ts,
                    place,
                )
            })
            .collect();
        let query = self
            .sql(
                "INSERT INTO inbox (event_id, origin, room_id, room_version, event, received_ts, place, \
                                    attempts, due_ts) \
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
                        CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT), 0, \
                        CAST(value ->> 5 AS BIGINT) \
                 FROM EACH($1) WHERE 1 = 1 \
                 ON CONFLICT (event_id, origin) DO NOTHING",
            )
            .bind(json_rows(&rows)?);
        self.execute(query).await?;
        Ok(taken)
    }

    /// How many events of a server wait.
    pub async fn inbox_size(&self, origin: &ServerName) -> Result<i64> {
        let query = self
            .sql("SELECT COUNT(*) FROM inbox WHERE origin = $1")
            .bind(origin.to_string());
        Ok(self
            .row(query)
            .await?
            .map(|row| row.int(0))
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
            .bind(count(per_origin))
            .bind(count(limit));
        let mut lanes = Vec::new();
        for row in self.rows(query).await? {
            lanes.push(InboxLane {
                room_id: row.id(0)?,
                origin: row.id(1)?,
                is_new: row.int(2)? == 0,
            });
        }
        Ok(lanes)
    }

    /// When the next event that isn't due at `now` comes due.
    pub async fn inbox_next_due(&self, now: i64) -> Result<Option<i64>> {
        let query = self
            .sql("SELECT MIN(due_ts) FROM inbox WHERE due_ts > $1")
            .bind(now);
        match self.row(query).await? {
            Some(row) => Ok(row.int_opt(0)?),
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
            .bind(escaped(room_id.as_str()).into_owned())
            .bind(origin.to_string())
            .bind(now)
            .bind(until)
            .bind(if only_new { 0 } else { i64::MAX })
            .bind(count(limit));
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
            .bind(escaped(room_id.as_str()).into_owned())
            .bind(now)
            .bind(count(per_origin))
            .bind(count(limit));
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
            .bind(escaped(event_id.as_str()).into_owned());
        self.execute(query).await?;
        Ok(())
    }

    /// Takes one server's copy of an event out: it is given up.
    pub async fn inbox_give_up(&self, event_id: &EventId, origin: &ServerName) -> Result<()> {
        let query = self
            .sql("DELETE FROM inbox WHERE event_id = $1 AND origin = $2")
            .bind(escaped(event_id.as_str()).into_owned())
            .bind(origin.to_string());
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
            .bind(escaped(event_id.as_str()).into_owned())
            .bind(origin.to_string())
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
            .bind(escaped(event_id.as_str()).into_owned())
            .bind(origin.to_string())
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
            .bind(escaped(room_id.as_str()).into_owned())
            .bind(self.clock().now_ms());
        self.execute(query).await
    }
}

/// A row of the inbox, with its place among what arrived at the same time.
fn waiting(row: &sqlx::any::AnyRow) -> Result<(i64, InboxEvent)> {
    let event = InboxEvent {
        event_id: row.id(0)?,
        origin: row.id(1)?,
        room_id: row.id(2)?,
        room_version: row.raw(3)?,
        event: row.raw(4)?.into(),
        received_ts: row.int(5)?,
        attempts: row.int(6)?,
    };
    Ok((row.int(7)?, event))
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_room_id, owned_server_name, room_id, server_name};

    use super::*;
    use crate::testing::{TestDatabase, each_database};
    use crate::{Clock, Fact, Options, WriteSet};

    fn event(name: &str, room: &str, received_ts: i64) -> InboxEvent {
        InboxEvent {
            event_id: format!("${name}").try_into().unwrap(),
            origin: owned_server_name!("far.org"),
            room_id: room.try_into().unwrap(),
            room_version: "12".to_owned(),
            event: r#"{"a":"\u0000'\"","b":9007199254740991}"#.into(),
            received_ts,
            attempts: 0,
        }
    }

    fn names(events: &[InboxEvent]) -> Vec<&str> {
        events
            .iter()
            .map(|event| &event.event_id.as_str()[1..])
            .collect()
    }

    #[tokio::test]
    async fn a_transaction_keeps_its_first_answer() {
        for database in TestDatabase::both().await {
            let store = database.open().await;
            let (origin, txn) = (server_name!("far.org"), "a\u{0}b");
            assert_eq!(store.inbound_txn(origin, txn).await.unwrap(), None);
            for response in [r#"{"pdus":{}}"#, "{}"] {
                let fact = Fact::InboundTxn {
                    origin: origin.to_owned(),
                    txn_id: txn.to_owned(),
                    response: response.to_owned(),
                    received_ts: 5,
                };
                let set = WriteSet {
                    facts: vec![fact],
                    ..WriteSet::default()
                };
                store.commit(set).await.unwrap();
            }
            assert_eq!(
                store.inbound_txn(origin, txn).await.unwrap().as_deref(),
                Some(r#"{"pdus":{}}"#)
            );
            assert_eq!(
                store
                    .inbound_txn(server_name!("near.org"), txn)
                    .await
                    .unwrap(),
                None
            );
            assert_eq!(store.forget_inbound_txns(i64::MAX).await.unwrap(), 1);
            assert_eq!(store.inbound_txn(origin, txn).await.unwrap(), None);
            store.close().await;
        }
    }

    #[tokio::test]
    async fn events_wait_in_order_and_are_claimed_once() {
        for database in TestDatabase::both().await {
            let options = Options {
                clock: Clock::manual(300),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let room = room_id!("!room:far.org");
            let added = [event("b", room.as_str(), 5), event("a", room.as_str(), 5)];
            assert_eq!(store.inbox_add(&added, 3).await.unwrap(), 2);
            // Again: kept once.
            assert_eq!(store.inbox_add(&added[..1], 3).await.unwrap(), 1);
            assert_eq!(
                store
                    .inbox_add(&[event("c", "!other:far.org", 9), event("d", "!x:y", 9)], 3)
                    .await
                    .unwrap(),
                1
            );
            assert_eq!(store.inbox_size(server_name!("far.org")).await.unwrap(), 3);
            let far = server_name!("far.org");
            let lane = |room_id: &RoomId, is_new| InboxLane {
                room_id: room_id.to_owned(),
                origin: far.to_owned(),
                is_new,
            };
            let other = owned_room_id!("!other:far.org");
            assert_eq!(
                store.inbox_lanes(100, 10, 10).await.unwrap(),
                [lane(room, true), lane(&other, true)]
            );

            let claim =
                async |now, until| store.inbox_claim(room, far, false, (now, until), 10).await;
            let claimed = claim(100, 200).await.unwrap();
            assert_eq!(names(&claimed), ["b", "a"]);
            assert_eq!(claimed[0], added[0]);
            assert!(claim(100, 200).await.unwrap().is_empty());
            assert_eq!(store.inbox_next_due(100).await.unwrap(), Some(200));

            // One is decided, one is put off, then woken.
            store.inbox_done(&owned_event_id!("$b")).await.unwrap();
            store
                .inbox_later(&owned_event_id!("$a"), server_name!("far.org"), 500)
                .await
                .unwrap();
            assert!(claim(300, 400).await.unwrap().is_empty());
            assert_eq!(store.inbox_wake(room).await.unwrap(), 1);
            assert_eq!(
                store.inbox_lanes(300, 10, 1).await.unwrap(),
                [lane(&other, true)]
            );
            assert!(
                (store
                    .inbox_claim(room, far, true, (300, 400), 10)
                    .await
                    .unwrap())
                .is_empty(),
                "it isn't new"
            );
            let again = claim(300, 400).await.unwrap();
            assert_eq!((names(&again), again[0].attempts), (vec!["a"], 1));
            store
                .inbox_give_up(&again[0].event_id, &again[0].origin)
                .await
                .unwrap();
            assert_eq!(
                store.inbox_lanes(1_000, 10, 10).await.unwrap(),
                [lane(&other, true)]
            );
            store.close().await;
        }
    }

    #[tokio::test]
    async fn everybodys_first_goes_before_anybodys_second() {
        each_database(async |store: Store| {
            let of = |origin: &str, room: &str, received_ts| InboxEvent {
                origin: origin.try_into().unwrap(),
                ..event(
                    &format!("{origin}-{room}"),
                    &format!("!{room}:x"),
                    received_ts,
                )
            };
            let many: Vec<_> = (0..5)
                .map(|n| of("many.org", &n.to_string(), 10 + n))
                .collect();
            store.inbox_add(&many, 100).await.unwrap();
            store
                .inbox_add(&[of("few.org", "9", 90)], 100)
                .await
                .unwrap();
            let lanes = store.inbox_lanes(100, 3, 10).await.unwrap();
            let lanes: Vec<_> = lanes
                .iter()
                .map(|lane| (lane.origin.as_str(), lane.room_id.as_str()))
                .collect();
            assert_eq!(
                lanes,
                [
                    ("many.org", "!0:x"),
                    ("few.org", "!9:x"),
                    ("many.org", "!1:x"),
                    ("many.org", "!2:x"),
                ]
            );
        })
        .await;
    }

    /// Waiting for something else than an answer is no attempt; what is put off waits, and can be looked at.
    #[tokio::test]
    async fn what_was_not_tried_counts_no_attempt() {
        each_database(async |store: Store| {
            let (room, far) = (room_id!("!room:far.org"), server_name!("far.org"));
            let added: Vec<_> = (0..6)
                .map(|n| event(&n.to_string(), room.as_str(), 10 + n))
                .collect();
            store.inbox_add(&added, 100).await.unwrap();
            let claim = async |now, until, limit| {
                let claimed = store.inbox_claim(room, far, false, (now, until), limit);
                claimed.await.unwrap()
            };
            let claimed = claim(100, 200, 3).await;
            assert_eq!(names(&claimed), ["0", "1", "2"]);
            // The first is tried in vain, the others are put off.
            store
                .inbox_later(&claimed[0].event_id, far, 300)
                .await
                .unwrap();
            for event in &claimed[1..] {
                store
                    .inbox_put_off(&event.event_id, far, 250)
                    .await
                    .unwrap();
            }
            let claimed = claim(249, 400, 10).await;
            assert_eq!(names(&claimed), ["3", "4", "5"]);
            let waiting = store.inbox_waiting(room, 249, 4, 10).await.unwrap();
            assert_eq!(names(&waiting), ["1", "2", "3", "4"]);
            let claimed = claim(500, 600, 10).await;
            assert_eq!(names(&claimed), ["1", "2", "3", "4", "5", "0"]);
            let tries: Vec<_> = claimed.iter().map(|event| event.attempts).collect();
            assert_eq!(tries, [0, 0, 0, 0, 0, 1]);
            assert_eq!(store.inbox_forget(13).await.unwrap(), 3);
            assert_eq!(store.inbox_size(far).await.unwrap(), 3);
        })
        .await;
    }
}
