//! What the sender's parts share: who has work to do, and what.

mod beside;
mod directives;
mod ephemeral;
mod figures;
#[cfg(test)]
mod model;
mod turns;
mod working;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rhizome_storage::{Clock, DestinationState, Lease, Pos, UserNo};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, ServerName};
use tokio::sync::Notify;

pub use self::figures::SenderFigures;
use self::turns::{Pace, Place};
pub(super) use self::{
    beside::Beside,
    turns::{Each, Share},
};
use super::run::Run;

/// Queues kept in memory although there is nothing to do (their cursors spare a read).
const MAX_IDLE: usize = 5000;
/// An inbound request ends the back-off of its server, but not sooner than this after an attempt …
const SEEN_AFTER: i64 = 1000;
/// … and if the last one that was made for that has failed as well, not before this part of its back-off: there are servers
/// that reach us and can't be reached.
const SEEN_PART: i64 = 8;

/// What the sender's parts share: a queue per destination.
pub struct Sender {
    clock: Clock,
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) counts: figures::Counts,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) queues: HashMap<OwnedServerName, Queue>,
    /// Those that may have something to do now, of each share first come, first served;
    ready: Each<VecDeque<OwnedServerName>>,
    /// and those that are left alone until a time (ms).
    later: BTreeSet<(i64, OwnedServerName)>,
    /// How many tasks of each share there are.
    busy: Each<usize>,
    /// How many there may be.
    most: Each<usize>,
    /// Idle queues are dropped when there are more than so many.
    tidy_at: usize,
    /// Up to here the log has been looked at and the queues know of it; nobody sends beyond.
    pub(super) looked_at: Pos,
    /// That this process is the one that sends what is in the log.
    lease: Option<Lease>,
    /// Tasks are to end after the transaction that is under way.
    pub(super) stopping: bool,
    /// Positions of destinations that aren't written to the database yet.
    pub(super) dirty: BTreeMap<OwnedServerName, DestinationState>,
    /// Why they failed last, likewise.
    pub(super) reasons: BTreeMap<OwnedServerName, String>,
    /// Up to where messages to devices have arrived and aren't deleted yet.
    pub(super) arrived: BTreeMap<OwnedServerName, Pos>,
}

#[derive(Default)]
pub(super) struct Queue {
    place: Place,
    /// Where it stands; `None` until it is read from the database.
    pub(super) stand: Option<DestinationState>,
    pace: Pace,
    /// What is remembered of its run.
    run: Option<Box<Run>>,
    /// The log may hold something for it.
    pub(super) log: bool,
    /// And beside events maybe this: known since a look that found all there was.
    pub(super) beside: Beside,
    pub(super) typing: BTreeMap<(OwnedRoomId, OwnedUserId), bool>,
    pub(super) edus: VecDeque<String>,
    /// Users of ours whose presence is to be told.
    pub(super) presence: BTreeSet<UserNo>,
    /// When the last attempt ended, ms.
    pub(super) attempted: i64,
    /// It has shown since that it is up: it stands before others that failed.
    seen: bool,
    /// The attempt that was made for that, or is being made.
    tried_as_seen: bool,
    /// What there was for it up to here was let go.
    let_go: Pos,
    /// Events per transaction: fewer after a transaction was refused for what it holds.
    pub(super) batch_limit: Option<usize>,
}

impl State {
    /// Changes a destination's queue; it is looked at, unless a task does so anyway or it is to be left alone.
    /// `true`: somebody has to look.
    fn change(&mut self, server: &ServerName, change: impl FnOnce(&mut Queue)) -> bool {
        let queue = match self.queues.get_mut(server) {
            Some(queue) => queue,
            None => self.queues.entry(server.to_owned()).or_default(),
        };
        change(queue);
        let is_idle = queue.place == Place::Idle;
        if is_idle {
            self.make_ready(server);
        }
        is_idle
    }

    fn make_ready(&mut self, server: &ServerName) {
        if let Some(queue) = self.queues.get_mut(server) {
            if let Place::Later(at) = queue.place {
                self.later.remove(&(at, server.to_owned()));
            }
            queue.place = Place::Ready;
            let ready = self.ready.of_mut(queue.share());
            if queue.seen {
                ready.push_front(server.to_owned());
            } else {
                ready.push_back(server.to_owned());
            }
        }
    }

    /// Those whose time has come may have something to do.
    fn come_back(&mut self, now: i64) {
        while let Some((at, server)) = self.later.first()
            && *at <= now
        {
            let server = server.clone();
            self.later.pop_first();
            self.make_ready(&server);
        }
    }

    /// Whether this process is the one that sends what is in the log.
    pub(super) fn leads(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::held)
    }
}

impl Queue {
    fn has_work(&self) -> bool {
        self.log || !self.typing.is_empty() || !self.edus.is_empty() || !self.presence.is_empty()
    }

    fn is_left_alone(&self) -> bool {
        matches!(self.place, Place::Later(_))
    }

    /// How long after an attempt an inbound request ends the back-off.
    fn seen_after(&self) -> i64 {
        let back_off = self.retry_at().saturating_sub(self.attempted);
        if self.tried_as_seen {
            SEEN_AFTER.max(back_off / SEEN_PART)
        } else {
            SEEN_AFTER
        }
    }

    fn retry_at(&self) -> i64 {
        self.stand.map_or(0, |stand| {
            if stand.failures > 0 {
                stand.retry_at
            } else {
                0
            }
        })
    }
}

impl Sender {
    pub(crate) fn new(clock: Clock) -> Self {
        let state = State {
            tidy_at: MAX_IDLE,
            ..State::default()
        };
        Self {
            clock,
            state: Mutex::new(state),
            changed: Notify::new(),
            counts: figures::Counts::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request from `server` came in, so it is up: if it was being left alone, it is tried again, before others that
    /// failed.
    pub fn seen(&self, server: &ServerName) {
        let now = self.clock.now_ms();
        let mut state = self.state();
        let Some(queue) = state.queues.get_mut(server) else {
            return;
        };
        let is_running = matches!(queue.place, Place::Running(_));
        let ago = now.saturating_sub(queue.attempted);
        if is_running || queue.seen || ago < queue.seen_after() {
            return;
        }
        if let Some(stand) = &mut queue.stand
            && stand.failures > 0
        {
            stand.retry_at = stand.retry_at.min(now);
            if queue.place != Place::Idle {
                queue.seen = true;
                state.make_ready(server);
                self.changed.notify_one();
            }
        }
    }

    /// Where the sender stands with a destination, as far as it is in memory.
    pub fn stand(&self, server: &ServerName) -> Option<DestinationState> {
        self.state().queues.get(server)?.stand
    }

    /// The log has been looked at up to here. It may hold events for these, and what is said beside. In one
    /// step, so that no task goes up to here without knowing.
    pub(super) fn looked_at<'a>(
        &self,
        upto: Pos,
        news: impl IntoIterator<Item = (&'a OwnedServerName, Beside)>,
    ) {
        let mut state = self.state();
        state.looked_at = upto;
        let mut any = false;
        for (server, beside) in news {
            any |= state.change(server, |queue| {
                queue.log = true;
                queue.beside.add(beside);
            });
        }
        if any {
            self.changed.notify_one();
        }
    }

    /// Takes the destinations that can be worked on now, as far as there are no more than `most` tasks then, and says
    /// when (ms) the next of those in back-off wants to be tried. What it costs follows those that it takes, not those
    /// that are down.
    pub(super) fn due(
        &self,
        now: i64,
        most: Each<usize>,
    ) -> (Vec<(OwnedServerName, Share)>, Option<i64>) {
        let mut state = self.state();
        state.come_back(now);
        state.most = most;
        let State {
            queues,
            ready,
            later,
            busy,
            tidy_at,
            ..
        } = &mut *state;
        let mut due = Vec::new();
        for share in Share::ALL {
            while busy.of(share) < most.of(share)
                && let Some(server) = ready.of_mut(share).pop_front()
            {
                let queue = queues.get_mut(&server);
                // Who was put first stands there a second time.
                let Some(queue) = queue.filter(|queue| queue.place == Place::Ready) else {
                    continue;
                };
                let was_seen = std::mem::take(&mut queue.seen);
                let retry_at = queue.retry_at();
                if !queue.has_work() {
                    queue.place = Place::Idle;
                } else if retry_at > now {
                    queue.place = Place::Later(retry_at);
                    later.insert((retry_at, server));
                } else {
                    queue.place = Place::Running(share);
                    queue.tried_as_seen = was_seen;
                    *busy.of_mut(share) += 1;
                    due.push((server, share));
                }
            }
        }
        if queues.len() > *tidy_at {
            queues.retain(|_, queue| queue.place != Place::Idle || queue.has_work());
            *tidy_at = MAX_IDLE.max(queues.len() * 2);
        }
        (due, later.first().map(|(at, _)| *at))
    }

    /// A task has ended; what it left undone is looked at again.
    pub(super) fn ended(&self, server: &ServerName) {
        let mut state = self.state();
        let State { queues, busy, .. } = &mut *state;
        let Some(queue) = queues.get_mut(server) else {
            return;
        };
        if let Place::Running(share) = queue.place {
            let tasks = busy.of_mut(share);
            *tasks = tasks.saturating_sub(1);
        }
        queue.place = Place::Idle;
        if queue.has_work() {
            state.make_ready(server);
            self.changed.notify_one();
        }
    }

    /// After tasks were aborted: nothing runs, and everything is looked at once more.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        state.stopping = false;
        let State {
            queues,
            ready,
            later,
            busy,
            ..
        } = &mut *state;
        later.clear();
        *ready = Each::default();
        *busy = Each::default();
        for (server, queue) in queues {
            if matches!(queue.place, Place::Running(_)) {
                // What its task knew of its run may be gone: what is written down goes with that.
                queue.stand = None;
            }
            queue.place = Place::Ready;
            ready.of_mut(queue.share()).push_back(server.clone());
        }
    }

    /// This process sends what is in the log from now on. Another may have been sending, so what idle queues
    /// remember of the database is forgotten.
    pub(super) fn lead(&self, lease: &Lease) {
        let mut state = self.state();
        state.lease = Some(lease.clone());
        let queues = state.queues.values_mut();
        for queue in queues.filter(|queue| !matches!(queue.place, Place::Running(_))) {
            queue.stand = None;
            queue.run = None;
            queue.beside = Beside::default();
        }
        // Another may have reached those that are left alone here.
        let left_alone: Vec<_> = state.later.iter().map(|(_, name)| name.clone()).collect();
        for server in left_alone {
            state.make_ready(&server);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Messages to devices have arrived up to here.
    pub(super) fn arrived(&self, server: &ServerName, upto: Pos) {
        let mut state = self.state();
        let at = state.arrived.entry(server.to_owned()).or_default();
        *at = upto.max(*at);
    }

    /// A destination stands here now, of which this is to be written down unless that is known.
    pub(super) fn note(
        &self,
        server: &ServerName,
        mut stand: DestinationState,
        mut written: DestinationState,
    ) {
        let mut state = self.state();
        let mut before = None;
        if let Some(queue) = state.queues.get_mut(server) {
            stand.sent = stand.sent.max(queue.let_go);
            written.sent = written.sent.max(queue.let_go);
            before = queue.stand.replace(stand);
        }
        if before != Some(stand) || written != stand {
            let is_first = state.dirty.is_empty();
            state.dirty.insert(server.to_owned(), written);
            drop(state);
            // It is written down soon, also while nothing else happens.
            if is_first {
                self.changed.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests;
