//! Events that are to be sent later
//! ([MSC4140](https://github.com/matrix-org/matrix-spec-proposals/pull/4140)).
//!
//! A row is there from when an event is scheduled until it is sent, cancelled or fails, and for a while after that, so that
//! its user can see what became of it. What becomes of it is decided in the commit: the fact that says that it is sent comes
//! with the event, and only if it is still scheduled, for the same time. So it is sent once, whatever ends the process, and
//! however many processes there are. Each change has a position, by which all of them hear of an event that is due earlier
//! than what they wait for ([`wake`]).

mod decide;
pub(crate) mod read;
pub(crate) mod wake;
mod write;

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId};

use super::decision::Decision;
use super::delay_id::{DelayId, txn_digest};
use super::{Audience, Kind, LoggedKind, Stored};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Result, Store, TxnKey, UserNo};
use decide::Schedules;
pub use read::{DelayedEnd, DelayedEvent};

/// An event is to be sent later, or something becomes of one.
#[derive(Debug, Clone)]
pub struct DelayedChange {
    /// Whose.
    pub user: UserNo,
    /// Which.
    pub id: DelayId,
    /// What happens.
    pub step: DelayedStep,
}

/// What happens to an event that is to be sent later. All but the first are refused
/// ([`CommitError::DelayedMoved`]) if it isn't scheduled any more.
#[derive(Debug, Clone)]
pub enum DelayedStep {
    /// It is to be sent. Refused if the transaction has scheduled one ([`CommitError::DelayedTwice`]), or the user has as many
    /// as they may ([`CommitError::TooManyDelayed`]).
    Scheduled(Box<NewDelayed>),
    /// It waits from now on for as long as it had to in the beginning.
    Restarted {
        /// For how many milliseconds.
        delay_ms: i64,
        /// Now, in milliseconds since 1970.
        now_ms: i64,
    },
    /// It isn't to be sent.
    Cancelled {
        /// Now, in milliseconds since 1970.
        now_ms: i64,
    },
    /// It couldn't be sent.
    Failed {
        /// When it was due: if that is another time by now, this is refused.
        due_ms: i64,
        /// Why, as JSON.
        error: String,
        /// Now, in milliseconds since 1970.
        now_ms: i64,
    },
    /// It is sent, with this write set.
    Sent {
        /// When it was due: if that is another time by now, this is refused. `None`: whenever it is due.
        due_ms: Option<i64>,
        /// As which event.
        event_id: OwnedEventId,
        /// Now, in milliseconds since 1970.
        now_ms: i64,
    },
}

/// An event that is to be sent later.
#[derive(Debug, Clone)]
pub struct NewDelayed {
    /// The client's transaction: the same again schedules nothing.
    pub txn: Option<TxnKey>,
    /// Where.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub kind: String,
    /// Its state key, if it is state.
    pub state_key: Option<String>,
    /// Its content, as JSON.
    pub content: Arc<str>,
    /// For how long it is to be sticky.
    pub sticky_ms: Option<i64>,
    /// In how many milliseconds.
    pub delay_ms: i64,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
    /// So many the user may have scheduled at a time.
    pub most: usize,
}

/// When an event of a user is due from now on; `None`: never any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedDue {
    /// Whose.
    pub user: UserNo,
    /// When, in milliseconds since 1970.
    pub due_ms: Option<i64>,
}

impl NewDelayed {
    fn due_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.delay_ms)
    }

    fn txn_digest(&self) -> Result<Option<String>> {
        self.txn.as_ref().map(txn_digest).transpose()
    }
}

impl DelayedChange {
    fn scheduled(&self) -> Option<&NewDelayed> {
        match &self.step {
            DelayedStep::Scheduled(new) => Some(new),
            _ => None,
        }
    }

    /// When it is due from now on.
    fn due_ms(&self) -> Option<i64> {
        match &self.step {
            DelayedStep::Scheduled(new) => Some(new.due_ms()),
            DelayedStep::Restarted { delay_ms, now_ms } => Some(now_ms.saturating_add(*delay_ms)),
            _ => None,
        }
    }

    /// When it must be due for this to happen, if that matters.
    fn expects(&self) -> Option<i64> {
        match &self.step {
            DelayedStep::Failed { due_ms, .. } => Some(*due_ms),
            DelayedStep::Sent { due_ms, .. } => *due_ms,
            _ => None,
        }
    }
}

impl Kind for DelayedChange {
    type Basis = Schedules;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Schedules, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        held.look_up(tx, facts).await
    }

    fn check(&self, held: &Schedules, retried: bool) -> Option<Decision> {
        let stands = held.due.get(&self.id);
        let Some(new) = self.scheduled() else {
            let due_ms = stands.copied().flatten();
            let expected = self.expects();
            let as_expected = due_ms.is_some() && (expected.is_none() || expected == due_ms);
            let moved = || Decision::Refuse(CommitError::DelayedMoved(self.id.clone()));
            return (!as_expected).then(moved);
        };
        if retried && stands.is_some() {
            return Some(Decision::Done(None));
        }
        held.keeps_out(self, new).map(Decision::Refuse)
    }

    fn apply(&self, held: &mut Schedules) -> bool {
        held.due.insert(self.id.clone(), self.due_ms());
        if let Some(new) = self.scheduled() {
            held.add(self, new);
        }
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Schedules, statements: &mut Statements) -> Result<()> {
        write::write(facts, statements)
    }
}

impl Stored for DelayedDue {
    const TABLE: &'static str = "delayed_event";
    const COLUMNS: &'static str = "pos, user_no, due_ms";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            due_ms: row.get("due_ms")?,
        })
    }
}

impl LoggedKind for DelayedChange {
    type Entry = DelayedDue;

    fn entry(&self) -> DelayedDue {
        DelayedDue {
            user: self.user,
            due_ms: self.due_ms(),
        }
    }

    fn audience(_: &DelayedDue) -> Audience {
        Audience::Nobody
    }

    fn forget(due: &DelayedDue, store: &Store) {
        if let Some(due_ms) = due.due_ms {
            store.core.delayed.due(due_ms);
        }
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        let new = NewDelayed {
            txn: None,
            room_id: ruma::owned_room_id!("!ours:here"),
            kind: "m.room.message".to_owned(),
            state_key: None,
            content: "{}".into(),
            sticky_ms: None,
            delay_ms: 5_000,
            now_ms: 1_000,
            most: 1,
        };
        Self {
            user: world.user,
            id: DelayId::of("an id"),
            step: DelayedStep::Scheduled(Box::new(new)),
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let scheduled = store.delayed_events(world.user).await?;
        Ok(format!("{scheduled:?}"))
    }
}
