//! The worker on a room's queue, which runs ahead of the disk.
//!
//! Deciding an event takes microseconds, making it durable milliseconds. So the worker decides whatever
//! waits as a batch upon the room's pending [`Tip`], hands the batch to the commit queue and decides the
//! next one upon it without waiting. Chains land in order; each sender is answered when theirs is
//! durable, and nobody else sees an event before that.
//!
//! 1. With nothing in flight, the tip is the room's head as it is stored, with the entries of its state
//!    that were kept warm.
//! 2. What waits is decided, each draft upon the one before it: build, sign, authorise ([`decide`]).
//! 3. The batch is submitted, conditional on the state version and on the event that it follows.
//! 4. If it lands, its senders are told. If not, neither do those that follow it: all their drafts are
//!    handed back, and decided again from 1. A repeated transaction is answered with what it made then;
//!    when a batch can't be stored for another reason, its drafts are tried one by one. Where other processes were
//!    first a few times in a row, the room's row is locked before the next batch is decided ([`Turn`]), if that is quick.
//!
//! The worker lets the flight land and reads the head again when others wait at the room's gate, after
//! [`MAX_AHEAD`] events (other processes may have added ends that a next event should tie up), after a
//! membership that changes which servers get the next event, and after one that couldn't name all ends.
//! Each time that it comes to the gate it decides one batch, whoever else waits there: both sides get their
//! turn.

mod answer;
mod decide;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rhizome_storage::{CommitError, Submitted, Turn, WriteSet};
use ruma::{OwnedRoomId, OwnedServerName};

use crate::{
    Error, Rooms,
    error::Result,
    send::{
        Job, Sent,
        batch::{Batch, Tip},
        commit_error, known_room,
        queue::{Queue, Warm},
        tries::{MAX_ATTEMPTS, wants_turn},
    },
    sticky::with_sticky,
};
use answer::{answer, delayed, fail_all, tell};
use decide::{Decided, Outcome};

/// How many drafts become one batch at most.
const MAX_BATCH: usize = 64;
/// How many batches may be in flight.
const MAX_FLIGHT: usize = 64;
/// How many events are decided before the room's head is read again.
const MAX_AHEAD: usize = 256;

/// Frees the queue if its worker is dropped or panics before its time.
struct Worker {
    queue: Arc<Queue>,
    done: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            self.queue.abandon();
        }
    }
}

/// Works on a room's queue until it is empty.
pub(crate) async fn work(rooms: Rooms, room_id: OwnedRoomId, queue: Arc<Queue>) {
    let mut worker = Worker {
        queue: queue.clone(),
        done: false,
    };
    while !worker.done {
        let mut warm = queue.work().await;
        let mut run = Run {
            rooms: &rooms,
            room_id: &room_id,
            queue: &queue,
            warm: &mut warm,
            pending: None,
            flight: VecDeque::new(),
            again: VecDeque::new(),
            alone: 0,
            failures: 0,
            ahead: 0,
            turn: true,
            took: Duration::ZERO,
            overran: false,
        };
        run.until_idle().await;
        drop(warm);
        worker.done = queue.rest();
    }
}

/// What the next batch goes on from.
struct Pending {
    tip: Tip,
    /// The state version once everything in flight has landed.
    version: i64,
    /// The other servers in the room.
    servers: Arc<[OwnedServerName]>,
}

/// A batch on its way.
struct Flight {
    jobs: VecDeque<Job>,
    outcomes: Vec<Outcome>,
    /// `None`: no draft of it needs an event.
    commit: Option<Submitted>,
}

impl Flight {
    async fn landed(&mut self) -> Result<(), CommitError> {
        match &mut self.commit {
            Some(commit) => commit.await.map(drop),
            None => Ok(()),
        }
    }
}

/// The worker's time at the gate.
struct Run<'a> {
    rooms: &'a Rooms,
    room_id: &'a OwnedRoomId,
    queue: &'a Queue,
    warm: &'a mut Warm,
    /// `None`: to be read, with nothing in flight.
    pending: Option<Pending>,
    flight: VecDeque<Flight>,
    /// Handed back: decided before anything else.
    again: VecDeque<Job>,
    /// How many of `again` are to be tried one by one.
    alone: usize,
    failures: usize,
    /// How many events were decided since the head was read.
    ahead: usize,
    /// Whether nothing was decided yet: so much it may, though others want the room.
    turn: bool,
    /// How long it took to decide the last batch.
    took: Duration,
    /// The room's turn was over before one was decided: until something has landed there are no more.
    overran: bool,
}

impl<'a> Run<'a> {
    /// Until nothing waits, or others want the room; nothing is in flight or handed back then.
    async fn until_idle(&mut self) {
        loop {
            let may_decide = self.may_decide();
            if may_decide && let Some(jobs) = self.next_jobs() {
                self.send_off(jobs).await;
                continue;
            }
            let Some(first) = self.flight.front_mut() else {
                return self.keep_warm();
            };
            let landed = tokio::select! {
                landed = first.landed() => landed,
                () = self.queue.arrived(), if may_decide => continue,
            };
            match landed {
                Ok(()) => self.land().await,
                Err(error) => self.crash(error).await,
            }
        }
    }

    fn may_decide(&self) -> bool {
        if self.flight.is_empty() {
            return self.turn || !self.again.is_empty() || !self.queue.is_wanted();
        }
        self.pending.is_some()
            && self.alone == 0
            && self.flight.len() < MAX_FLIGHT
            && self.ahead < MAX_AHEAD
            && !self.queue.is_wanted()
    }

    fn next_jobs(&mut self) -> Option<VecDeque<Job>> {
        let jobs = if self.alone > 0 {
            self.alone -= 1;
            self.again.pop_front().into_iter().collect()
        } else if self.again.is_empty() {
            self.queue.take(MAX_BATCH)
        } else {
            let count = self.again.len().min(MAX_BATCH);
            self.again.drain(..count).collect()
        };
        (!jobs.is_empty()).then_some(jobs)
    }

    /// Decides as many of `jobs` as go into one batch, and submits that; the others are next.
    async fn send_off(&mut self, mut jobs: VecDeque<Job>) {
        self.turn = false;
        let held = match self.take_turn().await {
            Ok(held) => held,
            Err(error) => return self.undecided(jobs, &error),
        };
        let clock = self.rooms.store().clock();
        let began = clock.monotonic();
        let decided = match self.decide(&jobs).await {
            Ok(decided) => decided,
            Err(error) => return self.undecided(jobs, &error),
        };
        let rest = jobs.split_off(decided.outcomes.len());
        for job in rest.into_iter().rev() {
            self.again.push_front(job);
        }
        let (batch, version, servers) = (decided.batch, decided.version, decided.servers);
        let count = batch.len();
        let (write, tip) = match batch.finish(Some(version)).await {
            Ok(finished) => finished,
            Err(error) => return self.undecided(jobs, &error),
        };
        self.ahead += count;
        self.pending = servers.map(|servers| Pending {
            tip,
            version: version + i64::from(write.current.is_some()),
            servers,
        });
        let delayed = delayed(self.rooms, &jobs, &decided.outcomes);
        let commit = if count == 0 && delayed.is_empty() {
            None
        } else {
            let set = match count {
                0 => Ok(WriteSet::default()),
                _ => with_sticky(self.rooms, write).await,
            };
            let mut set = match set {
                Ok(set) => set,
                Err(error) => {
                    self.pending = None;
                    return fail_all(jobs, &error);
                }
            };
            set.facts.extend(delayed);
            self.took = clock.monotonic().saturating_sub(began);
            let submitted = match held {
                Some(turn) => turn.submit(set).await,
                None => self.rooms.store().submit(set).await,
            };
            match submitted {
                Ok(submitted) => Some(submitted),
                Err(error) => {
                    self.pending = None;
                    return fail_all(jobs, &commit_error(error));
                }
            }
        };
        self.flight.push_back(Flight {
            jobs,
            outcomes: decided.outcomes,
            commit,
        });
    }

    /// Where other processes have been first again and again, the room is locked before anything is decided.
    async fn take_turn(&mut self) -> Result<Option<Turn>> {
        let wants = wants_turn(self.failures, self.took) && !self.overran;
        if !wants || !self.flight.is_empty() {
            return Ok(None);
        }
        self.pending = None;
        let head = known_room(self.rooms, self.room_id).await?;
        Ok(self.rooms.store().take_turn(head.room).await?)
    }

    /// These couldn't be decided. What is in flight may be the reason: if it isn't stored, the state that it would have made
    /// is gone. So they are decided again once its fate is known; where nothing is in flight they fail.
    fn undecided(&mut self, mut jobs: VecDeque<Job>, error: &Error) {
        self.pending = None;
        if self.flight.is_empty() {
            return fail_all(jobs, error);
        }
        jobs.append(&mut self.again);
        self.again = jobs;
    }

    async fn decide(&mut self, jobs: &VecDeque<Job>) -> Result<Decided<'a>> {
        if self.flight.is_empty() && self.ahead >= MAX_AHEAD {
            self.keep_warm();
        }
        let pending = match self.pending.take() {
            Some(pending) => pending,
            None => self.stored_head().await?,
        };
        let batch = Batch::upon(self.rooms, pending.tip);
        decide::decide(self.rooms, batch, pending.version, pending.servers, jobs).await
    }

    async fn stored_head(&mut self) -> Result<Pending> {
        self.ahead = 0;
        let head = known_room(self.rooms, self.room_id).await?;
        let warm = self.warm.at(head.state_version);
        let servers = match warm.servers.take() {
            Some(servers) => servers,
            None => self.other_servers(&head).await?,
        };
        let view = std::mem::take(&mut self.warm.view);
        Ok(Pending {
            tip: Tip::of(self.rooms, &head, view).await?,
            version: head.state_version,
            servers,
        })
    }

    async fn other_servers(
        &self,
        head: &rhizome_storage::RoomHead,
    ) -> Result<Arc<[OwnedServerName]>> {
        let servers = self.rooms.store().joined_servers(head.room).await?;
        let others = servers.iter();
        let others = others.filter(|server| **server != self.rooms.server_name());
        Ok(others.cloned().collect())
    }

    /// With nothing in flight: what is known of the pending tip is true of the stored head.
    fn keep_warm(&mut self) {
        if let Some(pending) = self.pending.take() {
            *self.warm = Warm {
                version: Some(pending.version),
                view: pending.tip.into_current(),
                servers: Some(pending.servers),
            };
        }
    }

    /// The first batch in flight is durable.
    async fn land(&mut self) {
        self.failures = 0;
        self.overran = false;
        if let Some(flight) = self.flight.pop_front() {
            answer(self.rooms, flight).await;
        }
    }

    /// The first batch in flight was not stored, so those behind it aren't either.
    async fn crash(&mut self, error: CommitError) {
        self.pending = None;
        *self.warm = Warm::default();
        let Some(first) = self.flight.pop_front() else {
            return;
        };
        let mut behind = std::mem::take(&mut self.flight);
        let mut back = first.jobs;
        let last = back.len() == 1;
        let mut alone = 0;
        match error {
            // A duplicate is what another process has made in the same millisecond, upon the same ends.
            CommitError::StateMoved { .. }
            | CommitError::DuplicateEvent { .. }
            | CommitError::Orphaned(_) => {
                tracing::debug!(room.id = %self.room_id, %error, "deciding again");
                self.failures += 1;
            }
            CommitError::TurnOver => {
                tracing::debug!(room.id = %self.room_id, "the turn was over too early");
                self.failures += 1;
                self.overran = true;
            }
            CommitError::DuplicateTxn { key, event_id } => {
                let done = |job: &Job| job.options.txn.as_ref() == Some(&key);
                let sent = Sent {
                    event_id,
                    fresh: false,
                };
                self.failures += usize::from(!tell(&mut back, done, Ok(sent)));
            }
            CommitError::DelayedMoved(id) => {
                let of = |job: &Job| job.options.delayed.as_ref().is_some_and(|one| one.id == id);
                let told = Err(Error::NotScheduled);
                self.failures += usize::from(!tell(&mut back, of, told));
            }
            error if last => fail_all(std::mem::take(&mut back), &commit_error(error)),
            error => {
                // One of them may be at fault: find out which by taking one at a time.
                tracing::warn!(room.id = %self.room_id, %error, "a batch of events could not be stored");
                alone = back.len();
            }
        }
        // Nothing is decided again before the fate of all is known.
        while let Some(mut flight) = behind.pop_front() {
            if flight.commit.is_some() && flight.landed().await.is_ok() {
                answer(self.rooms, flight).await;
            } else {
                back.append(&mut flight.jobs);
            }
        }
        back.append(&mut self.again);
        self.again = back;
        self.alone = alone;
        if self.failures >= MAX_ATTEMPTS {
            self.failures = 0;
            self.overran = false;
            fail_all(std::mem::take(&mut self.again), &Error::Contended);
        }
    }
}
