//! The naive count: of everything from the beginning.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Message,
    Notice,
    Edit,
    Reaction,
}

#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub sender: usize,
    pub what: What,
    /// `None`: the main timeline.
    pub thread: Option<String>,
    /// Over how many others it is in it.
    pub hops: usize,
    /// Whether it relates to another: then no thread can hang off it.
    pub relates: bool,
    pub mentions: BTreeSet<usize>,
    pub everybody: bool,
    pub cake: bool,
    pub redacted: bool,
    /// Another's thread goes by this one's.
    pub leant_on: bool,
}

/// What a user has read of.
#[derive(Debug, PartialEq)]
pub enum Scope {
    Room,
    Thread(Option<String>),
}

#[derive(Debug, Default)]
pub struct Person {
    /// Which events came while they were there.
    pub joined: Option<usize>,
    pub reads: Vec<(Scope, usize)>,
    pub cake: Option<bool>,
    pub muted: bool,
    pub ignores: BTreeSet<usize>,
    pub since: Option<String>,
}

/// Notifications and highlights.
pub type Pair = (u64, u64);

/// Notifications and highlights by thread, from everything that has happened.
pub fn count(people: &[Person], events: &[Event], who: usize) -> BTreeMap<Option<String>, Pair> {
    let person = &people[who];
    let mut counts: BTreeMap<Option<String>, Pair> = BTreeMap::from([(None, (0, 0))]);
    for (at, event) in events.iter().enumerate().skip(person.joined.unwrap()) {
        let by_receipt = person.reads.iter().any(|(scope, upto)| {
            at <= *upto && (*scope == Scope::Room || *scope == Scope::Thread(event.thread.clone()))
        });
        let by_saying = events[at..]
            .iter()
            .any(|own| own.sender == who && !own.redacted && own.thread == event.thread);
        let silent =
            event.sender == who || event.redacted || person.ignores.contains(&event.sender);
        if by_receipt || by_saying || silent || event.what == What::Notice {
            continue;
        }
        let everybody = event.everybody && event.sender == 0;
        let highlight = if event.mentions.contains(&who) || everybody {
            true
        } else if event.what != What::Message {
            continue;
        } else if event.cake && person.cake == Some(true) {
            true
        } else if person.muted {
            continue;
        } else {
            false
        };
        let count = counts.entry(event.thread.clone()).or_default();
        *count = (count.0 + 1, count.1 + u64::from(highlight));
    }
    counts
}
