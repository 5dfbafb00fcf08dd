//! One queue of waiting senders per room, and the room's warm state.
//!
//! Senders put their drafts here; one worker per room ([`crate::send::worker`]) decides them in order. Rooms
//! don't wait for one another: the commit queue of `storage` joins their write sets into one transaction.
//!
//! The gate is also taken by whoever else changes the room in this process (received events, joins), so
//! that a commit seldom finds the state moved. It is an optimisation: the database decides.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rhizome_storage::RoomNo;
use ruma::OwnedServerName;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard, Notify};

use crate::{
    Error,
    error::Result,
    send::{Job, view::View},
};

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
    /// Wakes the worker when a job has come.
    arrived: Notify,
    /// ViewState while the room is decided and committed.
    gate: AsyncMutex<Warm>,
    /// How many others than the worker wait at the gate.
    wanted: AtomicUsize,
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
    pub(crate) servers: Option<Arc<[OwnedServerName]>>,
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
        let idle = {
            let mut waiting = lock(&self.waiting);
            if waiting.jobs.len() >= MAX_WAITING {
                return Err(Error::Contended);
            }
            waiting.jobs.push_back(job);
            !std::mem::replace(&mut waiting.busy, true)
        };
        if !idle {
            self.arrived.notify_one();
        }
        Ok(idle)
    }

    /// The next jobs, at most `limit`.
    pub(crate) fn take(&self, limit: usize) -> VecDeque<Job> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.jobs.len().min(limit);
        waiting.jobs.drain(..count).collect()
    }

    /// Resolves when a job may have come since the worker took some.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Whether nothing waits, so that the worker ends: whoever adds a job from now on starts a new one.
    pub(crate) fn rest(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.busy = !waiting.jobs.is_empty();
        !waiting.busy
    }

    /// Takes the gate for a change that doesn't come through the queue. The worker makes way.
    pub(crate) async fn enter(&self) -> AsyncGuard<'_, Warm> {
        let _wanted = Wanted::new(&self.wanted);
        self.gate.lock().await
    }

    /// Takes the gate for the worker.
    pub(crate) async fn work(&self) -> AsyncGuard<'_, Warm> {
        self.gate.lock().await
    }

    /// Whether somebody waits for the worker to leave the gate.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Ends the worker whatever happened to it: the jobs that it leaves are dropped, which their senders
    /// see as a failure.
    pub(crate) fn abandon(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.busy = false;
        waiting.jobs.clear();
    }
}

/// Counts somebody for as long as they wait.
struct Wanted<'a>(&'a AtomicUsize);

impl<'a> Wanted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
