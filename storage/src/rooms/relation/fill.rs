//! Looking through the events from before there was a table of relations, once.
//!
//! In pieces, by number; how far it has come is written with what was found, so that it goes on from there after
//! a restart. What a piece finds is written under the locks of its rooms' rows, which every commit takes first: an event
//! that is redacted meanwhile isn't written, or is deleted again by the redaction.
//!
//! Then come the rows that say less than is written now: those from before, and what an older binary has written beside
//! this one. An index holds them, so that they are looked for at every start.

use std::time::Duration;

use rhizome_protocol::Object;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::rows::{Child, IN_THREADS, INSERT, RelationRow};
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{EventNo, Lease, Result, RoomNo, Store};

/// Events that are looked at in one piece.
const PIECE: usize = 500;
/// The lease, and how long it lasts; every piece renews it.
const LEASE: (&str, Duration) = ("relations", Duration::from_mins(2));
/// How long to wait when another process has the lease, or something went wrong.
const AGAIN: Duration = Duration::from_mins(1);

/// What is read of an event.
#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type")]
    kind: String,
    sender: OwnedUserId,
    content: Object,
    state_key: Option<String>,
    #[serde(default)]
    origin_server_ts: i64,
}

impl Said {
    fn child(&self) -> Child<'_> {
        Child {
            kind: &self.kind,
            content: &self.content,
            is_state: self.state_key.is_some(),
            ts: self.origin_server_ts,
        }
    }
}

/// How far a pass has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Further,
    ToTheEnd,
    /// Another process does it now.
    LeaseLost,
}

/// Looks through what there is to be looked through, with a pause between the pieces, until all is or `stop`. What goes
/// wrong is logged and tried again.
pub async fn run(store: Store, pause: Duration, stop: CancellationToken) -> Result<()> {
    let run = async {
        loop {
            match store.fill_relations(pause).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "relations of stored events can't be found"),
            }
            store.clock().sleep(AGAIN).await;
        }
    };
    if stop.run_until_cancelled(run).await.is_some() {
        // Who watches over tasks starts those that end again.
        stop.cancelled().await;
    }
    Ok(())
}

impl Store {
    /// Looks through the events from before there was a table of relations. `false` if another process does.
    pub async fn fill_relations(&self, pause: Duration) -> Result<bool> {
        let nothing = self.looked_through().await?.is_none();
        if nothing && self.unfilled(EventNo(i64::MIN), 1).await?.is_empty() {
            return Ok(true);
        }
        let (name, length) = LEASE;
        let Some(lease) = Lease::take(self, name, Some(length)).await? else {
            return Ok(false);
        };
        let came = match self.fill_all(&lease, pause).await {
            Ok(Came::ToTheEnd) => self.complete_all(&lease, pause).await,
            other => other,
        };
        lease.release().await?;
        if came? == Came::LeaseLost {
            return Ok(false);
        }
        tracing::info!("relations of all stored events were found");
        Ok(true)
    }

    async fn fill_all(&self, lease: &Lease, pause: Duration) -> Result<Came> {
        loop {
            match self.fill_piece(lease).await? {
                Came::Further if pause.is_zero() => {}
                Came::Further => self.clock().sleep(pause).await,
                other => return Ok(other),
            }
            if !lease.renew().await? {
                return Ok(Came::LeaseLost);
            }
        }
    }

    /// Writes the rows again that say less than is written now.
    async fn complete_all(&self, lease: &Lease, pause: Duration) -> Result<Came> {
        let mut after = EventNo(i64::MIN);
        loop {
            let nos = self.unfilled(after, PIECE).await?;
            let Some(last) = nos.last() else {
                return Ok(Came::ToTheEnd);
            };
            // What can't be written stays behind.
            after = *last;
            let query = self
                .sql(
                    "SELECT no, room, json FROM event WHERE no IN NUMBERS($1) AND ord IS NOT NULL \
                     AND redacted_by IS NULL",
                )
                .numbers(nos);
            let rows = self.relations_in(&self.rows(query).await?).await?;
            let mut tx = self.begin().await?;
            if !lease.hold(&mut tx).await? {
                tx.rollback().await;
                return Ok(Came::LeaseLost);
            }
            write(&mut tx, &rows).await?;
            tx.commit().await?;
            if !pause.is_zero() {
                self.clock().sleep(pause).await;
            }
            if !lease.renew().await? {
                return Ok(Came::LeaseLost);
            }
        }
    }

    /// Children whose rows say less than is written now, by number.
    async fn unfilled(&self, after: EventNo, limit: usize) -> Result<Vec<EventNo>> {
        let query = self
            .sql(
                "SELECT child FROM relation WHERE visibility IS NULL AND child > $1 \
                 ORDER BY child LIMIT $2",
            )
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("child")).collect()
    }

    /// Up to which number all events have been looked at; `None` if there is nothing left to do.
    async fn looked_through(&self) -> Result<Option<EventNo>> {
        let query = self.sql("SELECT upto FROM relation_fill WHERE id = 1");
        let row = self.row(query).await?;
        row.map(|row| row.get("upto")).transpose()
    }

    async fn fill_piece(&self, lease: &Lease) -> Result<Came> {
        let Some(after) = self.looked_through().await? else {
            return Ok(Came::ToTheEnd);
        };
        let upto = self.end_of_piece(after).await?;
        let rows = match upto {
            Some(upto) => self.relations_between(after, upto).await?,
            None => Vec::new(),
        };
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(Came::LeaseLost);
        }
        write(&mut tx, &rows).await?;
        let query = match upto {
            Some(upto) => (tx.sql("UPDATE relation_fill SET upto = $1 WHERE id = 1")).bind(upto),
            None => tx.sql("DELETE FROM relation_fill WHERE id = 1"),
        };
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(upto.map_or(Came::ToTheEnd, |_| Came::Further))
    }

    /// The number of a piece's last event; `None` if there is none after this one.
    async fn end_of_piece(&self, after: EventNo) -> Result<Option<EventNo>> {
        let query = self
            .sql(
                "SELECT MAX(no) AS last FROM \
                 (SELECT no FROM event WHERE no > $1 ORDER BY no LIMIT $2) AS piece",
            )
            .bind(after)
            .bind(PIECE);
        match self.row(query).await? {
            Some(row) => row.get("last"),
            None => Ok(None),
        }
    }

    async fn relations_between(&self, after: EventNo, upto: EventNo) -> Result<Vec<RelationRow>> {
        // Events are stored in canonical form: who relates has these letters.
        let query = self
            .sql(
                "SELECT no, room, json FROM event WHERE no > $1 AND no <= $2 AND ord IS NOT NULL \
                 AND redacted_by IS NULL AND json LIKE '%\"m.relates_to\"%'",
            )
            .bind(after)
            .bind(upto);
        self.relations_in(&self.rows(query).await?).await
    }

    /// What the events that were read relate to.
    async fn relations_in(&self, events: &[ReadRow]) -> Result<Vec<RelationRow>> {
        let (mut rows, mut senders) = (Vec::new(), Vec::new());
        for row in events {
            let (no, room): (EventNo, RoomNo) = (row.get("no")?, row.get("room")?);
            let json: String = row.get("json")?;
            // What can't be read relates to nothing.
            let Ok(said) = serde_json::from_str::<Said>(&json) else {
                continue;
            };
            if let Some(new) = RelationRow::new(no, room, &said.child()) {
                rows.push(new);
                senders.push(said.sender);
            }
        }
        let senders: Vec<&UserId> = senders.iter().map(|sender| &**sender).collect();
        RelationRow::sent_by(&mut rows, self, &senders).await?;
        Ok(rows)
    }
}

/// Writes what was found, under the locks of its rooms' rows.
async fn write(tx: &mut Tx, rows: &[RelationRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rooms = rows.iter().map(|row| row.room);
    let query = tx
        .sql("SELECT no FROM room WHERE no IN NUMBERS($1) ORDER BY no FOR_UPDATE")
        .numbers(rooms);
    tx.rows(query).await?;
    for statement in [INSERT, IN_THREADS] {
        let query = tx.sql(statement).rows(rows);
        tx.execute(query).await?;
    }
    Ok(())
}
