//! One queue of waiting senders per room, and the room's warm state.
//!
//! While a room's commit is under way, its other senders wait here; when it is done, all that wait are
//! decided as one chain and stored by one commit. So a hot room costs one fsync per round of senders,
//! its history stays a line, and nobody builds on an event that may yet fail. Rooms don't wait for one
//! another: the commit queue of `storage` joins their write sets into one transaction.
//!
//! The gate is also taken by whoever else changes the room in this process (received events, joins), so
//! that a commit seldom finds the state moved. It is an optimisation: the database decides.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhizome_storage::RoomNo;
use ruma::OwnedServerName;
use tokio::sync::Mutex as AsyncMutex;

use crate::{Error, error::Result, send::Job, view::View};

/// How many rooms may be warm; idle ones beyond that are forgotten.
const MAX_WARM: usize = 2_048;
/// How many senders may wait for one room.
const MAX_WAITING: usize = 4_096;

/// All queues, by room.
#[derive(Default)]
pub(crate) struct Queues {
    rooms: Mutex<HashMap<RoomNo, Arc<Queue>>>,
}

/// One room's.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Held while the room is decided and committed.
    pub(crate) gate: AsyncMutex<Warm>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Whether a task is working on the jobs.
    busy: bool,
}

/// What is remembered of the room's current state, valid for one state version.
#[derive(Default)]
pub(crate) struct Warm {
    pub(crate) version: Option<i64>,
    pub(crate) view: View,
    /// The other servers in the room.
    pub(crate) servers: Option<Vec<OwnedServerName>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queues {
    pub(crate) fn of(&self, room: RoomNo) -> Arc<Queue> {
        let mut rooms = lock(&self.rooms);
        if rooms.len() >= MAX_WARM && !rooms.contains_key(&room) {
            rooms.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        rooms.entry(room).or_default().clone()
    }
}

impl Queue {
    /// Adds a job. `Ok(true)`: nobody is working on them, so the caller must see to it that somebody
    /// does.
    pub(crate) fn add(&self, job: Job) -> Result<bool> {
        let mut waiting = lock(&self.waiting);
        if waiting.jobs.len() >= MAX_WAITING {
            return Err(Error::Contended);
        }
        waiting.jobs.push_back(job);
        Ok(!std::mem::replace(&mut waiting.busy, true))
    }

    /// The next jobs, at most `limit`. Empty: the worker must end.
    pub(crate) fn take(&self, limit: usize) -> VecDeque<Job> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.jobs.len().min(limit);
        if count == 0 {
            waiting.busy = false;
        }
        waiting.jobs.drain(..count).collect()
    }

    /// Ends the worker whatever happened to it: the jobs that it leaves are dropped, which their senders
    /// see as a failure.
    pub(crate) fn abandon(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.busy = false;
        waiting.jobs.clear();
    }
}

impl Warm {
    /// Makes sure that what is remembered belongs to this state version.
    pub(crate) fn at(&mut self, version: i64) -> &mut Self {
        if self.version != Some(version) || self.view.is_large() {
            *self = Self {
                version: Some(version),
                ..Self::default()
            };
        }
        self
    }
}
