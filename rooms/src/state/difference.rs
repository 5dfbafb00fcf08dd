//! What of the auth chains conflicts: the auth difference and the conflicted state subgraph.
//!
//! An event belongs to the auth difference if some of the states that meet rest on it, and others don't.
//! Nothing is walked to the room's beginning for that. From the conflicted events we go down only through
//! events of the difference itself: whatever lies below one that all rest on, all rest on too. Whether a
//! state rests on an event is seen by going *up* from that, by what it allows, to an event that stands in
//! that state: a witness. Mostly the event stands there itself, or the way down has shown that all do;
//! otherwise the newest of what it allows is tried first. Only where there is no witness all that rests on
//! the event must be seen, and that is what differs, or what nobody's state has any more.
//!
//! Should that take too long (a stranger may build whatever graph), the chains are walked after all.

use std::{
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::Pdu;
use rhizome_storage::{EventNo, KeyNo, Store};

use super::{loaded::Loaded, meeting::Meeting};
use crate::error::Result;

/// How many events may be looked at in search of witnesses before the chains are walked instead.
const MAX_STEPS: usize = 2_000;
/// How many of the events that one allows are looked at at once.
const PAGE: usize = 16;
/// Of how many events it is read at once what they allow. Where one event differs, what it rests on often
/// does too: a user's memberships are a chain.
const BATCH: usize = 64;

/// Some of the states that meet, as bits by the branches' indices.
type Forks = u128;

/// A search for the auth difference.
pub(super) struct Search<'a, 'm> {
    store: &'a Store,
    meeting: &'m mut Meeting<'a>,
    events: &'m mut Loaded<'a>,
    /// Auth events of events that we went down from.
    edges: HashMap<EventNo, Arc<[EventNo]>>,
    /// The newest of what events allow, as far as it was read.
    children: HashMap<EventNo, Vec<EventNo>>,
    /// In which states events stand themselves, as far as it was looked up.
    stands_in: HashMap<EventNo, Forks>,
    /// Which states are known to rest on an event.
    below: HashMap<EventNo, Forks>,
    /// Which states don't rest on it, for sure.
    never: HashMap<EventNo, Forks>,
    steps: usize,
}

/// The auth difference beyond `conflicted`, the events for which the states differ.
/// `pending` is one of them that isn't stored yet.
pub(super) async fn auth_difference<'a>(
    store: &'a Store,
    meeting: &mut Meeting<'a>,
    events: &mut Loaded<'a>,
    conflicted: &BTreeSet<EventNo>,
    pending: Option<(EventNo, &Arc<Pdu>)>,
) -> Result<BTreeSet<EventNo>> {
    let edges = pending_edges(store, pending).await?;
    if meeting.branches.len() <= Forks::BITS as usize {
        let search = Search {
            store,
            meeting,
            events,
            edges,
            children: HashMap::new(),
            stands_in: HashMap::new(),
            below: HashMap::new(),
            never: HashMap::new(),
            steps: 0,
        };
        if let Some(difference) = search.run(conflicted).await? {
            return Ok(difference);
        }
        tracing::debug!("no witnesses within bounds: the auth chains are walked");
    }
    by_walking(store, meeting, conflicted, pending).await
}

/// The auth events of the event that isn't stored yet.
async fn pending_edges(
    store: &Store,
    pending: Option<(EventNo, &Arc<Pdu>)>,
) -> Result<HashMap<EventNo, Arc<[EventNo]>>> {
    let mut edges = HashMap::new();
    if let Some((no, pdu)) = pending {
        let auth = store.event_nos(pdu.auth_events()).await?;
        edges.insert(no, auth.into_values().collect());
    }
    Ok(edges)
}

impl Search<'_, '_> {
    /// `None` if it takes too long.
    async fn run(mut self, conflicted: &BTreeSet<EventNo>) -> Result<Option<BTreeSet<EventNo>>> {
        let all = self.all_forks();
        let own: Vec<EventNo> = conflicted.iter().copied().collect();
        let standing = self.standing(&own).await?;
        self.below.extend(own.iter().copied().zip(standing));
        let mut difference = BTreeSet::new();
        let mut expanded: HashSet<EventNo> = HashSet::new();
        let mut frontier = own;
        while !frontier.is_empty() {
            self.load_edges(&frontier).await?;
            expanded.extend(&frontier);
            let reached = self.go_down(frontier, &expanded);
            let standing = self.standing(&reached).await?;
            frontier = Vec::new();
            for (no, standing) in reached.into_iter().zip(standing) {
                let known = self.below.entry(no).or_default();
                *known |= standing;
                let missing = all & !*known;
                if missing == 0 || self.find_witnesses(no, missing).await? == 0 {
                    continue;
                }
                if self.steps > MAX_STEPS {
                    return Ok(None);
                }
                difference.insert(no);
                frontier.push(no);
            }
        }
        Ok(Some(difference))
    }

    fn all_forks(&self) -> Forks {
        let unused =
            Forks::BITS - u32::try_from(self.meeting.branches.len()).unwrap_or(Forks::BITS);
        Forks::MAX.checked_shr(unused).unwrap_or_default()
    }

    async fn load_edges(&mut self, of: &[EventNo]) -> Result<()> {
        let unknown: Vec<EventNo> = of
            .iter()
            .copied()
            .filter(|no| !self.edges.contains_key(no))
            .collect();
        self.edges
            .extend(self.store.auth_events_of(&unknown).await?);
        Ok(())
    }

    /// Tells all below `from` which states rest on it. Gives what was reached and not gone down from yet.
    fn go_down(&mut self, from: Vec<EventNo>, expanded: &HashSet<EventNo>) -> Vec<EventNo> {
        let mut reached = BTreeSet::new();
        let mut todo = from;
        while let Some(no) = todo.pop() {
            let forks = self.below.get(&no).copied().unwrap_or_default();
            let auth = self.edges.get(&no).cloned().unwrap_or_default();
            for next in auth.iter() {
                let known = self.below.entry(*next).or_default();
                let grown = *known | forks;
                if expanded.contains(next) {
                    if grown != *known {
                        todo.push(*next);
                    }
                } else {
                    reached.insert(*next);
                }
                *known = grown;
            }
        }
        reached.into_iter().collect()
    }

    /// In which states the events themselves stand.
    async fn standing(&mut self, nos: &[EventNo]) -> Result<Vec<Forks>> {
        let known = &self.stands_in;
        let unknown = nos.iter().copied().filter(|no| !known.contains_key(no));
        let unknown: Vec<EventNo> = unknown.collect();
        if !unknown.is_empty() {
            self.look_where_they_stand(&unknown).await?;
        }
        let found = nos.iter().map(|no| self.stands_in.get(no).copied());
        Ok(found.map(Option::unwrap_or_default).collect())
    }

    async fn look_where_they_stand(&mut self, nos: &[EventNo]) -> Result<()> {
        self.events.load(nos.iter().copied()).await?;
        let mut names: Vec<(EventNo, String, String)> = Vec::with_capacity(nos.len());
        for no in nos {
            if let Some(pdu) = self.events.pdu(*no)
                && let Some(key) = pdu.state_key()
            {
                names.push((*no, pdu.kind().to_owned(), key.to_owned()));
            }
        }
        let pairs = names
            .iter()
            .map(|(_, kind, key)| (kind.as_str(), key.as_str()));
        let keys = self.store.known_keys(&pairs.collect::<Vec<_>>()).await?;
        self.meeting.look_up(keys.iter().flatten().copied()).await?;
        for ((no, ..), key) in names.iter().zip(keys) {
            let forks = key.map_or(0, |key| self.stands(*no, key));
            self.stands_in.insert(*no, forks);
        }
        Ok(())
    }

    fn stands(&self, no: EventNo, key: KeyNo) -> Forks {
        let branches = self.meeting.branches.iter().enumerate();
        branches
            .filter(|(_, branch)| self.meeting.entry(branch, key) == Some(no))
            .fold(0, |forks, (index, _)| forks | (1 << index))
    }

    /// Looks for events that rest on `of` and stand in the states `missing`. Gives the states without.
    async fn find_witnesses(&mut self, of: EventNo, mut missing: Forks) -> Result<Forks> {
        let mut seen: HashSet<EventNo> = HashSet::from([of]);
        // What to look at next: what an event allows, older than another. The newest comes first: most
        // likely it stands in some state, or leads to what does.
        let mut todo: BinaryHeap<(EventNo, EventNo, Option<EventNo>)> =
            BinaryHeap::from([(of, of, None)]);
        while let Some((_, no, before)) = todo.pop() {
            let children = self.children(no, before).await?;
            if let Some(last) = children.last().filter(|_| children.len() == PAGE) {
                todo.push((*last, no, Some(*last)));
            }
            let fresh: Vec<EventNo> = children
                .into_iter()
                .filter(|child| missing & !self.never(*child) != 0)
                .filter(|child| seen.insert(*child))
                .collect();
            self.steps += 1 + fresh.len();
            let standing = self.standing(&fresh).await?;
            for (child, standing) in fresh.into_iter().zip(standing) {
                let known = self.below.entry(child).or_default();
                *known |= standing;
                missing &= !*known;
                todo.push((child, child, None));
            }
            if missing == 0 || self.steps > MAX_STEPS {
                return Ok(missing);
            }
        }
        for no in seen {
            *self.never.entry(no).or_default() |= missing;
        }
        Ok(missing)
    }

    /// The newest of what an event allows, older than `before`.
    async fn children(&mut self, of: EventNo, before: Option<EventNo>) -> Result<Vec<EventNo>> {
        if before.is_some() {
            return Ok(self.store.auth_children(of, before, PAGE).await?);
        }
        if !self.children.contains_key(&of) {
            let batch = self.with_what_it_rests_on(of).await?;
            self.standing(&batch).await?;
            let mut found = self.store.auth_children_of(&batch, PAGE).await?;
            for no in batch {
                let children = found.remove(&no).unwrap_or_default();
                self.children.insert(no, children);
            }
        }
        Ok(self.children.get(&of).cloned().unwrap_or_default())
    }

    /// The event, and the nearest of its auth chain whose children weren't read.
    async fn with_what_it_rests_on(&self, of: EventNo) -> Result<Vec<EventNo>> {
        let mut seen: HashSet<EventNo> = HashSet::from([of]);
        let mut batch = vec![of];
        let mut level = vec![of];
        while !level.is_empty() && batch.len() < BATCH {
            let edges = self.store.auth_events_of(&level).await?;
            let below = edges.values().flat_map(|auth| auth.iter().copied());
            let unread = below.filter(|no| !self.children.contains_key(no) && seen.insert(*no));
            level = unread.collect();
            batch.extend(&level);
        }
        batch.truncate(BATCH);
        Ok(batch)
    }

    fn never(&self, no: EventNo) -> Forks {
        self.never.get(&no).copied().unwrap_or_default()
    }
}

/// The auth difference by the textbook.
async fn by_walking(
    store: &Store,
    meeting: &Meeting<'_>,
    conflicted: &BTreeSet<EventNo>,
    pending: Option<(EventNo, &Arc<Pdu>)>,
) -> Result<BTreeSet<EventNo>> {
    let edges = pending_edges(store, pending).await?;
    let mut sets = Vec::new();
    for state in meeting.whole().await? {
        let mut set: Vec<EventNo> = Vec::with_capacity(state.len());
        for no in state.into_values() {
            match edges.get(&no) {
                Some(auth) => set.extend(auth.iter()),
                None => set.push(no),
            }
        }
        sets.push(set);
    }
    let mut difference: BTreeSet<EventNo> =
        store.auth_difference(&sets).await?.into_iter().collect();
    difference.retain(|no| !conflicted.contains(no));
    Ok(difference)
}

/// The conflicted state subgraph: all on a path between two of `conflicted`, without these.
pub(super) async fn subgraph(
    store: &Store,
    conflicted: &BTreeSet<EventNo>,
    pending: Option<(EventNo, &Arc<Pdu>)>,
) -> Result<BTreeSet<EventNo>> {
    let mut edges = pending_edges(store, pending).await?;
    let mut from: Vec<EventNo> = conflicted.iter().copied().collect();
    from.extend(edges.values().flat_map(|auth| auth.iter()));
    edges.extend(store.auth_graph(&from).await?);

    // `edges` is what lies below them; of that, what lies above one of them.
    let mut referrers: HashMap<EventNo, Vec<EventNo>> = HashMap::new();
    for (no, auth) in &edges {
        for next in auth.iter() {
            referrers.entry(*next).or_default().push(*no);
        }
    }
    let mut todo: Vec<EventNo> = conflicted.iter().copied().collect();
    let mut between: BTreeSet<EventNo> = conflicted.clone();
    while let Some(no) = todo.pop() {
        let above = referrers.get(&no).into_iter().flatten();
        todo.extend(above.filter(|no| between.insert(**no)));
    }
    between.retain(|no| !conflicted.contains(no));
    Ok(between)
}
