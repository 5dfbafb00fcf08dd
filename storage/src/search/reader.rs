//! Filling the index: from the log as it grows, and from the history that is fetched or was there before.
//!
//! What was said last isn't in the index yet: it is searched as it is ([`super::find`]), so that the index is written
//! for many messages at once, and what was sent is found as soon as it is there. How far the index goes is written
//! with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::index::Touched;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{EntryKind, EventNo, Failure, Lease, LogWork, Pos, Result, Store, Stretch};

/// After so many events it is written, …
const EVENTS: usize = 200;
/// … or after so many entries of the log.
const ENTRIES: usize = 10_000;
/// Events of the history that are looked at in one piece.
const PIECE: usize = 500;
/// How long the history may have grown before it is looked at.
const PAUSE: Duration = Duration::from_secs(5);
/// For how long a process goes through the history; every piece renews it.
const LEASE: (&str, Duration) = ("search history", Duration::from_mins(2));

/// Takes into the index what the log says, as the work of a [`LogReader`](crate::LogReader).
#[derive(Debug)]
pub struct FillSearch {
    store: Store,
    waiting: Mutex<Waiting>,
    /// After so many events it is written.
    events: usize,
}

/// What isn't written yet.
#[derive(Debug, Default)]
struct Waiting {
    lease: Option<Lease>,
    touched: Touched,
    entries: usize,
    /// Which events, of any type: who searches looks at each.
    events: usize,
}

impl FillSearch {
    /// For what this database holds.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            waiting: Mutex::default(),
            events: EVENTS,
        }
    }

    /// Writes after so many events already: for tests.
    #[must_use]
    pub fn after_every(self, events: usize) -> Self {
        Self { events, ..self }
    }

    fn waiting<T>(&self, look: impl FnOnce(&mut Waiting) -> T) -> T {
        look(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogWork for FillSearch {
    // It stands with the index.
    const KEEPS_CURSOR: bool = false;

    async fn begin(&self, lease: &Lease, _done: Pos) -> Result<Pos, Failure> {
        let lease = Some(lease.clone());
        self.waiting(|waiting| {
            *waiting = Waiting {
                lease,
                ..Waiting::default()
            };
        });
        Ok(self.store.searched_upto().await?.live)
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        let due = self.waiting(|waiting| waiting.take(stretch, self.events));
        let Some((lease, touched)) = due else {
            return Ok(());
        };
        let came = Came::Live(stretch.upto);
        if !self.store.write_index(&lease, &touched, came).await? {
            return Err("another process fills the index of words".into());
        }
        self.waiting(|waiting| {
            let lease = waiting.lease.take();
            *waiting = Waiting {
                lease,
                ..Waiting::default()
            };
        });
        Ok(())
    }
}

impl Waiting {
    /// Takes what a stretch says; gives all that waits if that is enough. It may come twice.
    fn take(&mut self, stretch: &Stretch, events: usize) -> Option<(Lease, Touched)> {
        for entry in &stretch.entries {
            match &entry.kind {
                EntryKind::Event(live) => {
                    self.events += 1;
                    self.touched.take(&live.event);
                }
                EntryKind::Restored(restored) => {
                    self.touched.events.insert(restored.event);
                }
                _ => {}
            }
        }
        self.entries += stretch.entries.len();
        if self.events < events && self.entries < ENTRIES {
            return None;
        }
        Some((self.lease.clone()?, self.touched.clone()))
    }
}

/// How far the index goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upto {
    pub(super) live: Pos,
    back: i64,
}

/// How far it goes now.
#[derive(Debug, Clone, Copy)]
enum Came {
    Live(Pos),
    Back(i64),
}

/// Takes into the index what is in the history from before we were there, again and again, until `stop`. What goes
/// wrong is logged and tried again.
pub async fn index_history(store: Store, stop: CancellationToken) -> Result<()> {
    let run = async {
        loop {
            if let Err(error) = store.index_history().await {
                tracing::warn!(%error, "the history can't be taken into the index of words");
            }
            store.clock().sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(run).await;
    Ok(())
}

impl Store {
    /// Takes into the index what has come into the history from before we were there, unless another process does.
    pub async fn index_history(&self) -> Result<()> {
        if self
            .history_before(self.searched_upto().await?.back)
            .await?
            .is_empty()
        {
            return Ok(());
        }
        let (name, length) = LEASE;
        let Some(lease) = Lease::take(self, name, Some(length)).await? else {
            return Ok(());
        };
        let done = self.index_pieces(&lease).await;
        lease.release().await?;
        done
    }

    async fn index_pieces(&self, lease: &Lease) -> Result<()> {
        while lease.renew().await? && self.index_piece(lease).await? {}
        Ok(())
    }

    /// One piece; whether there may be more.
    async fn index_piece(&self, lease: &Lease) -> Result<bool> {
        let nos = self
            .history_before(self.searched_upto().await?.back)
            .await?;
        let mut touched = Touched::default();
        let events = self.events_by_no(&nos).await?;
        for event in &events {
            touched.take(event);
        }
        let Some(last) = events.last().and_then(|event| event.order) else {
            return Ok(false);
        };
        let written = self.write_index(lease, &touched, Came::Back(last)).await?;
        Ok(written && events.len() == PIECE)
    }

    async fn history_before(&self, back: i64) -> Result<Vec<EventNo>> {
        let query = self
            .sql(
                "SELECT no FROM event WHERE ord IS NOT NULL AND ord < $1 ORDER BY ord DESC LIMIT $2",
            )
            .bind(back)
            .bind(PIECE);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("no")).collect()
    }

    pub(super) async fn searched_upto(&self) -> Result<Upto> {
        let query = self.sql("SELECT live, back FROM search_upto WHERE id = 1");
        upto(self.row(query).await?)
    }

    /// Writes what has been touched, and how far the index goes now. `false` if the lease is lost.
    ///
    /// What was read while the other of the two who write it did so may be older than what that has written: then it is read
    /// once more.
    async fn write_index(&self, lease: &Lease, touched: &Touched, came: Came) -> Result<bool> {
        loop {
            let before = self.searched_upto().await?;
            let documents = self.documents(touched).await?;
            let mut tx = self.begin().await?;
            if !lease.hold(&mut tx).await? {
                tx.rollback().await;
                return Ok(false);
            }
            let query = tx.sql("SELECT live, back FROM search_upto WHERE id = 1 FOR_UPDATE");
            if upto(tx.row(query).await?)? != before {
                tx.rollback().await;
                continue;
            }
            documents.write(&mut tx, self.dialect()).await?;
            let (text, place) = match came {
                Came::Live(pos) => ("UPDATE search_upto SET live = $1 WHERE id = 1", pos.0),
                Came::Back(ord) => ("UPDATE search_upto SET back = $1 WHERE id = 1", ord),
            };
            let query = tx.sql(text).bind(place);
            tx.execute(query).await?;
            tx.commit().await?;
            return Ok(true);
        }
    }
}

fn upto(row: Option<ReadRow>) -> Result<Upto> {
    let row = row.ok_or_else(|| crate::Error::broken("search_upto has no row"))?;
    Ok(Upto {
        live: row.get("live")?,
        back: row.get("back")?,
    })
}
