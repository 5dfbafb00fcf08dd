//! A room's turn: its row is locked first, and what is written is decided then.
//!
//! Mostly a write set is decided first and refused if others have been quicker; whoever has lost a few times in a row to
//! other processes takes a turn. The commit queue locks the room's row in the transaction that it is going to write in,
//! takes in what others had committed, and waits for the write set. So nobody can come in between; but until then nobody
//! else writes to the room, nor anything else from this process. A turn is for who knows what they want: what they read
//! may wait for nothing that is written by this queue. And it is for who decides quickly: a turn doesn't last, and who was too
//! slow for one decides again without ([`CommitError::TurnOver`]).

use std::time::Duration;

use tokio::sync::oneshot;

use super::gather::{GatheredSet, gather};
use super::{CommitResult, Job, Submitted, closing, commit_group};
use crate::engine::db::Tx;
use crate::{CommitError, Committed, Error, Result, RoomNo, Store, WriteSet};

/// A room whose row is locked for this process. Dropping it ends the turn.
#[derive(Debug)]
pub struct Turn {
    store: Store,
    give: oneshot::Sender<(WriteSet, GatheredSet)>,
    answered: oneshot::Receiver<CommitResult>,
}

/// What the commit queue has of a turn.
#[derive(Debug)]
pub(super) struct Asked {
    room: RoomNo,
    begun: oneshot::Sender<()>,
    set: oneshot::Receiver<(WriteSet, GatheredSet)>,
}

impl Store {
    /// Waits for a turn of a room; from then on what is read of it stays so. `None`: there are no other processes, and
    /// locks of this one will do.
    ///
    /// # Errors
    /// Those of the database; the row couldn't be locked in time.
    pub async fn take_turn(&self, room: RoomNo) -> Result<Option<Turn>> {
        if !self.is_shared() {
            return Ok(None);
        }
        let queue = self.queue().ok_or_else(|| Error::broken("no queue"))?;
        let (answer, answered) = oneshot::channel();
        let (begun, begins) = oneshot::channel();
        let (give, set) = oneshot::channel();
        let job = Job {
            set: WriteSet::default(),
            gathered: GatheredSet::default(),
            answer,
            maybe_done: false,
            can_wait: false,
            turn: Some(Asked { room, begun, set }),
        };
        queue.send(job).await.map_err(|_| closing())?;
        if begins.await.is_ok() {
            self.core.counters.turns(1);
            return Ok(Some(Turn {
                store: self.clone(),
                give,
                answered,
            }));
        }
        match answered.await {
            Ok(Err(CommitError::Store(error))) => Err(error),
            _ => Err(closing()),
        }
    }
}

impl Turn {
    /// How long a turn lasts at most, in which nothing else is written.
    pub const MOST: Duration = Duration::from_secs(1);

    /// As [`Store::submit`], in this turn.
    ///
    /// # Errors
    /// Those of the database. That the turn was over by then ([`CommitError::TurnOver`]) is the answer.
    pub async fn submit(self, set: WriteSet) -> Result<Submitted, CommitError> {
        let gathered = gather(&self.store, &set).await?;
        // Where nobody takes it the turn is over, and the answer is there.
        let _ = self.give.send((set, gathered));
        Ok(Submitted(self.answered))
    }

    /// As [`Store::commit`], in this turn.
    ///
    /// # Errors
    /// The same.
    pub async fn commit(self, set: WriteSet) -> Result<Committed, CommitError> {
        self.submit(set).await?.await
    }
}

/// Gives somebody the turn that they ask for, and writes what comes of it.
pub(super) async fn give(store: &Store, mut job: Job) {
    let Some(Asked { room, begun, set }) = job.turn.take() else {
        return;
    };
    let tx = match hold(store, room).await {
        Ok(tx) => tx,
        Err(error) => {
            let _ = job.answer.send(Err(error.into()));
            return;
        }
    };
    // They may have gone.
    let given = match begun.send(()) {
        Ok(()) => tokio::time::timeout(Turn::MOST, set).await.ok(),
        Err(()) => None,
    };
    if let Some(Ok((set, gathered))) = given {
        (job.set, job.gathered) = (set, gathered);
        commit_group(store, vec![job], Some(tx)).await;
    } else {
        tx.rollback().await;
        let _ = job.answer.send(Err(CommitError::TurnOver));
    }
}

/// A transaction that has the room's row. What others had done to the room is known here.
async fn hold(store: &Store, room: RoomNo) -> Result<Tx> {
    // Most of it before others have to wait, and before the database counts how long nothing is asked.
    store.log().refresh().await?;
    let mut tx = store.begin_commit().await?;
    let lock = tx
        .sql("SELECT no FROM room WHERE no = $1 FOR_UPDATE")
        .bind(room);
    tx.rows(lock).await?;
    store.core.caches.rooms.remove(&room);
    store.log().refresh().await?;
    Ok(tx)
}
