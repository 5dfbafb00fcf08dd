//! The connections that wait, by user, and the rooms of these users.
//!
//! Users stay known for a while after the last of their connections has gone: polls come and go. They cost
//! nothing meanwhile. The first entry of a room that finds nobody waiting for a user takes the user out of
//! the room's members who listen; when a connection of theirs comes again, they come back into the rooms that
//! had something for them. So a registration costs what there is to read, an entry costs whom it wakes, and
//! each user whom it doesn't wake costs one entry per room, once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rhizome_protocol::Membership;
use tokio::sync::Notify;

use crate::{Audience, Counters, Entry, EntryKind, MembershipRow, RoomNo, UserNo};

/// The memberships of users who aren't among those that wait, and whose rooms' members an entry concerns.
pub(in crate::log) type Sharing = HashMap<UserNo, Arc<[MembershipRow]>>;

/// Memberships of users without connections that stay known.
const MOST_IDLE: usize = 200_000;

/// Who waits, and in which rooms they are.
#[derive(Debug)]
pub(in crate::log) struct Waiters {
    users: HashMap<UserNo, User>,
    /// The members of each room who listen: of the known users, those who are in it and not asleep in it.
    listening: HashMap<RoomNo, HashSet<UserNo>>,
    /// Known users without connections: whoever has been so longest comes first.
    idle: BTreeMap<u64, UserNo>,
    /// How many memberships are known of these,
    idle_weight: usize,
    /// and may be.
    most_idle: usize,
    /// Counts up for names of connections and of idle times.
    next: u64,
    /// How often a membership has changed.
    changes: u64,
}

#[derive(Debug, Default)]
struct User {
    connections: Vec<(u64, Arc<Signal>)>,
    /// `None`: not known, or forgotten.
    rooms: Option<Rooms>,
    /// Its key in `idle`.
    idle: Option<u64>,
}

#[derive(Debug, Default)]
struct Rooms {
    joined: HashSet<RoomNo>,
    /// Of these, the ones in which it isn't listening.
    asleep: HashSet<RoomNo>,
}

/// What wakes one connection.
#[derive(Debug, Default)]
pub(super) struct Signal {
    pub(super) notify: Notify,
    /// How often it was woken.
    pub(super) count: AtomicU64,
    /// Whether it follows profiles.
    pub(super) follows: AtomicBool,
    /// Whether it follows presence.
    pub(super) presence: AtomicBool,
    /// When what woke it first was committed; 0: not known, or nothing has.
    pub(super) committed: AtomicU64,
}

impl Signal {
    fn wake(&self, committed: u64) {
        let at = &self.committed;
        let _ = at.compare_exchange(0, committed, Ordering::Relaxed, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_one();
    }
}

impl User {
    fn weight(&self) -> usize {
        1 + self.rooms.as_ref().map_or(0, |rooms| rooms.joined.len())
    }
}

impl Default for Waiters {
    fn default() -> Self {
        Self::new(MOST_IDLE)
    }
}

impl Waiters {
    pub(super) fn new(most_idle: usize) -> Self {
        Self {
            users: HashMap::new(),
            listening: HashMap::new(),
            idle: BTreeMap::new(),
            idle_weight: 0,
            most_idle,
            next: 0,
            changes: 0,
        }
    }

    /// A connection of the user waits from now on.
    pub(super) fn add(&mut self, user: UserNo) -> (u64, Arc<Signal>) {
        self.next += 1;
        let (id, signal) = (self.next, Arc::<Signal>::default());
        let known = self.users.entry(user).or_default();
        known.connections.push((id, signal.clone()));
        if let Some(since) = known.idle.take() {
            self.idle.remove(&since);
            self.idle_weight -= known.weight();
        }
        let asleep = known.rooms.as_mut().map(|rooms| rooms.asleep.drain());
        for room in asleep.into_iter().flatten() {
            self.listening.entry(room).or_default().insert(user);
        }
        (id, signal)
    }

    /// The connection waits no longer.
    pub(super) fn remove(&mut self, user: UserNo, id: u64) {
        let Some(known) = self.users.get_mut(&user) else {
            return;
        };
        known.connections.retain(|(of, _)| *of != id);
        if !known.connections.is_empty() {
            return;
        }
        if known.rooms.is_none() {
            self.users.remove(&user);
            return;
        }
        self.next += 1;
        known.idle = Some(self.next);
        self.idle_weight += known.weight();
        self.idle.insert(self.next, user);
        self.forget_the_oldest();
    }

    /// Forgets users without connections until no more is known of them than may be.
    fn forget_the_oldest(&mut self) {
        while self.idle_weight > self.most_idle
            && let Some((_, oldest)) = self.idle.pop_first()
        {
            self.forget(oldest);
        }
    }

    /// Forgets a user without connections, whom `idle` has no more.
    fn forget(&mut self, user: UserNo) {
        let Some(gone) = self.users.remove(&user) else {
            return;
        };
        self.idle_weight -= gone.weight();
        for room in gone.rooms.iter().flat_map(|rooms| &rooms.joined) {
            self.stop_listening(*room, user);
        }
    }

    /// If the user's rooms aren't known: a moment to give to [`Waiters::learn`], to be had before they are
    /// asked for.
    pub(super) fn unknown(&self, user: UserNo) -> Option<u64> {
        let known = self.users.get(&user)?;
        known.rooms.is_none().then_some(self.changes)
    }

    /// The user, who waits, is in these rooms. Changes nothing if a membership has changed since `moment`.
    pub(super) fn learn(&mut self, user: UserNo, moment: u64, joined: HashSet<RoomNo>) {
        if let Some(known) = self.users.get_mut(&user)
            && known.rooms.is_none()
            && self.changes == moment
        {
            for room in &joined {
                self.listening.entry(*room).or_default().insert(user);
            }
            known.rooms = Some(Rooms {
                joined,
                asleep: HashSet::new(),
            });
        }
    }

    /// A membership changes, with an entry of the log or without one.
    pub(in crate::log) fn member(&mut self, room: RoomNo, user: UserNo, membership: Membership) {
        self.changes += 1;
        let Some(known) = self.users.get_mut(&user) else {
            return;
        };
        let idle = known.idle.is_some();
        let Some(rooms) = &mut known.rooms else {
            return;
        };
        if membership == Membership::Join {
            if rooms.joined.insert(room) {
                self.idle_weight += usize::from(idle);
                self.listening.entry(room).or_default().insert(user);
                self.forget_the_oldest();
            }
        } else if rooms.joined.remove(&room) {
            self.idle_weight -= usize::from(idle);
            rooms.asleep.remove(&room);
            self.stop_listening(room, user);
        }
    }

    /// The users whose rooms are known. An answer that somebody is waiting for doesn't count any more.
    pub(super) fn known(&mut self) -> Vec<UserNo> {
        self.changes += 1;
        let known = self.users.iter().filter(|(_, user)| user.rooms.is_some());
        known.map(|(user, _)| *user).collect()
    }

    fn stop_listening(&mut self, room: RoomNo, user: UserNo) {
        if let Some(members) = self.listening.get_mut(&room) {
            members.remove(&user);
            if members.is_empty() {
                self.listening.remove(&room);
            }
        }
    }

    /// Nothing of what is known can be trusted. Everybody is woken, to listen anew.
    pub(in crate::log) fn forget_all(&mut self) {
        self.changes += 1;
        self.listening.clear();
        self.idle.clear();
        self.idle_weight = 0;
        self.users.retain(|_, user| !user.connections.is_empty());
        for user in self.users.values_mut() {
            user.rooms = None;
            user.connections
                .iter()
                .for_each(|(_, signal)| signal.wake(0));
        }
    }

    /// Wakes whom the entries concern, each once, and takes note of who comes and goes.
    pub(in crate::log) fn wake_for(
        &mut self,
        entries: &[Arc<Entry>],
        sharing: &Sharing,
        counters: &Counters,
    ) {
        let committed = counters.timings().told();
        if self.users.is_empty() {
            return;
        }
        let (mut woken, mut seen) = (HashSet::new(), HashSet::new());
        let mut following = HashSet::new();
        for entry in entries {
            let (room, user) = match entry.kind.audience() {
                Audience::Nobody => (None, None),
                Audience::User(user) => (None, Some(user)),
                Audience::Room(room) => (Some(room), None),
                Audience::RoomAnd(room, user) => (Some(room), Some(user)),
                Audience::Sharing(user) => {
                    for room in self.rooms_of(user, sharing) {
                        if seen.insert(room) {
                            self.hear(room, &mut woken);
                        }
                    }
                    (None, Some(user))
                }
                Audience::Following(user) => {
                    for room in self.rooms_of(user, sharing) {
                        self.hear(room, &mut following);
                    }
                    following.insert(user);
                    (None, None)
                }
            };
            woken.extend(user);
            if let Some(room) = room.filter(|room| seen.insert(*room)) {
                self.hear(room, &mut woken);
            }
            if let EntryKind::State(state) = &entry.kind
                && let Some((user, membership)) = state.member
            {
                self.member(state.room, user, membership);
                seen.remove(&state.room);
            }
        }
        self.wake_those(&woken, committed, counters, |_| true);
        following.retain(|user| !woken.contains(user));
        self.wake_those(&following, committed, counters, |signal| {
            signal.follows.load(Ordering::Acquire)
        });
    }

    /// The rooms that a user is in: as is known here, which each entry changes, or as was asked before.
    fn rooms_of(&self, user: UserNo, sharing: &Sharing) -> Vec<RoomNo> {
        let known = self.users.get(&user).and_then(|user| user.rooms.as_ref());
        if let Some(rooms) = known {
            return rooms.joined.iter().copied().collect();
        }
        let rows = sharing.get(&user).into_iter().flat_map(|rows| rows.iter());
        let joined = rows.filter(|row| row.membership == Membership::Join);
        joined.map(|row| row.room).collect()
    }

    /// Wakes who is in these rooms.
    pub(in crate::log) fn wake_rooms(&mut self, rooms: &[RoomNo], counters: &Counters) {
        let mut woken = HashSet::new();
        for room in rooms {
            self.hear(*room, &mut woken);
        }
        self.wake_those(&woken, 0, counters, |_| true);
    }

    /// Wakes connections that follow presence of those in the rooms that `next` gives, until there are no more or so many
    /// users are woken. Gives how many.
    pub(in crate::log) fn wake_for_presence(
        &mut self,
        mut next: impl FnMut() -> Option<RoomNo>,
        most: usize,
        counters: &Counters,
    ) -> usize {
        let follows = |signal: &Signal| signal.presence.load(Ordering::Acquire);
        let mut woken = HashSet::new();
        while woken.len() < most
            && let Some(room) = next()
        {
            let mut members = HashSet::new();
            self.hear(room, &mut members);
            members.retain(|user| {
                let connections = self.users.get(user).map(|user| &user.connections);
                let mut signals = connections.into_iter().flatten();
                signals.any(|(_, signal)| follows(signal))
            });
            woken.extend(members);
        }
        self.wake_those(&woken, 0, counters, follows);
        woken.len()
    }

    /// The room's members whose connections wait; whoever has none falls asleep in it.
    fn hear(&mut self, room: RoomNo, woken: &mut HashSet<UserNo>) {
        let Some(members) = self.listening.get_mut(&room) else {
            return;
        };
        members.retain(|user| {
            let Some(known) = self.users.get_mut(user) else {
                return false;
            };
            let waits = !known.connections.is_empty();
            if waits {
                woken.insert(*user);
            } else if let Some(rooms) = &mut known.rooms {
                rooms.asleep.insert(room);
            }
            waits
        });
        if members.is_empty() {
            self.listening.remove(&room);
        }
    }

    /// Wakes for what was committed then; 0: for what isn't in the log.
    fn wake_those(
        &self,
        users: &HashSet<UserNo>,
        committed: u64,
        counters: &Counters,
        which: impl Fn(&Signal) -> bool,
    ) {
        let woken = users.iter().filter_map(|user| self.users.get(user));
        let signals = woken.flat_map(|user| &user.connections);
        let signals = signals.filter(|(_, signal)| which(signal));
        let count = signals.map(|(_, signal)| signal.wake(committed)).count();
        counters.wake_ups(count);
    }

    /// How many connections there are.
    #[cfg(any(test, feature = "testing"))]
    pub(in crate::log) fn readers(&self) -> usize {
        let users = self.users.values();
        users.map(|user| user.connections.len()).sum()
    }

    /// How much is held: users, their rooms, and members who listen.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize, usize) {
        let rooms = self.users.values().map(|user| user.weight() - 1).sum();
        let listening = self.listening.values().map(HashSet::len).sum();
        (self.users.len(), rooms, listening)
    }
}
