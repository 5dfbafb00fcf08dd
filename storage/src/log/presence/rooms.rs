//! Who is to be seen in which room, and since which position: what a reader asks.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::{RoomNo, UserNo};

/// A list for each room, in which everybody stands once, at their last change.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    lists: HashMap<RoomNo, BTreeMap<i64, UserNo>>,
    /// How many places they have together.
    places: usize,
    /// Rooms in which something has changed of which those who wait haven't been told, the oldest first.
    untold: VecDeque<RoomNo>,
    queued: HashSet<RoomNo>,
}

impl Rooms {
    /// Somebody stands at `position` of a room from now on, and no longer at `before`.
    pub(super) fn place(&mut self, room: RoomNo, user: UserNo, before: Option<i64>, position: i64) {
        let list = self.lists.entry(room).or_default();
        let moved = before.and_then(|before| list.remove(&before)).is_some();
        list.insert(position, user);
        self.places += usize::from(!moved);
    }

    /// Somebody stands in a room no longer.
    pub(super) fn remove(&mut self, room: RoomNo, position: i64) {
        if let Some(list) = self.lists.get_mut(&room) {
            self.places -= usize::from(list.remove(&position).is_some());
            if list.is_empty() {
                self.lists.remove(&room);
            }
        }
    }

    /// Nobody stands in a room any more. Gives who did.
    pub(super) fn close(&mut self, room: RoomNo) -> Vec<UserNo> {
        let list = self.lists.remove(&room).unwrap_or_default();
        self.places -= list.len();
        list.into_values().collect()
    }

    /// Who has come to stand in a room after a position, or (`None`) at all.
    pub(super) fn after(
        &self,
        room: RoomNo,
        after: Option<i64>,
    ) -> impl Iterator<Item = (i64, UserNo)> {
        let first = after.map_or(i64::MIN, |after| after.saturating_add(1));
        let list = self.lists.get(&room).into_iter();
        list.flat_map(move |list| list.range(first..))
            .map(|(position, user)| (*position, *user))
    }

    /// Whether anybody stands there.
    pub(super) fn has(&self, room: RoomNo) -> bool {
        self.lists.contains_key(&room)
    }

    /// How much is held.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Those who wait in the room are to be told.
    pub(super) fn tell(&mut self, room: RoomNo) {
        if self.queued.insert(room) {
            self.untold.push_back(room);
        }
    }

    /// Whether there are such rooms.
    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// The next room in which they are.
    pub(super) fn next_untold(&mut self) -> Option<RoomNo> {
        let room = self.untold.pop_front()?;
        self.queued.remove(&room);
        Some(room)
    }
}
