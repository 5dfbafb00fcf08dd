//! The rooms of one list, in order.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};

use rhizome_storage::{Pos, RoomNo};

use super::Facets;
use crate::sync::sliding::request::filter::Filter;

/// Where the next list begins to count its changes.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A list's rooms.
#[derive(Debug)]
pub struct Sorted {
    /// By activity, the latest at the end, where most of the moving is.
    rooms: Vec<(Pos, RoomNo)>,
    /// The children of the filter's spaces.
    children: Option<HashSet<RoomNo>>,
    /// How often something changed. One that is made anew is far from all that were before.
    pub changes: u64,
}

impl Sorted {
    /// The rooms that a filter lets through.
    pub fn of(
        filter: &Filter,
        children: Option<HashSet<RoomNo>>,
        all: &HashMap<RoomNo, Facets>,
    ) -> Self {
        let mut list = Self {
            rooms: Vec::new(),
            children,
            changes: MADE.fetch_add(1 << 32, Ordering::Relaxed),
        };
        let passing = all
            .iter()
            .filter(|(room, facets)| list.takes(filter, **room, facets));
        let mut rooms: Vec<_> = passing
            .map(|(room, facets)| (facets.activity, *room))
            .collect();
        rooms.sort_unstable();
        list.rooms = rooms;
        list
    }

    /// Whether a room that is told although the user has left it would stand here.
    pub fn would_have(&self, filter: &Filter, room: RoomNo, facets: &Facets) -> bool {
        let children = self.children.as_ref();
        children.is_none_or(|children| children.contains(&room)) && filter.passes(&facets.traits())
    }

    fn takes(&self, filter: &Filter, room: RoomNo, facets: &Facets) -> bool {
        facets.is_listed && self.would_have(filter, room, facets)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// How much memory it takes, counted in rooms.
    pub fn weight(&self) -> usize {
        1 + self.rooms.len() + self.children.as_ref().map_or(0, HashSet::len)
    }

    /// Where a room with this activity stands, the latest being first.
    pub fn index(&self, activity: Pos, room: RoomNo) -> Option<usize> {
        let found = self.rooms.binary_search(&(activity, room)).ok()?;
        Some(self.rooms.len() - 1 - found)
    }

    /// The rooms within a range of indices, both inclusive.
    pub fn range(&self, (start, end): (usize, usize)) -> impl Iterator<Item = RoomNo> {
        let count = end.saturating_add(1).saturating_sub(start);
        let rooms = self.rooms.iter().rev().skip(start).take(count);
        rooms.map(|(_, room)| *room)
    }

    /// A room's activity or traits changed.
    pub fn moved(
        &mut self,
        filter: &Filter,
        room: RoomNo,
        before: Option<Pos>,
        after: Option<&Facets>,
    ) {
        let was = before.and_then(|before| self.rooms.binary_search(&(before, room)).ok());
        let is = after.filter(|facets| self.takes(filter, room, facets));
        if was.is_none() && is.is_none() {
            return;
        }
        if let Some(was) = was {
            self.rooms.remove(was);
        }
        if let Some(is) = is {
            let place = (is.activity, room);
            let at = self.rooms.partition_point(|other| *other < place);
            self.rooms.insert(at, place);
        }
        self.changes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facets(activity: i64, is_encrypted: bool) -> Facets {
        Facets {
            is_encrypted,
            ..Facets::joined(Pos(activity))
        }
    }

    /// Whatever moves, a list is what it would be if it were made anew.
    #[test]
    fn a_list_stays_in_order() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            i64::try_from((seed >> 33) % below).unwrap()
        };
        let filter = Filter {
            is_encrypted: Some(true),
            ..Filter::default()
        };
        let mut all: HashMap<RoomNo, Facets> = HashMap::new();
        let mut list = Sorted::of(&filter, None, &all);
        for at in 1..2_000 {
            let room = RoomNo(random(30));
            let new = (random(5) > 0).then(|| facets(at - random(20).min(at), random(4) > 0));
            let before = match &new {
                Some(new) => all.insert(room, new.clone()),
                None => all.remove(&room),
            };
            let before = before.map(|before| before.activity);
            list.moved(&filter, room, before, new.as_ref());
            let anew = Sorted::of(&filter, None, &all);
            assert_eq!(list.rooms, anew.rooms);
            for (index, room) in list.range((0, usize::MAX)).enumerate() {
                assert_eq!(list.index(all[&room].activity, room), Some(index));
            }
        }
    }
}
