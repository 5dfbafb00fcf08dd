//! What is remembered of what events are to users: what the push rules say, and in which thread they are. Both are
//! found once per event, for all who have the same rules ([`Question`](super::question::Question)).

use std::sync::Arc;

use rhizome_rooms::thread;
use rhizome_storage::{Cache, EventNo, Store, StoredEvent, UserNo};

use super::tally::Thread;
use crate::{
    MatrixError,
    push::{evaluate::Alert, wishes::Wishes},
};

/// Verdicts remembered.
const MAX_VERDICTS: usize = 50_000;
/// Events whose thread is remembered.
const MAX_THREADS: usize = 20_000;

/// What is remembered of events.
#[derive(Debug)]
pub struct Alerts {
    /// By event and rules.
    pub(super) verdicts: Cache<(EventNo, u64), Verdict>,
    threads: Cache<EventNo, Thread>,
}

/// What somebody else's event is to those who have the same rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same to all.
    Same(Alert),
    /// The same to all who have nothing to do with it: whom it doesn't name, and who don't follow its thread.
    OfStrangers(Alert),
    /// It depends on who is asked.
    Each,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            verdicts: Cache::new(MAX_VERDICTS),
            threads: Cache::new(MAX_THREADS),
        }
    }
}

/// Whose tally it is.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The user.
    pub user: UserNo,
    /// What they want to be notified of.
    pub wishes: &'a Wishes,
}

impl Alerts {
    /// The thread that an event is in.
    pub async fn thread(
        &self,
        store: &Store,
        event: &Arc<StoredEvent>,
    ) -> Result<Thread, MatrixError> {
        if event.pdu.content_field("m.relates_to").is_none() {
            return Ok(None);
        }
        if let Some(known) = self.threads.get(&event.no) {
            return Ok(known);
        }
        let root = thread::root_of(store, event).await?;
        let root: Thread = root.map(|root| root.as_str().into());
        self.threads.insert(event.no, root.clone());
        Ok(root)
    }
}
