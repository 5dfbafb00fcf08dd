//! Against a model that knows everything, whatever happens in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use proptest::prelude::*;
use rhizome_protocol::Membership;

use super::*;
use crate::facts::Logged;
use crate::facts::entry::StateChanged;
use crate::{AccountData, Counters, Entry, EntryKind, KeyNo, Pos, RoomNo};

fn entry(kind: EntryKind) -> Arc<Entry> {
    Arc::new(Entry { pos: Pos(1), kind })
}

fn state(room: RoomNo, member: Option<(UserNo, Membership)>) -> Arc<Entry> {
    entry(EntryKind::State(StateChanged {
        room,
        key: KeyNo(1),
        old: None,
        new: None,
        member,
    }))
}

fn data(user: UserNo) -> Arc<Entry> {
    let data = AccountData {
        user,
        room: None,
        kind: "m.test".to_owned(),
        content: "{}".into(),
    };
    entry(EntryKind::AccountData(Logged::new(Pos(1), data)))
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A connection comes, or the n-th goes.
    Connect(UserNo),
    Disconnect(usize),
    Listen(UserNo),
    /// Something stands in the log.
    Told(RoomNo),
    Join(UserNo, RoomNo),
    Leave(UserNo, RoomNo),
    Data(UserNo),
    /// What stood there since is committed as one group.
    Group,
    Typing(RoomNo),
    /// A membership changes without an entry.
    Given(UserNo, RoomNo),
    /// Somebody asked the database, and then something changed.
    Outdated(UserNo, RoomNo),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    (0..24_u8, 0..4_i64, 0..4_i64).prop_map(|(step, user, room)| {
        let (user, room) = (UserNo(user), RoomNo(room));
        match step {
            0..=3 => Step::Connect(user),
            4..=6 => Step::Disconnect(usize::try_from(user.0 + room.0).unwrap()),
            7..=9 => Step::Listen(user),
            10..=12 => Step::Told(room),
            13..=14 => Step::Join(user, room),
            15 => Step::Leave(user, room),
            16 => Step::Data(user),
            17..=19 => Step::Group,
            20 => Step::Typing(room),
            21 => Step::Given(user, room),
            22 => Step::Outdated(user, room),
            _ => Step::Forget,
        }
    })
}

/// What is so, and what each connection must have heard.
struct Model {
    waiters: Waiters,
    counters: Counters,
    joined: BTreeSet<(UserNo, RoomNo)>,
    /// Connections, and how often each is to have been woken.
    connections: BTreeMap<u64, (UserNo, Arc<Signal>, u64)>,
    group: Vec<Arc<Entry>>,
}

impl Model {
    fn new(most_idle: usize) -> Self {
        Self {
            waiters: Waiters::new(most_idle),
            counters: Counters::default(),
            joined: BTreeSet::new(),
            connections: BTreeMap::new(),
            group: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect(user) => {
                let (id, signal) = self.waiters.add(user);
                self.connections.insert(id, (user, signal, 0));
            }
            Step::Disconnect(index) => {
                if let Some(id) = self.connections.keys().nth(index).copied() {
                    let (user, ..) = self.connections.remove(&id).unwrap();
                    self.waiters.remove(user, id);
                }
            }
            Step::Listen(user) => {
                if let Some(moment) = self.waiters.unknown(user) {
                    self.waiters.learn(user, moment, self.rooms_of(user));
                    assert!(self.waiters.unknown(user).is_none());
                }
            }
            Step::Told(room) => self.group.push(state(room, None)),
            Step::Join(user, room) => self.group.push(state(room, Some((user, Membership::Join)))),
            Step::Leave(user, room) => self
                .group
                .push(state(room, Some((user, Membership::Leave)))),
            Step::Data(user) => self.group.push(data(user)),
            Step::Group => self.commit(),
            Step::Typing(room) => {
                let woken = self.members(room);
                self.waiters.wake_rooms(&[room], &self.counters);
                self.expect(&woken);
            }
            Step::Given(user, room) => {
                self.commit();
                self.joined.insert((user, room));
                self.waiters.member(room, user, Membership::Join);
            }
            Step::Outdated(user, room) => {
                self.commit();
                let asked = self.waiters.unknown(user);
                let answer = self.rooms_of(user);
                self.take(Step::Join(user, room));
                self.commit();
                if let Some(moment) = asked {
                    self.waiters.learn(user, moment, answer);
                    assert_eq!(self.waiters.unknown(user), Some(moment + 1));
                }
            }
            Step::Forget => {
                self.waiters.forget_all();
                for (_, _, times) in self.connections.values_mut() {
                    *times += 1;
                }
            }
        }
        self.check();
    }

    fn commit(&mut self) {
        let group = std::mem::take(&mut self.group);
        let mut woken = BTreeSet::new();
        for entry in &group {
            match &entry.kind {
                EntryKind::State(state) => {
                    woken.extend(self.members(state.room));
                    if let Some((user, membership)) = state.member {
                        woken.insert(user);
                        match membership {
                            Membership::Join => self.joined.insert((user, state.room)),
                            _ => self.joined.remove(&(user, state.room)),
                        };
                    }
                }
                EntryKind::AccountData(data) => drop(woken.insert(data.user)),
                _ => unreachable!(),
            }
        }
        self.waiters
            .wake_for(&group, &Sharing::new(), &self.counters);
        self.expect(&woken);
    }

    fn rooms_of(&self, user: UserNo) -> HashSet<RoomNo> {
        let joined = self.joined.iter().filter(|(of, _)| *of == user);
        joined.map(|(_, room)| *room).collect()
    }

    /// Who is in the room and has listened.
    fn members(&self, room: RoomNo) -> BTreeSet<UserNo> {
        let connected = self.connections.values().map(|(user, ..)| *user);
        connected
            .filter(|user| self.waiters.unknown(*user).is_none())
            .filter(|user| self.joined.contains(&(*user, room)))
            .collect()
    }

    fn expect(&mut self, woken: &BTreeSet<UserNo>) {
        for (user, _, times) in self.connections.values_mut() {
            *times += u64::from(woken.contains(user));
        }
    }

    fn check(&self) {
        for (user, signal, times) in self.connections.values() {
            assert_eq!(signal.count.load(Ordering::Acquire), *times, "{user:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn everybody_hears_what_concerns_them_and_nothing_else(
        steps in prop::collection::vec(step(), 1..120),
        most_idle in 0..8_usize,
    ) {
        let mut model = Model::new(most_idle);
        for step in steps {
            model.take(step);
        }
        let wait: BTreeSet<_> = model.connections.values().map(|(user, ..)| *user).collect();
        // Beside those who wait, no more is held than may be.
        let (users, rooms, listening) = model.waiters.held();
        prop_assert!(users <= wait.len() + most_idle);
        prop_assert!(rooms <= wait.len() * 4 + most_idle);
        prop_assert!(listening <= rooms);
    }
}

/// Whoever has no connection costs an entry once, and is back with what there was.
#[test]
fn the_absent_are_looked_at_once() {
    let (mut waiters, counters) = (Waiters::default(), Counters::default());
    let (user, rooms) = (UserNo(1), [RoomNo(1), RoomNo(2), RoomNo(3)]);
    let (id, _) = waiters.add(user);
    let moment = waiters.unknown(user).unwrap();
    waiters.learn(user, moment, rooms.into());
    waiters.remove(user, id);
    assert_eq!(waiters.held(), (1, 3, 3));
    for _ in 0..2 {
        waiters.wake_for(&[state(rooms[0], None)], &Sharing::new(), &counters);
        waiters.wake_rooms(&[rooms[1]], &counters);
    }
    assert_eq!((waiters.held(), counters.now().wake_ups), ((1, 3, 1), 0));
    let (_, signal) = waiters.add(user);
    assert!(waiters.unknown(user).is_none());
    assert_eq!(waiters.held(), (1, 3, 3));
    waiters.wake_for(&[state(rooms[0], None)], &Sharing::new(), &counters);
    assert_eq!(counters.now().wake_ups, 1);
    assert_eq!(signal.count.load(Ordering::Acquire), 1);
}

/// Rooms that the absent come into count as well.
#[test]
fn the_absent_are_not_held_in_any_number_of_rooms() {
    let mut waiters = Waiters::new(3);
    let (id, _) = waiters.add(UserNo(1));
    let moment = waiters.unknown(UserNo(1)).unwrap();
    waiters.learn(UserNo(1), moment, HashSet::new());
    waiters.remove(UserNo(1), id);
    for (room, held) in [(1, (1, 1, 1)), (2, (1, 2, 2)), (3, (0, 0, 0))] {
        waiters.member(RoomNo(room), UserNo(1), Membership::Join);
        assert_eq!(waiters.held(), held);
    }
}

/// `cargo test -p rhizome-storage --lib --release -- --ignored --nocapture what_a_poll_costs`
#[test]
#[ignore = "it measures"]
fn what_a_poll_costs() {
    for rooms in [10, 1_000] {
        let mut waiters = Waiters::default();
        let poll = |waiters: &mut Waiters| {
            let (id, _) = waiters.add(UserNo(1));
            if let Some(moment) = waiters.unknown(UserNo(1)) {
                waiters.learn(UserNo(1), moment, (0..rooms).map(RoomNo).collect());
            }
            waiters.remove(UserNo(1), id);
        };
        let started = Instant::now();
        poll(&mut waiters);
        let first = started.elapsed();
        let started = Instant::now();
        for _ in 0..10_000 {
            poll(&mut waiters);
        }
        let each = started.elapsed() / 10_000;
        println!("in {rooms} rooms: the first poll {first:?}, each later one {each:?}");
    }
}
