//! In which order a thread is told: pure.

use std::collections::{HashMap, HashSet, VecDeque};

use ruma::{EventId, OwnedEventId};
use serde::{Deserialize, Serialize};

/// Which way a thread is gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To what an event answers.
    Up,
    /// To what answers it.
    #[default]
    Down,
}

/// What was found around an event.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Its parent, that one's, …
    pub(super) parents: Vec<OwnedEventId>,
    /// The children of events, in order.
    pub(super) children: HashMap<OwnedEventId, Vec<OwnedEventId>>,
}

/// How much of it is told.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "they are what is asked")]
pub(super) struct Bounds {
    pub(super) depth: usize,
    pub(super) breadth: usize,
    pub(super) limit: usize,
    pub(super) depth_first: bool,
    pub(super) include_parent: bool,
    pub(super) include_children: bool,
    pub(super) way: Way,
}

/// What is told so far.
struct Told {
    events: Vec<OwnedEventId>,
    known: HashSet<OwnedEventId>,
    limit: usize,
    /// There was more than fits.
    limited: bool,
}

impl Told {
    fn add(&mut self, event: &OwnedEventId) {
        if self.known.contains(event) {
            return;
        }
        if self.events.len() >= self.limit {
            self.limited = true;
            return;
        }
        self.known.insert(event.clone());
        self.events.push(event.clone());
    }
}

/// The events in order, and whether there are more.
pub(super) fn order(
    anchor: &EventId,
    window: &Window,
    bounds: &Bounds,
) -> (Vec<OwnedEventId>, bool) {
    let mut told = Told {
        events: Vec::new(),
        known: HashSet::new(),
        limit: bounds.limit,
        limited: false,
    };
    told.add(&anchor.to_owned());
    if bounds.include_parent {
        window
            .parents
            .first()
            .into_iter()
            .for_each(|event| told.add(event));
    }
    if bounds.include_children {
        let children = window.children.get(anchor).into_iter().flatten();
        children.for_each(|event| told.add(event));
    }
    match bounds.way {
        Way::Up => {
            let parents = window.parents.iter().take(bounds.depth);
            parents.for_each(|event| told.add(event));
        }
        Way::Down => down(anchor, window, bounds, &mut told),
    }
    (told.events, told.limited)
}

fn down(anchor: &EventId, window: &Window, bounds: &Bounds, told: &mut Told) {
    let mut done = HashSet::new();
    let mut left = VecDeque::from([(anchor.to_owned(), 0)]);
    while let Some((event, depth)) = left.pop_front() {
        if told.limited || !done.insert(event.clone()) {
            continue;
        }
        told.add(&event);
        if depth == bounds.depth {
            continue;
        }
        let children = window.children.get(&event).into_iter().flatten();
        let children = children.take(bounds.breadth);
        let children = children.map(|child| (child.clone(), depth + 1));
        if bounds.depth_first {
            let children: Vec<_> = children.collect();
            children
                .into_iter()
                .rev()
                .for_each(|child| left.push_front(child));
        } else {
            left.extend(children);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> OwnedEventId {
        OwnedEventId::try_from(format!("${name}")).unwrap()
    }

    /// a ← b, c, d; b ← e ← f; c ← g. Above a: p, q.
    fn window() -> Window {
        let all = [
            ("a", vec!["b", "c", "d"]),
            ("b", vec!["e"]),
            ("c", vec!["g"]),
            ("e", vec!["f"]),
        ];
        let children = all
            .into_iter()
            .map(|(parent, children)| (id(parent), children.into_iter().map(id).collect()));
        Window {
            parents: vec![id("p"), id("q")],
            children: children.collect(),
        }
    }

    const USUAL: Bounds = Bounds {
        depth: 3,
        breadth: 10,
        limit: 100,
        depth_first: false,
        include_parent: false,
        include_children: false,
        way: Way::Down,
    };

    fn told(bounds: Bounds) -> (String, bool) {
        let (events, limited) = order(&id("a"), &window(), &bounds);
        let names: Vec<_> = events
            .iter()
            .map(|event| event.as_str()[1..].to_owned())
            .collect();
        (names.concat(), limited)
    }

    #[test]
    fn a_thread_is_told_level_by_level_or_branch_by_branch() {
        type Case = (fn(&mut Bounds), &'static str, bool);
        let cases: [Case; 16] = [
            (|_| {}, "abcdegf", false),
            (|b| b.depth_first = true, "abefcgd", false),
            (|b| b.depth = 1, "abcd", false),
            (|b| b.depth = 0, "a", false),
            (|b| b.breadth = 1, "abef", false),
            (|b| b.breadth = 0, "a", false),
            (|b| b.limit = 3, "abc", true),
            (|b| b.limit = 7, "abcdegf", false),
            (|b| b.limit = 1, "a", true),
            (|b| (b.include_parent, b.depth) = (true, 1), "apbcd", false),
            (
                |b| (b.include_children, b.depth_first) = (true, true),
                "abcdefg",
                false,
            ),
            (
                |b| (b.include_children, b.breadth) = (true, 1),
                "abcdef",
                false,
            ),
            (|b| b.way = Way::Up, "apq", false),
            (|b| (b.way, b.depth) = (Way::Up, 1), "ap", false),
            (
                |b| (b.way, b.include_children) = (Way::Up, true),
                "abcdpq",
                false,
            ),
            (|b| (b.way, b.limit) = (Way::Up, 2), "ap", true),
        ];
        for (change, expected, limited) in cases {
            let mut bounds = USUAL;
            change(&mut bounds);
            assert_eq!(told(bounds), (expected.to_owned(), limited), "{bounds:?}");
        }
    }

    #[test]
    fn circles_are_gone_through_once() {
        let children = [("a", "b"), ("b", "a")];
        let children = children.map(|(parent, child)| (id(parent), vec![id(child)]));
        let window = Window {
            parents: vec![id("b"), id("a")],
            children: children.into_iter().collect(),
        };
        for way in [Way::Up, Way::Down] {
            let (events, limited) = order(&id("a"), &window, &Bounds { way, ..USUAL });
            assert_eq!((events, limited), (vec![id("a"), id("b")], false));
        }
    }
}
