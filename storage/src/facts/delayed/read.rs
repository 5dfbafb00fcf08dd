//! Delayed events, read back.

use std::sync::Arc;
use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId};

use crate::engine::clock::millis;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::facts::delay_id::{DelayId, txn_digest};
use crate::{Result, Store, TxnKey, UserNo};

/// How long it is kept what became of one.
pub(crate) const KEPT_FOR: Duration = Duration::from_hours(7 * 24);
/// How many rows are deleted at once.
const PIECE: usize = 500;

/// An event that is to be sent later, or what became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedEvent {
    /// Its id.
    pub id: DelayId,
    /// Whose.
    pub user: UserNo,
    /// Where it is to be sent.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub kind: String,
    /// Its state key, if it is state.
    pub state_key: Option<String>,
    /// Its content, as JSON.
    pub content: Arc<str>,
    /// For how many milliseconds it is to be sticky.
    pub sticky_ms: Option<i64>,
    /// How many milliseconds it waits.
    pub delay_ms: i64,
    /// Since when, in milliseconds since 1970.
    pub scheduled_ms: i64,
    /// Until when; `None` once it is over.
    pub due_ms: Option<i64>,
    /// What became of it.
    pub end: Option<DelayedEnd>,
}

/// What became of a delayed event: it was sent, it couldn't be, or else it was cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedEnd {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// As which event it was sent.
    pub event_id: Option<OwnedEventId>,
    /// Why it couldn't be, as JSON.
    pub error: Option<String>,
}

/// A query for whole ones.
macro_rules! select {
    ($($rest:literal),*) => {
        concat!(
            "SELECT delay_id, user_no, room_id, kind, state_key, content, sticky_ms, delay_ms, scheduled_ms, \
             due_ms, finalised_ms, event_id, error FROM delayed_event ",
            $($rest),*
        )
    };
}

impl DelayedEvent {
    fn read(row: &ReadRow) -> Result<Self> {
        let end = match row.get("finalised_ms")? {
            Some(at_ms) => Some(DelayedEnd {
                at_ms,
                event_id: row.get("event_id")?,
                error: row.get("error")?,
            }),
            None => None,
        };
        Ok(Self {
            id: DelayId::of(row.get::<String>("delay_id")?),
            user: row.get("user_no")?,
            room_id: row.get("room_id")?,
            kind: row.get("kind")?,
            state_key: row.get("state_key")?,
            content: row.get("content")?,
            sticky_ms: row.get("sticky_ms")?,
            delay_ms: row.get("delay_ms")?,
            scheduled_ms: row.get("scheduled_ms")?,
            due_ms: row.get("due_ms")?,
            end,
        })
    }
}

impl Store {
    /// The delayed event with this id.
    pub async fn delayed_event(&self, id: &DelayId) -> Result<Option<DelayedEvent>> {
        let query = self.sql(select!("WHERE digest = $1")).bind(id.digest());
        let row = self.row(query).await?;
        row.as_ref().map(DelayedEvent::read).transpose()
    }

    /// What the user has scheduled, in the order in which it is due.
    pub async fn delayed_events(&self, user: UserNo) -> Result<Vec<DelayedEvent>> {
        let query = self
            .sql(select!(
                "WHERE user_no = $1 AND due_ms IS NOT NULL ORDER BY due_ms, pos"
            ))
            .bind(user);
        let rows = self.rows(query).await?;
        rows.iter().map(DelayedEvent::read).collect()
    }

    /// What a transaction has scheduled. The commit decides; this is for repetitions.
    pub async fn delayed_by(&self, txn: &TxnKey) -> Result<Option<DelayId>> {
        let query = self
            .sql("SELECT delay_id FROM delayed_event WHERE user_no = $1 AND txn = $2")
            .bind(txn.user)
            .bind(txn_digest(txn)?);
        let row = self.row(query).await?;
        row.map(|row| Ok(DelayId::of(row.get::<String>("delay_id")?)))
            .transpose()
    }

    /// Users who have something that is due at `now_ms`, whose is due first before others: the first `limit`, but for
    /// `without`.
    pub async fn users_with_due(
        &self,
        now_ms: i64,
        without: &[UserNo],
        limit: usize,
    ) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT user_no, MIN(due_ms) AS first FROM delayed_event \
                 WHERE due_ms <= $1 AND user_no NOT IN NUMBERS($2) \
                 GROUP BY user_no ORDER BY first LIMIT $3",
            )
            .bind(now_ms)
            .numbers(without.iter().copied())
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }

    /// What of the user's is due at `now_ms`, the first `limit` in order.
    pub async fn due_delayed(
        &self,
        user: UserNo,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<DelayedEvent>> {
        let query = self
            .sql(select!(
                "WHERE user_no = $1 AND due_ms <= $2 ORDER BY due_ms, pos LIMIT $3"
            ))
            .bind(user)
            .bind(now_ms)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(DelayedEvent::read).collect()
    }

    /// When the next one is due, those of `without` apart.
    pub async fn next_delayed_ms(&self, without: &[UserNo]) -> Result<Option<i64>> {
        let query = self
            .sql(
                "SELECT due_ms FROM delayed_event \
                 WHERE due_ms IS NOT NULL AND user_no NOT IN NUMBERS($1) ORDER BY due_ms LIMIT 1",
            )
            .numbers(without.iter().copied());
        let row = self.row(query).await?;
        row.map(|row| row.get("due_ms")).transpose()
    }

    /// Deletes what has been over for long. Gives the number of rows.
    pub(crate) async fn purge_delayed(&self, pause: Duration) -> Result<u64> {
        let mut gone = 0;
        loop {
            let query = self
                .sql(
                    "DELETE FROM delayed_event WHERE digest IN \
                     (SELECT digest FROM delayed_event WHERE finalised_ms <= $1 LIMIT $2)",
                )
                .bind(self.clock().now_ms().saturating_sub(millis(KEPT_FOR)))
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
