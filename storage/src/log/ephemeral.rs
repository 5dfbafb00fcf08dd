//! Who is typing: in memory, with positions of its own, never on disk. Other processes are told (`log/bus`), and what they
//! tell has their positions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::engine::lock;
use crate::log::outbox::Said;
use crate::log::positions::{Heard, Positions, ProcessId};
use crate::{Clock, RoomNo, Store};

/// How many rooms' typing is remembered; beyond, the ones that changed longest ago are forgotten.
const MOST_ROOMS: usize = 20_000;
/// How many users may be typing in one room; more than anybody wants to read of.
const MOST_TYPING: usize = 100;
/// The longest that a client may ask for.
const LONGEST: Duration = Duration::from_mins(2);
/// So much later it ends here if the process that it began at doesn't say so.
const SLACK: Duration = Duration::from_secs(5);

/// The stream of typing.
#[derive(Debug)]
pub struct Ephemeral {
    clock: Clock,
    positions: Positions,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where typing changed last.
    last: Heard,
    rooms: HashMap<RoomNo, Room>,
    /// The rooms by their last change, each once.
    order: BTreeMap<u64, RoomNo>,
    changes: u64,
    /// How many that are, for who waits for more.
    news: watch::Sender<u64>,
    /// Where somebody is typing.
    active: HashSet<RoomNo>,
}

#[derive(Debug, Default)]
struct Room {
    /// Where it changed last, by processes.
    changed: Heard,
    /// Its place in `order`; 0: none yet.
    place: u64,
    typing: BTreeMap<OwnedUserId, Typist>,
}

#[derive(Debug)]
struct Typist {
    until: Duration,
    /// Where that was said.
    position: i64,
    /// Whether it was said to this process.
    ours: bool,
}

impl Ephemeral {
    pub(crate) fn new(clock: Clock, positions: Positions) -> Self {
        Self {
            clock,
            positions,
            inner: Mutex::default(),
        }
    }

    /// Up to where each process was heard, of typing or of presence. All processes by which something changed are among them:
    /// else a reader would find the same news again and again.
    pub fn heard(&self) -> Heard {
        let mut inner = lock(&self.inner);
        let mut heard = self.positions.heard();
        if !inner.last.is_within(&heard) {
            let own = (self.positions.process(), self.positions.next());
            inner.adopt(&heard, own);
            heard.note(own.0, own.1);
        }
        heard
    }

    /// Which process this is.
    pub fn process(&self) -> ProcessId {
        self.positions.process()
    }

    /// Who is typing in `room`, and where that changed last.
    pub fn typing(&self, room: RoomNo) -> (Heard, Vec<OwnedUserId>) {
        let inner = lock(&self.inner);
        inner
            .rooms
            .get(&room)
            .map_or_else(Default::default, |room| {
                (room.changed.clone(), room.typing.keys().cloned().collect())
            })
    }

    /// In which of `rooms` something changed that a reader hasn't heard.
    pub fn changed(&self, rooms: &[RoomNo], heard: &Heard) -> Vec<RoomNo> {
        let inner = lock(&self.inner);
        if !inner.last.exceeds(heard) {
            return Vec::new();
        }
        let has_changed = |room: &&RoomNo| {
            let known = inner.rooms.get(room);
            known.is_some_and(|state| state.changed.exceeds(heard))
        };
        rooms.iter().filter(has_changed).copied().collect()
    }

    /// How often typing has changed anywhere, for who follows all rooms. Counts in this process alone.
    pub fn changes(&self) -> watch::Receiver<u64> {
        lock(&self.inner).news.subscribe()
    }

    /// How often it has changed by now, and the rooms in which it has since it had so often.
    pub fn changed_since(&self, changes: u64) -> (u64, Vec<RoomNo>) {
        let inner = lock(&self.inner);
        let rooms = inner.order.range(changes.saturating_add(1)..);
        (inner.changes, rooms.map(|(_, room)| *room).collect())
    }

    /// Notes that `user` types for `timeout` more, or (`None`) no longer. Whether that changed anything.
    fn set(&self, room: RoomNo, user: &UserId, timeout: Option<Duration>) -> bool {
        let timeout = timeout.map(|timeout| timeout.min(LONGEST));
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        let until = timeout.map(|timeout| self.clock.monotonic() + timeout);
        let state = inner.rooms.entry(room).or_default();
        let changed = state.would_change(user, until.is_some());
        // Another process may not know what is nothing new here.
        if changed || self.positions.has_others() {
            let position = self.positions.tell(|| said(room, user, timeout, None));
            state.set(user, until, (position, true));
            if changed {
                inner.touch(room, self.positions.process(), position);
            }
        } else {
            state.set(user, until, (0, true));
        }
        inner.drop_untouched(room);
        changed
    }

    /// Another process has said this, each at its position, and with it all `upto` there; it counts as heard from then on, and
    /// not later than what it said is told. Gives the rooms that changed, and whether the process wasn't known before.
    pub(crate) fn hear(
        &self,
        by: ProcessId,
        said: &[(i64, SaidTyping)],
        upto: i64,
    ) -> (Vec<RoomNo>, bool) {
        let now = self.clock.monotonic();
        let mut inner = lock(&self.inner);
        let mut changed = Vec::new();
        for (position, said) in said {
            // What is decided here from now on comes after it.
            self.positions.pass(*position);
            if inner.take((by, *position), said, now) {
                changed.push(said.room);
            }
        }
        self.positions.pass(upto);
        (changed, self.positions.hear(by, upto))
    }

    /// Says to other processes what is so: one of them has just come.
    pub(crate) fn say_again(&self) {
        let now = self.clock.monotonic();
        let inner = lock(&self.inner);
        for no in &inner.active {
            let typing = inner.rooms.get(no).map(|room| &room.typing);
            for (user, typist) in typing.into_iter().flatten().filter(|(_, it)| it.ours) {
                let left = typist.until.saturating_sub(now);
                self.positions.tell(|| said(*no, user, Some(left), None));
            }
        }
    }

    /// Ends typing that has timed out; gives the rooms that changed.
    pub(crate) fn expire(&self) -> Vec<RoomNo> {
        let now = self.clock.monotonic();
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        let mut changed = Vec::new();
        for no in &inner.active {
            let Some(room) = inner.rooms.get_mut(no) else {
                continue;
            };
            let mut ended = None;
            room.typing.retain(|user, typist| {
                let slack = if typist.ours { Duration::ZERO } else { SLACK };
                let stays = typist.until + slack > now;
                if !stays {
                    // Also of others' typists: who hears how far this process is has heard this. But the one that they type at
                    // may have said meanwhile that they go on.
                    let of = (!typist.ours).then_some(typist.position);
                    ended = Some(self.positions.tell(|| said(*no, user, None, of)));
                }
                stays
            });
            changed.extend(ended.map(|position| (*no, position)));
        }
        for (room, position) in &changed {
            inner.touch(*room, self.positions.process(), *position);
        }
        changed.into_iter().map(|(room, _)| room).collect()
    }
}

/// What other processes are told: somebody types for so long from now, or no longer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SaidTyping {
    pub(crate) room: RoomNo,
    user: OwnedUserId,
    for_ms: Option<u64>,
    /// It is over for who has heard no more of it than what was said there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<i64>,
}

/// What kind of thing that is.
const SAID: &str = "typing";

/// `over`: see [`SaidTyping::of`].
fn said(room: RoomNo, user: &UserId, timeout: Option<Duration>, over: Option<i64>) -> Said {
    let said = SaidTyping {
        room,
        user: user.to_owned(),
        for_ms: timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        of: over,
    };
    Said::new(SAID, format_args!("{room} {user}"), &said)
}

impl Room {
    fn would_change(&self, user: &UserId, types: bool) -> bool {
        let known = self.typing.contains_key(user);
        if types {
            !known && self.typing.len() < MOST_TYPING
        } else {
            known
        }
    }

    fn set(&mut self, user: &UserId, until: Option<Duration>, (position, ours): (i64, bool)) {
        let Some(until) = until else {
            self.typing.remove(user);
            return;
        };
        let typist = Typist {
            until,
            position,
            ours,
        };
        if let Some(known) = self.typing.get_mut(user) {
            *known = typist;
        } else if self.typing.len() < MOST_TYPING {
            self.typing.insert(user.to_owned(), typist);
        }
    }
}

impl Inner {
    /// Notes what another process has said at its position. Whether that changed anything.
    fn take(&mut self, (by, position): (ProcessId, i64), said: &SaidTyping, now: Duration) -> bool {
        let (room, user) = (said.room, &said.user);
        let timeout = said.for_ms.map(Duration::from_millis);
        let until = timeout.map(|timeout| now + timeout.min(LONGEST));
        let state = self.rooms.entry(room).or_default();
        let known = state.typing.get(user).map(|typist| typist.position);
        // What was said later stands, whichever came first.
        let stands = known.is_some_and(|known| known > said.of.unwrap_or(position).min(position));
        // That somebody has stopped is news also where nobody knew of them: who reads here may have heard elsewhere that they type.
        let changed = !stands && (until.is_none() || state.would_change(user, true));
        if !stands {
            state.set(user, until, (position, false));
        }
        if changed {
            self.touch(room, by, position);
        }
        self.drop_untouched(room);
        changed
    }

    /// What changed by processes that nobody knows any more has changed by this one.
    fn adopt(&mut self, known: &Heard, (process, position): (ProcessId, i64)) {
        self.last.adopt(known, process, position);
        for room in self.rooms.values_mut() {
            room.changed.adopt(known, process, position);
        }
    }

    fn touch(&mut self, room: RoomNo, process: ProcessId, position: i64) {
        self.last.note(process, position);
        self.changes += 1;
        self.news.send_replace(self.changes);
        let state = self.rooms.entry(room).or_default();
        state.changed.note(process, position);
        if state.typing.is_empty() {
            self.active.remove(&room);
        } else {
            self.active.insert(room);
        }
        let before = std::mem::replace(&mut state.place, self.changes);
        self.order.remove(&before);
        self.order.insert(self.changes, room);
        if self.order.len() > MOST_ROOMS
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.rooms.remove(&oldest);
            self.active.remove(&oldest);
        }
    }

    /// Forgets a room in which nothing ever happened.
    fn drop_untouched(&mut self, room: RoomNo) {
        if self.rooms.get(&room).is_some_and(|state| state.place == 0) {
            self.rooms.remove(&room);
        }
    }
}

impl Store {
    /// Notes that `user` types in `room` for `timeout` more, or (`None`) no longer, and wakes who waits
    /// for the room.
    pub fn set_typing(&self, room: RoomNo, user: &UserId, timeout: Option<Duration>) {
        if self.core.ephemeral.set(room, user, timeout) {
            self.core.tail.wake_rooms(&[room], &self.core.counters);
        }
    }
}

#[cfg(test)]
mod tests;
