//! Who is typing: in memory, with a position of its own, never on disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use ruma::{OwnedUserId, UserId};

use crate::engine::lock;
use crate::log::positions::Positions;
use crate::{Clock, RoomNo, Store};

/// How many rooms' typing is remembered; beyond, the ones that changed longest ago are forgotten.
const MOST_ROOMS: usize = 20_000;
/// How many users may be typing in one room; more than anybody wants to read of.
const MOST_TYPING: usize = 100;
/// The longest that a client may ask for.
const LONGEST: Duration = Duration::from_mins(2);

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
    last: i64,
    rooms: HashMap<RoomNo, Room>,
    /// Position → room: each room once, at its last change.
    order: BTreeMap<i64, RoomNo>,
    /// Where somebody is typing.
    active: HashSet<RoomNo>,
}

#[derive(Debug, Default)]
struct Room {
    changed: i64,
    typing: BTreeMap<OwnedUserId, Duration>,
}

impl Ephemeral {
    pub(crate) fn new(clock: Clock, positions: Positions) -> Self {
        Self {
            clock,
            positions,
            inner: Mutex::default(),
        }
    }

    /// The position of the last change, of typing or of presence.
    pub fn head(&self) -> i64 {
        self.positions.head()
    }

    /// Who is typing in `room`, and the position at which that changed last.
    pub fn typing(&self, room: RoomNo) -> (i64, Vec<OwnedUserId>) {
        let inner = lock(&self.inner);
        inner.rooms.get(&room).map_or((0, Vec::new()), |room| {
            (room.changed, room.typing.keys().cloned().collect())
        })
    }

    /// Which of `rooms` changed after the position `after`.
    pub fn changed(&self, rooms: &[RoomNo], after: i64) -> Vec<RoomNo> {
        let inner = lock(&self.inner);
        if inner.last <= after {
            return Vec::new();
        }
        let changed_after = |room: &&RoomNo| {
            inner
                .rooms
                .get(room)
                .is_some_and(|state| state.changed > after)
        };
        rooms.iter().filter(changed_after).copied().collect()
    }

    /// Notes that `user` types for `timeout` more, or (`None`) no longer. Whether that changed anything.
    fn set(&self, room: RoomNo, user: &UserId, timeout: Option<Duration>) -> bool {
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        let state = inner.rooms.entry(room).or_default();
        let changed = match timeout {
            Some(timeout) => {
                let until = self.clock.monotonic() + timeout.min(LONGEST);
                let room_for_more = state.typing.len() < MOST_TYPING;
                match state.typing.get_mut(user) {
                    Some(known) => {
                        *known = until;
                        false
                    }
                    None if room_for_more => {
                        state.typing.insert(user.to_owned(), until);
                        true
                    }
                    None => false,
                }
            }
            None => state.typing.remove(user).is_some(),
        };
        if changed {
            inner.touch(room, self.positions.next());
        } else if state.changed == 0 {
            inner.rooms.remove(&room);
        }
        changed
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
            let before = room.typing.len();
            room.typing.retain(|_, until| *until > now);
            if room.typing.len() != before {
                changed.push(*no);
            }
        }
        for room in &changed {
            inner.touch(*room, self.positions.next());
        }
        changed
    }
}

impl Inner {
    fn touch(&mut self, room: RoomNo, head: i64) {
        self.last = head;
        let state = self.rooms.entry(room).or_default();
        if state.typing.is_empty() {
            self.active.remove(&room);
        } else {
            self.active.insert(room);
        }
        self.order
            .remove(&std::mem::replace(&mut state.changed, head));
        self.order.insert(head, room);
        if self.order.len() > MOST_ROOMS
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.rooms.remove(&oldest);
            self.active.remove(&oldest);
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
mod tests {
    use super::*;
    use ruma::user_id;

    #[test]
    fn typing_ends_by_itself() {
        let clock = Clock::manual(0);
        let stream = Ephemeral::new(clock.clone(), Positions::new(0));
        let (room, alice) = (RoomNo(1), user_id!("@alice:a"));
        assert!(stream.set(room, alice, Some(Duration::from_secs(30))));
        assert!(!stream.set(room, alice, Some(Duration::from_secs(30))));
        assert_eq!(stream.typing(room), (1, vec![alice.to_owned()]));
        assert_eq!(stream.changed(&[room, RoomNo(2)], 0), [room]);
        clock.advance(Duration::from_secs(29));
        assert!(stream.expire().is_empty());
        clock.advance(Duration::from_secs(1));
        assert_eq!(stream.expire(), [room]);
        assert_eq!(stream.typing(room), (2, vec![]));
        assert_eq!(stream.changed(&[room], 1), [room]);
        assert!(stream.changed(&[room], 2).is_empty());
        assert!(!stream.set(room, alice, None));
    }
}
