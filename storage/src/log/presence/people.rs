//! Everybody of whom something is known, and what becomes of it: pure, with the time as an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use rhizome_protocol::Membership;

use super::devices::Devices;
use super::outgoing::OutgoingPresence;
use super::person::{Person, Whose, Words};
use super::rooms::Rooms;
use crate::log::positions::Positions;
use crate::{RoomNo, UserNo};

/// So often other servers are told that somebody here is still there: a little before they stop believing it.
const REPEAT: Duration = Duration::from_mins(25);
/// So long after somebody has come into a room other servers are told: they have heard of it by then.
const SETTLED: Duration = Duration::from_secs(5);
/// How many of these are remembered.
const MOST_CAME: usize = 10_000;
/// And of those who have changed, until who follows them looks.
const MOST_FOLLOWED: usize = 10_000;

/// How much is held: people, and their places in rooms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) people: usize,
    pub(super) places: usize,
}

/// What the database says of somebody.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The rooms in which they are to be seen.
    pub(super) open: Vec<RoomNo>,
    /// Rooms of theirs that have too many members for anybody to be seen.
    pub(super) closed: Vec<RoomNo>,
}

/// What is known.
#[derive(Debug)]
pub(super) struct People {
    bounds: Bounds,
    pub(super) positions: Positions,
    pub(super) known: HashMap<UserNo, Person>,
    pub(super) rooms: Rooms,
    /// When what is known of somebody may change by itself: then or later.
    due: BTreeSet<(Duration, UserNo)>,
    /// Who is offline, by their last change: in that order they are forgotten.
    offline: BTreeMap<i64, UserNo>,
    /// About whom the database is being asked, in which turn: what changes meanwhile makes the answer worthless.
    asked: HashMap<UserNo, u64>,
    turns: u64,
    /// Who has come into a room that isn't among their places yet.
    moved: HashSet<UserNo>,
    /// What these have said may be something else by now.
    pub(super) words_missed: bool,
    /// Who came where, until others can have heard of it.
    came: VecDeque<(Duration, RoomNo, UserNo)>,
    /// What other servers are to be told, if somebody tells them.
    pub(super) out: Option<OutgoingPresence>,
    /// Who has changed, of all, if somebody follows that.
    pub(super) followed: Option<BTreeSet<UserNo>>,
}

impl People {
    pub(super) fn new(bounds: Bounds, positions: Positions) -> Self {
        Self {
            bounds,
            positions,
            known: HashMap::new(),
            rooms: Rooms::default(),
            due: BTreeSet::new(),
            offline: BTreeMap::new(),
            asked: HashMap::new(),
            turns: 0,
            moved: HashSet::new(),
            words_missed: false,
            came: VecDeque::new(),
            out: None,
            followed: None,
        }
    }

    /// From now on somebody tells other servers: first of who is there.
    pub(super) fn tell_others(&mut self) {
        if self.out.is_none() {
            let ours = self
                .known
                .iter()
                .filter(|(_, one)| one.is_ours() && one.is_there());
            self.out = Some(OutgoingPresence {
                changed: ours.map(|(user, _)| *user).collect(),
                ..OutgoingPresence::default()
            });
        }
    }

    /// If the database has to be asked about somebody: the turn that [`People::learn`] is to be given with the answer.
    pub(super) fn unknown(&mut self, user: UserNo) -> Option<u64> {
        let is_there = self.known.get(&user).is_some_and(Person::is_there);
        if is_there && !self.moved.contains(&user) {
            return None;
        }
        self.turns += 1;
        self.asked.insert(user, self.turns);
        Some(self.turns)
    }

    /// Takes the answer about somebody, who may be `new`. `false`: something has changed since, and it has to be asked for again.
    pub(super) fn learn(
        &mut self,
        user: UserNo,
        turn: u64,
        learned: &Learned,
        new: Option<Whose>,
    ) -> bool {
        if self.asked.get(&user) != Some(&turn) {
            return false;
        }
        self.asked.remove(&user);
        self.moved.remove(&user);
        for room in &learned.closed {
            for there in self.rooms.close(*room) {
                self.known
                    .get_mut(&there)
                    .and_then(|person| person.places.remove(room));
            }
        }
        if !self.known.contains_key(&user)
            && let Some(new) = new
            && self.make_room(learned.open.len())
        {
            let new = Person::new(new, self.positions.next());
            self.offline.insert(new.changed, user);
            self.known.insert(user, new);
        }
        let Some(person) = self.known.get_mut(&user) else {
            return true;
        };
        let open: HashSet<RoomNo> = learned.open.iter().copied().collect();
        person.places.retain(|room, position| {
            let stays = open.contains(room);
            if !stays {
                self.rooms.remove(*room, *position);
            }
            stays
        });
        let position = self.positions.next();
        for room in open {
            if let std::collections::hash_map::Entry::Vacant(place) = person.places.entry(room) {
                place.insert(position);
                self.rooms.place(room, user, None, position);
                if person.is_there() {
                    self.rooms.tell(room);
                }
            }
        }
        true
    }

    /// Makes room for one more, at the cost of those who have been offline longest.
    fn make_room(&mut self, places: usize) -> bool {
        while self.known.len() >= self.bounds.people
            || self.rooms.places() + places > self.bounds.places
        {
            let Some((_, user)) = self.offline.pop_first() else {
                return false;
            };
            self.forget(user);
        }
        true
    }

    fn forget(&mut self, user: UserNo) {
        let Some(gone) = self.known.remove(&user) else {
            return;
        };
        for (room, position) in gone.places {
            self.rooms.remove(room, position);
        }
        if let Some(due) = gone.due {
            self.due.remove(&(due, user));
        }
        self.moved.remove(&user);
    }

    /// Changes what is known of somebody, if anything is.
    pub(super) fn change(
        &mut self,
        user: UserNo,
        now: Duration,
        change: impl FnOnce(&mut Whose),
    ) -> bool {
        let Some(person) = self.known.get_mut(&user) else {
            return false;
        };
        change(&mut person.whose);
        self.settle(user, now);
        true
    }

    /// What the devices of somebody here say.
    pub(super) fn devices_of(&self, user: UserNo) -> Option<&Devices> {
        match &self.known.get(&user)?.whose {
            Whose::Ours(devices, _) => Some(devices),
            Whose::Theirs(..) => None,
        }
    }

    /// Changes what the devices of somebody here say.
    pub(super) fn change_devices<T>(
        &mut self,
        user: UserNo,
        now: Duration,
        change: impl FnOnce(&mut Devices, &mut Words) -> T,
    ) -> Option<T> {
        let mut done = None;
        self.change(user, now, |whose| {
            if let Whose::Ours(devices, words) = whose {
                done = Some(change(devices, words));
            }
        });
        done
    }

    /// Tells what has changed of somebody, and notes when to look again.
    pub(super) fn settle(&mut self, user: UserNo, now: Duration) {
        self.say(user, now);
        let alone = !self.positions.has_others();
        let Some(person) = self.known.get_mut(&user) else {
            return;
        };
        let told = person.whose.at(now);
        if told != person.told {
            let position = self.positions.next();
            let wakes = told.differs_from(&person.told);
            if !person.is_there() {
                self.offline.remove(&person.changed);
                person.repeat = now + REPEAT;
            }
            (person.told, person.changed) = (told, position);
            if !person.is_there() {
                self.offline.insert(position, user);
            }
            for (room, place) in &mut person.places {
                self.rooms.place(*room, user, Some(*place), position);
                *place = position;
                if wakes {
                    self.rooms.tell(*room);
                }
            }
            if let Some(followed) = self.followed.as_mut()
                && wakes
                && followed.len() < MOST_FOLLOWED
            {
                followed.insert(user);
            }
            if (person.is_told_here(alone) || person.was_left(now))
                && let Some(out) = &mut self.out
            {
                out.changed.insert(user);
            }
        }
        let repeats = self.out.is_some() && person.is_told_here(alone) && person.is_there();
        let repeat = repeats.then_some(person.repeat);
        let next = person.whose.due(now).into_iter().chain(repeat).min();
        // A time that is too early costs a look, one for each poll would cost more.
        if let Some(next) = next
            && person.due.is_none_or(|due| due > next)
        {
            if let Some(due) = person.due.replace(next) {
                self.due.remove(&(due, user));
            }
            self.due.insert((next, user));
        }
    }

    /// Does what the time has come for.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((at, user)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            let Some(person) = self.known.get_mut(&user) else {
                continue;
            };
            person.due = None;
            if person.repeat <= now
                && person.is_there()
                && person.is_told_here(!self.positions.has_others())
                && let Some(out) = &mut self.out
            {
                person.repeat = now + REPEAT;
                out.changed.insert(user);
            }
            self.settle(user, now);
        }
        while let Some((at, room, user)) = self.came.front().copied()
            && at <= now
        {
            self.came.pop_front();
            if let Some(out) = &mut self.out {
                out.came.insert((room, user));
            }
        }
    }

    /// A membership changes.
    pub(super) fn member(
        &mut self,
        room: RoomNo,
        user: UserNo,
        membership: Membership,
        now: Duration,
    ) {
        self.asked.remove(&user);
        let known = self.known.get_mut(&user);
        if membership == Membership::Join {
            let is_known = known.is_some();
            if is_known {
                self.moved.insert(user);
            }
            if self.out.is_some()
                && (is_known || self.rooms.has(room))
                && self.came.len() < MOST_CAME
            {
                self.came.push_back((now + SETTLED, room, user));
            }
        } else if let Some(position) = known.and_then(|person| person.places.remove(&room)) {
            self.rooms.remove(room, position);
        }
    }

    /// Everybody's rooms and words may be others by now.
    pub(super) fn everybody_moved(&mut self) {
        self.words_missed = true;
        self.asked.clear();
        self.moved.extend(self.known.keys());
    }

    /// Those whose rooms have to be asked for.
    pub(super) fn moved(&self) -> Vec<UserNo> {
        self.moved.iter().copied().collect()
    }

    pub(super) fn have_moved(&self) -> bool {
        !self.moved.is_empty()
    }
}
