//! What is remembered of a destination's run ([`super::latest`]) beside what is written down: the events that are enough,
//! and the rooms of which they aren't.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rhizome_storage::{DestinationState, EventNo, Outbound, Pos, RoomNo, StoredEvent};

/// With more events than this a plan isn't kept while nobody works on it: it can be made again.
const MAX_KEPT: usize = 1_000;

/// A part of the log: what stands after the first and up to the second.
pub(super) type Span = (Pos, Pos);

/// A destination's run.
#[derive(Debug, Default)]
pub(super) struct Run {
    plan: Option<Plan>,
    /// Rooms of which all is sent: it can't ask for what is passed over, or nothing led it there.
    whole: BTreeSet<RoomNo>,
    /// What had been passed over in them when that was found out, as far as it hasn't been sent since.
    behind: BTreeMap<RoomNo, Span>,
    /// How far the run had come before something was put behind that only this memory knows of.
    held: Option<Pos>,
}

/// The events that are enough up to a position, ascending.
#[derive(Debug)]
struct Plan {
    upto: Pos,
    events: Vec<(Pos, EventNo)>,
}

impl Run {
    /// Whether it is known which events are enough up to there.
    pub(super) fn is_planned(&self, upto: Pos) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.upto == upto)
    }

    /// These are enough up to there.
    pub(super) fn plan(&mut self, upto: Pos, events: impl IntoIterator<Item = Outbound>) {
        let none = Vec::new();
        self.plan = Some(Plan { upto, events: none });
        self.add(events);
    }

    /// These are sent as well.
    pub(super) fn add(&mut self, events: impl IntoIterator<Item = Outbound>) {
        if let Some(plan) = &mut self.plan {
            let events = events.into_iter().map(|(pos, _, event)| (pos, event));
            plan.events.extend(events);
            plan.events.sort_unstable();
            plan.events.dedup();
        }
    }

    /// What comes next of the plan.
    pub(super) fn next(&self, after: Pos, most: usize) -> Vec<EventNo> {
        let Some(plan) = &self.plan else {
            return Vec::new();
        };
        let first = plan.events.partition_point(|(pos, _)| *pos <= after);
        let next = plan.events.iter().skip(first).take(most);
        next.map(|(_, event)| *event).collect()
    }

    /// The rooms of which all is sent.
    pub(super) fn whole(&self) -> Vec<RoomNo> {
        self.whole.iter().copied().collect()
    }

    /// Whether all of a room is sent.
    pub(super) fn is_whole(&self, room: RoomNo) -> bool {
        self.whole.contains(&room)
    }

    /// All of a room is sent from now on, and what was passed over in this part of the log. `false` if that was so.
    pub(super) fn make_whole(&mut self, room: RoomNo, passed: Span) -> bool {
        let is_new = self.whole.insert(room);
        if is_new && passed.0 < passed.1 {
            self.behind.insert(room, passed);
        }
        is_new
    }

    /// What is behind now isn't found again by who knows only what is written down: until it is sent, the run has come
    /// no further than this there.
    pub(super) fn hold(&mut self, come: Pos) {
        if !self.behind.is_empty() && self.held.is_none() {
            self.held = Some(come);
        }
    }

    /// A room of which something that was passed over has still to be sent, and where that stands.
    pub(super) fn behind(&self) -> Option<(RoomNo, Span)> {
        let (room, span) = self.behind.first_key_value()?;
        Some((*room, *span))
    }

    /// There is nothing left of it.
    pub(super) fn nothing_behind(&mut self, room: RoomNo) {
        self.behind.remove(&room);
        if self.behind.is_empty() {
            self.held = None;
        }
    }

    /// Of what was passed over these have been sent.
    pub(super) fn told(&mut self, events: &[(Pos, Arc<StoredEvent>)]) {
        for (pos, event) in events {
            self.told_upto(event.room, *pos);
        }
    }

    fn told_upto(&mut self, room: RoomNo, pos: Pos) {
        if let Some((after, upto)) = self.behind.get_mut(&room) {
            *after = pos.max(*after);
            if after >= upto {
                self.nothing_behind(room);
            }
        }
    }

    /// What is written down of where the destination stands.
    pub(super) fn written(&self, stand: DestinationState) -> DestinationState {
        DestinationState {
            come: self.held.map_or(stand.come, |held| held.min(stand.come)),
            ..stand
        }
    }

    /// As it is kept while nobody works on it; `None` if there is nothing worth that.
    pub(super) fn kept(mut self) -> Option<Box<Self>> {
        self.plan = self.plan.filter(|plan| plan.events.len() <= MAX_KEPT);
        let is_empty = self.plan.is_none() && self.whole.is_empty();
        (!is_empty).then(|| Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RoomNo = RoomNo(1);
    const B: RoomNo = RoomNo(2);

    fn events(nos: &[i64]) -> Vec<Outbound> {
        let events = nos.iter().map(|no| (Pos(*no), A, EventNo(no * 10)));
        events.collect()
    }

    #[test]
    fn what_comes_next_follows_the_cursor() {
        let mut run = Run::default();
        assert!(!run.is_planned(Pos(90)));
        run.plan(Pos(90), events(&[80, 3, 7]));
        assert!(run.is_planned(Pos(90)) && !run.is_planned(Pos(91)));
        let next = |run: &Run, after, most| run.next(Pos(after), most);
        assert_eq!(next(&run, 0, 2), [EventNo(30), EventNo(70)]);
        assert_eq!(next(&run, 2, 9).len(), 3);
        assert_eq!(next(&run, 3, 9), [EventNo(70), EventNo(800)]);
        assert!(next(&run, 80, 9).is_empty());
        // What is added comes in its place, and once.
        run.add(events(&[7, 50]));
        assert_eq!(next(&run, 7, 9), [EventNo(500), EventNo(800)]);
    }

    #[test]
    fn what_was_passed_over_is_behind_until_it_is_sent() {
        let mut run = Run::default();
        assert!(run.make_whole(A, (Pos(5), Pos(5))));
        assert_eq!(run.behind(), None, "nothing was passed over");
        assert!(run.make_whole(B, (Pos(5), Pos(9))));
        assert!(!run.make_whole(B, (Pos(5), Pos(20))), "it is known");
        assert_eq!(run.whole(), [A, B]);
        assert_eq!(run.behind(), Some((B, (Pos(5), Pos(9)))));
        run.told_upto(B, Pos(7));
        run.told_upto(A, Pos(8));
        assert_eq!(run.behind(), Some((B, (Pos(7), Pos(9)))));
        run.told_upto(B, Pos(9));
        assert_eq!(run.behind(), None);
        assert!(run.is_whole(B));
    }

    /// What only this memory knows of is no reason to forget where it was found out.
    #[test]
    fn a_run_comes_no_further_on_disk_while_something_is_behind() {
        let stand = DestinationState {
            sent: Pos(5),
            newest: Pos(90),
            come: Pos(40),
            ..DestinationState::default()
        };
        let mut run = Run::default();
        run.hold(Pos(20));
        assert_eq!(run.written(stand).come, Pos(40), "nothing is behind");
        run.make_whole(A, (Pos(5), Pos(40)));
        run.hold(Pos(20));
        run.make_whole(B, (Pos(5), Pos(60)));
        run.hold(Pos(50));
        assert_eq!(run.written(stand).come, Pos(20));
        run.nothing_behind(A);
        assert_eq!(run.written(stand).come, Pos(20));
        run.nothing_behind(B);
        assert_eq!(run.written(stand), stand);
    }

    #[test]
    fn a_long_plan_is_not_kept_and_what_is_whole_is() {
        assert!(Run::default().kept().is_none());
        let long: Vec<i64> = (0..2_000).collect();
        let mut run = Run::default();
        run.plan(Pos(9_000), events(&long));
        assert!(run.kept().is_none());
        let mut run = Run::default();
        run.plan(Pos(9_000), events(&long));
        run.make_whole(A, (Pos(1), Pos(2)));
        let kept = run.kept().unwrap();
        assert!(!kept.is_planned(Pos(9_000)) && kept.is_whole(A));
        let mut run = Run::default();
        run.plan(Pos(9_000), events(&[1]));
        assert!(run.kept().unwrap().is_planned(Pos(9_000)));
    }
}
