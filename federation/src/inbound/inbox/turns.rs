//! Whose events are worked on next: a pure decision.
//!
//! A *lane* is what one origin has waiting in one room; a worker takes a turn at one. New events of servers that
//! answer have most of the places and little time each; what was tried before, and what came from servers that
//! were slow, has the others and the time that it needs. No origin has more than its share of either, and whoever
//! was served longest ago goes first: neither one that keeps us waiting nor one that sends without end holds up
//! the others.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rhizome_storage::InboxLane;
use ruma::{OwnedRoomId, OwnedServerName, ServerName};

use crate::fetch::gather::Haste;

/// How many lanes are worked on at the same time, and how many of them of one origin.
const fn places(haste: Haste) -> (usize, usize) {
    match haste {
        Haste::Quick => (12, 6),
        Haste::Patient => (8, 3),
    }
}

/// A room, and the origin of the events.
pub(super) type Lane = (OwnedRoomId, OwnedServerName);

/// Who is worked on, and who was.
#[derive(Debug, Default)]
pub(super) struct Turns {
    working: HashMap<Lane, Haste>,
    /// Lanes at which nothing can be done now, and until when.
    resting: HashMap<Lane, Duration>,
    /// When each origin was last served, counted in turns.
    served: HashMap<OwnedServerName, u64>,
    turn: u64,
}

impl Turns {
    /// The turns that begin `now` (time since any moment), given what is due.
    pub(super) fn begin(
        &mut self,
        due: &[InboxLane],
        now: Duration,
        is_slow: impl Fn(&ServerName) -> bool,
    ) -> Vec<(Lane, Haste)> {
        let origins: HashSet<&OwnedServerName> = due.iter().map(|lane| &lane.origin).collect();
        self.served.retain(|origin, _| origins.contains(origin));
        self.resting.retain(|_, until| *until > now);
        let mut open: Vec<(Lane, Haste)> = due
            .iter()
            .map(|lane| {
                let haste = if lane.is_new && !is_slow(&lane.origin) {
                    Haste::Quick
                } else {
                    Haste::Patient
                };
                ((lane.room_id.clone(), lane.origin.clone()), haste)
            })
            .filter(|(lane, _)| {
                !self.working.contains_key(lane) && !self.resting.contains_key(lane)
            })
            .collect();
        let mut begun = Vec::new();
        while let Some(at) = self.next_of(&open) {
            let (lane, haste) = open.swap_remove(at);
            self.turn += 1;
            self.served.insert(lane.1.clone(), self.turn);
            self.working.insert(lane.clone(), haste);
            begun.push((lane, haste));
        }
        begun
    }

    /// A turn has ended, and the lane rests until then.
    pub(super) fn end(&mut self, lane: Lane, rests_until: Option<Duration>) {
        self.working.remove(&lane);
        if let Some(until) = rests_until {
            self.resting.insert(lane, until);
        }
    }

    /// How long until the first lane has rested.
    pub(super) fn rest(&self, now: Duration) -> Option<Duration> {
        let first = self.resting.values().min();
        first.map(|until| until.saturating_sub(now))
    }

    /// Whether nothing can begin, whatever is due.
    pub(super) fn is_full(&self) -> bool {
        [Haste::Quick, Haste::Patient]
            .into_iter()
            .all(|haste| self.count(haste) >= places(haste).0)
    }

    fn count(&self, haste: Haste) -> usize {
        self.working.values().filter(|it| **it == haste).count()
    }

    fn next_of(&self, open: &[(Lane, Haste)]) -> Option<usize> {
        let mut of_origin: HashMap<(&ServerName, Haste), usize> = HashMap::new();
        let mut of_all: HashMap<Haste, usize> = HashMap::new();
        for ((_, origin), haste) in &self.working {
            *of_origin.entry((origin, *haste)).or_default() += 1;
            *of_all.entry(*haste).or_default() += 1;
        }
        let has = |origin: &OwnedServerName, haste| {
            let of_origin = of_origin.get(&(&**origin, haste)).copied();
            (
                of_all.get(&haste).copied().unwrap_or(0),
                of_origin.unwrap_or(0),
            )
        };
        open.iter()
            .enumerate()
            .filter(|(_, ((_, origin), haste))| {
                let ((all, own), (most, share)) = (has(origin, *haste), places(*haste));
                all < most && own < share
            })
            .min_by_key(|(at, ((_, origin), haste))| {
                let served = self.served.get(origin).copied().unwrap_or(0);
                (has(origin, *haste).1, served, *at)
            })
            .map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(9);

    fn lanes(origin: &str, count: usize, is_new: bool) -> Vec<InboxLane> {
        (0..count)
            .map(|n| InboxLane {
                room_id: format!("!{n}:{origin}").try_into().unwrap(),
                origin: origin.try_into().unwrap(),
                is_new,
            })
            .collect()
    }

    fn count(begun: &[(Lane, Haste)], origin: &str, haste: Haste) -> usize {
        let fitting = begun
            .iter()
            .filter(|((_, of), how)| of == origin && *how == haste);
        fitting.count()
    }

    #[test]
    fn nobody_has_all_places() {
        let mut turns = Turns::default();
        let many = lanes("many.org", 40, true);
        let begun = turns.begin(&many, NOW, |_| false);
        assert_eq!(begun.len(), 6);
        assert!(turns.begin(&many, NOW, |_| false).is_empty());
        // Others come in although they are named last; what was tried before has places of its own.
        let due = [
            many,
            lanes("tried.org", 9, false),
            lanes("few.org", 2, true),
        ]
        .concat();
        let begun = turns.begin(&due, NOW, |_| false);
        assert_eq!(count(&begun, "few.org", Haste::Quick), 2);
        assert_eq!(count(&begun, "tried.org", Haste::Patient), 3);
        assert_eq!(begun.len(), 5);
        assert!(!turns.is_full());
    }

    #[test]
    fn slow_servers_share_few_places() {
        let mut turns = Turns::default();
        let slow: Vec<InboxLane> = (0..30)
            .flat_map(|n| lanes(&format!("slow{n}.org"), 3, true))
            .collect();
        let begun = turns.begin(&slow, NOW, |_| true);
        assert_eq!(begun.len(), 8);
        let fair = lanes("fair.org", 1, true);
        let due = [slow, fair].concat();
        let begun = turns.begin(&due, NOW, |server| server != "fair.org");
        assert_eq!(count(&begun, "fair.org", Haste::Quick), 1);
        assert_eq!(begun.len(), 1);
    }

    #[test]
    fn whoever_was_served_longest_ago_is_next() {
        let mut turns = Turns::default();
        let due: Vec<InboxLane> = (0..24)
            .flat_map(|n| lanes(&format!("s{n}.org"), 2, true))
            .collect();
        let mut served: HashMap<OwnedServerName, usize> = HashMap::new();
        for _ in 0..4 {
            let begun = turns.begin(&due, NOW, |_| false);
            assert_eq!(begun.len(), 12);
            for (lane, _) in begun {
                *served.entry(lane.1.clone()).or_default() += 1;
                turns.end(lane, None);
            }
        }
        assert_eq!(served.len(), 24);
        assert!(served.values().all(|times| *times == 2));
    }

    #[test]
    fn lanes_rest_as_long_as_nothing_can_be_done() {
        let mut turns = Turns::default();
        let due = lanes("far.org", 2, true);
        let mut begun = turns.begin(&due, NOW, |_| false);
        let second = Duration::from_secs(1);
        turns.end(begun.remove(0).0, Some(NOW + second));
        turns.end(begun.remove(0).0, Some(NOW + 2 * second));
        assert!(turns.begin(&due, NOW, |_| false).is_empty());
        assert_eq!(turns.rest(NOW), Some(second));
        assert_eq!(turns.begin(&due, NOW + second, |_| false).len(), 1);
        assert_eq!(turns.rest(NOW + second), Some(second));
    }
}
