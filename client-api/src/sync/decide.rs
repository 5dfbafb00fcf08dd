//! Which state a client must be told beside a timeline: pure functions over the changes of a
//! room's current state.
//!
//! A client that was told everything up to `after` is now told a timeline that ends at `upto`.
//! Changes of current state and events are different things: a merge of forks changes state
//! without an event, a state event that loses to another changes nothing, and a gap or a filter
//! keeps events out of the timeline. So what the client needs is computed from the changes:
//!
//! - `state_after` (from v1.16): each changed key with its value at the end.
//! - `state` (older clients, which apply the timeline's state events on top): the value at the
//!   *start* of the timeline where the timeline brings the final value, else the final value. What
//!   stands in the timeline and would undo that is left out of it ([`undoing`]).

use std::collections::{BTreeMap, HashSet};

use rhizome_storage::{EventNo, KeyNo, Pos};

use crate::view::moment::EntryChange;

/// The timeline as far as state is concerned.
#[derive(Debug, Default)]
pub struct TimelineView {
    /// The events that the client is shown.
    pub shown: HashSet<EventNo>,
    /// The position of the first of them; `None` for an empty timeline.
    pub start: Option<Pos>,
}

impl TimelineView {
    fn has(&self, event: EventNo) -> bool {
        self.shown.contains(&event)
    }

    /// Whether a change happened before the timeline starts.
    fn precedes(&self, change: &EntryChange) -> bool {
        self.start.is_none_or(|start| change.pos < start)
            && !change.new.is_some_and(|new| self.has(new))
    }
}

/// What happened to one key within a window.
struct Course {
    /// What it became in the window before the timeline starts, if it did.
    at_start: Option<EventNo>,
    /// What it was just before the first change that isn't before the timeline, if there is one.
    before_timeline: Option<EventNo>,
    /// Whether there is one.
    in_timeline: bool,
    /// Its value in the end.
    last: Option<EventNo>,
}

fn courses(changes: &[EntryChange], timeline: &TimelineView) -> BTreeMap<KeyNo, Course> {
    let mut courses: BTreeMap<KeyNo, Course> = BTreeMap::new();
    for change in changes {
        let course = courses.entry(change.key).or_insert(Course {
            at_start: None,
            before_timeline: None,
            in_timeline: false,
            last: None,
        });
        course.last = change.new;
        if timeline.precedes(change) {
            course.at_start = change.new;
        } else if !course.in_timeline {
            course.in_timeline = true;
            course.before_timeline = change.old;
        }
    }
    courses
}

/// `state_after` of an incremental answer: every key that changed, with its last value.
///
/// `changes` are those of the window, ascending by position.
pub fn delta_after(changes: &[EntryChange]) -> BTreeMap<KeyNo, EventNo> {
    let mut delta = BTreeMap::new();
    for change in changes {
        match change.new {
            Some(new) => delta.insert(change.key, new),
            None => delta.remove(&change.key),
        };
    }
    delta
}

/// `state` of an incremental answer: what a client applies before the timeline.
///
/// `changes` are those of the window, ascending by position.
pub fn delta_before(changes: &[EntryChange], timeline: &TimelineView) -> BTreeMap<KeyNo, EventNo> {
    let mut delta = BTreeMap::new();
    for (key, course) in courses(changes, timeline) {
        let Some(last) = course.last else { continue };
        if !timeline.has(last) {
            delta.insert(key, last);
        } else if let Some(before) = course.at_start
            && !timeline.has(before)
        {
            delta.insert(key, before);
        }
    }
    delta
}

/// `state` of an initial answer: the whole state as it must be before the timeline is applied.
///
/// `full` is the state at the end of the window, `changes` at least those from the start of the
/// timeline on, ascending by position.
pub fn full_before(
    full: BTreeMap<KeyNo, EventNo>,
    changes: &[EntryChange],
    timeline: &TimelineView,
) -> BTreeMap<KeyNo, EventNo> {
    let mut state = full;
    for (key, course) in courses(changes, timeline) {
        let Some(last) = state.get(&key).copied() else {
            continue;
        };
        if !timeline.has(last) {
            continue;
        }
        match course.before_timeline {
            Some(before) if !timeline.has(before) => state.insert(key, before),
            _ => state.remove(&key),
        };
    }
    state
}

/// Those of a timeline's events which, applied after the state, leave an entry as it isn't in the end.
///
/// `last` is the timeline's last event of each entry that it has events of. `ends` is what entries are in the
/// end: an event of the window that isn't among what changed there has changed nothing that lasts.
pub fn undoing(
    last: impl Iterator<Item = EventNo>,
    ends: impl Iterator<Item = EventNo>,
) -> HashSet<EventNo> {
    let mut undoing: HashSet<EventNo> = last.collect();
    for end in ends {
        undoing.remove(&end);
    }
    undoing
}

/// [`undoing`] for who knows the state from before the window: of those events that have been the state within it.
/// One that never was, as it lost to another, is news all the same, and nothing else tells of it.
pub fn undoing_since(
    last: impl Iterator<Item = EventNo>,
    changes: &[EntryChange],
) -> HashSet<EventNo> {
    let held: HashSet<EventNo> = changes.iter().filter_map(|change| change.new).collect();
    let last = last.filter(|event| held.contains(event));
    undoing(last, delta_after(changes).into_values())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(pos: i64, key: i64, old: Option<i64>, new: Option<i64>) -> EntryChange {
        EntryChange {
            pos: Pos(pos),
            key: KeyNo(key),
            old: old.map(EventNo),
            new: new.map(EventNo),
        }
    }

    fn timeline(start: Option<i64>, shown: &[i64]) -> TimelineView {
        TimelineView {
            start: start.map(Pos),
            shown: shown.iter().copied().map(EventNo).collect(),
        }
    }

    fn map(entries: &[(i64, i64)]) -> BTreeMap<KeyNo, EventNo> {
        entries
            .iter()
            .map(|&(key, event)| (KeyNo(key), EventNo(event)))
            .collect()
    }

    #[test]
    fn a_change_in_the_gap_is_told_and_one_in_the_timeline_is_left_to_it() {
        let changes = [change(1, 7, None, Some(10)), change(5, 8, None, Some(11))];
        let shown = timeline(Some(4), &[11]);
        assert_eq!(delta_before(&changes, &shown), map(&[(7, 10)]));
        assert_eq!(delta_after(&changes), map(&[(7, 10), (8, 11)]));
    }

    #[test]
    fn a_key_that_changes_in_the_gap_and_again_in_the_timeline_starts_from_the_gaps_value() {
        let changes = [
            change(1, 7, Some(9), Some(10)),
            change(5, 7, Some(10), Some(11)),
        ];
        assert_eq!(
            delta_before(&changes, &timeline(Some(4), &[11])),
            map(&[(7, 10)])
        );
    }

    #[test]
    fn a_change_without_a_shown_event_wins_over_the_timeline() {
        // A merge of forks after the timeline's event, or an event that the filter hides.
        let changes = [
            change(5, 7, None, Some(11)),
            change(6, 7, Some(11), Some(12)),
        ];
        assert_eq!(
            delta_before(&changes, &timeline(Some(4), &[11])),
            map(&[(7, 12)])
        );
    }

    #[test]
    fn initial_state_is_what_preceded_the_timeline() {
        let full = map(&[(1, 1), (7, 12), (8, 20)]);
        let changes = [
            change(3, 7, Some(9), Some(11)),
            change(5, 7, Some(11), Some(12)),
            change(6, 8, None, Some(20)),
        ];
        let shown = timeline(Some(3), &[11, 12, 20]);
        assert_eq!(
            full_before(full.clone(), &changes, &shown),
            map(&[(1, 1), (7, 9)])
        );
        assert_eq!(
            full_before(full.clone(), &changes, &timeline(None, &[])),
            full
        );
    }

    /// A client that applies what it is told ends with the server's state, whichever events the filter hides.
    #[test]
    fn a_model_client_ends_with_the_servers_state() {
        let mut seed = 12_345_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..500 {
            let mut server: BTreeMap<KeyNo, EventNo> = BTreeMap::new();
            let mut history: Vec<EntryChange> = Vec::new();
            for pos in 0..i64::try_from(3 + random(12)).unwrap() {
                let key = KeyNo(i64::try_from(random(4)).unwrap());
                let new = EventNo(100 + pos);
                history.push(EntryChange {
                    pos: Pos(pos),
                    key,
                    old: server.get(&key).copied(),
                    new: Some(new),
                });
                server.insert(key, new);
            }
            let seen = usize::try_from(random(history.len() as u64)).unwrap();
            let mut client: BTreeMap<KeyNo, EventNo> = BTreeMap::new();
            for change in &history[..seen] {
                client.insert(change.key, change.new.unwrap());
            }
            let window = &history[seen..];
            let first = usize::try_from(random(window.len() as u64 + 1)).unwrap();
            let mut shown: Vec<&EntryChange> = window[first..].iter().collect();
            shown.retain(|c| c.key != KeyNo(3) && random(4) > 0);
            let last: BTreeMap<KeyNo, EventNo> =
                shown.iter().map(|c| (c.key, c.new.unwrap())).collect();
            let undoing = undoing_since(last.into_values(), window);
            let undoes = |c: &&EntryChange| undoing.contains(&c.new.unwrap());
            let stale = shown.iter().rposition(undoes).map_or(0, |at| at + 1);
            shown.drain(..stale);
            let view = TimelineView {
                start: shown.first().map(|c| c.pos),
                shown: shown.iter().map(|c| c.new.unwrap()).collect(),
            };
            let mut older = client.clone();
            older.extend(delta_before(window, &view));
            older.extend(shown.iter().map(|c| (c.key, c.new.unwrap())));
            assert_eq!(older, server, "{history:?} {seen} {view:?}");
            let mut initial = full_before(server.clone(), window, &view);
            initial.extend(shown.iter().map(|c| (c.key, c.new.unwrap())));
            assert_eq!(initial, server);
            client.extend(delta_after(window));
            assert_eq!(client, server);
        }
    }
}
