//! Why state resolution chose what it chose: for people who ask, never for deciding.
//!
//! [`explain`] lets [`resolve`] do its work, then plays the resolution through once more, slowly and by the
//! letter of the specification, and notes each step: which event was applied when, in which of the two
//! orders, and which rule refused it. What is settled is always [`resolve`]'s own answer. Where the replay
//! comes to another one, then one of the two is wrong, and [`Explanation::agrees`] says so.
//!
//! Version 1 has no such order of events: there the losers are judged by the state that was settled.

mod replay;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::OwnedEventId;

use crate::{
    Pdu, Rejection, RoomRules, StateKey,
    auth::{self, StateView},
    resolve::{Events, Missing, StateMap, resolve},
    rules::Resolution,
};

/// How a merge of states came about.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What [`resolve`] gave.
    pub state: StateMap,
    /// Every event of the full conflicted set, in the order in which it was tried. Empty in version 1.
    pub steps: Vec<Step>,
    /// What there was to settle, by key.
    pub conflicts: Vec<Conflict>,
    /// Whether the replay came to the same answer.
    pub agrees: bool,
}

/// One event that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub event: OwnedEventId,
    /// The entry that it sets.
    pub key: StateKey,
    /// In which of the two orders it came.
    pub order: Order,
    /// The rule that refused it, by the state at that step. `None`: it was applied.
    pub refused: Option<Rejection>,
}

/// The two orders in which conflicted events are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Reverse topological power ordering: power events, and what they rest on.
    Power,
    /// Mainline ordering: all others, after those.
    Mainline,
}

/// An entry about which the forks differ, or that the resolution itself brought up.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// The entry.
    pub key: StateKey,
    /// What it was settled to.
    pub winner: Option<OwnedEventId>,
    /// Every event that might have been it.
    pub candidates: Vec<Candidate>,
}

/// An event that might have been the value of an entry.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which.
    pub event: OwnedEventId,
    /// In which forks it stands, by their index. None: it came in through their auth chains.
    pub forks: Vec<usize>,
    /// The index of its step in [`Explanation::steps`].
    pub step: Option<usize>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is the value now.
    Won,
    /// The auth rules refused it.
    Refused(Rejection),
    /// It was allowed, and the winner was applied after it.
    Replaced,
    /// It was allowed, but the winner goes before it by the rules of version 1 (or by `resolve`, where the
    /// replay doesn't agree).
    Outranked,
}

/// Explains the merge of `forks`. Takes the same events as [`resolve`] and, where forks differ in what their
/// auth chains reach, also those of the chains of the state that they agree about.
pub fn explain(
    rules: &RoomRules,
    forks: &[StateMap],
    events: &impl Events,
) -> Result<Explanation, Missing> {
    let state = resolve(rules, forks, events)?;
    let steps = match rules.resolution {
        Resolution::V1 => Vec::new(),
        _ => replay::steps(rules, forks, events)?,
    };
    let mut conflicts = Vec::new();
    for key in keys(forks, &steps) {
        conflicts.push(conflict(key, forks, &state, &steps, events)?);
    }
    let agrees = rules.resolution == Resolution::V1
        || conflicts
            .iter()
            .all(|conflict| last_applied(&steps, &conflict.key) == conflict.winner.as_ref());
    Ok(Explanation {
        state,
        steps,
        conflicts,
        agrees,
    })
}

/// The keys about which forks differ, and those that steps set without all forks agreeing.
fn keys(forks: &[StateMap], steps: &[Step]) -> BTreeSet<StateKey> {
    let mut seen: BTreeMap<&StateKey, BTreeSet<Option<&OwnedEventId>>> = BTreeMap::new();
    for key in forks.iter().flat_map(StateMap::keys) {
        seen.entry(key).or_default();
    }
    for key in steps.iter().map(|step| &step.key) {
        seen.entry(key).or_default();
    }
    for (key, values) in &mut seen {
        values.extend(forks.iter().map(|fork| fork.get(*key)));
    }
    seen.into_iter()
        .filter(|(_, values)| values.len() > 1 || values.contains(&None))
        .map(|(key, _)| key.clone())
        .collect()
}

fn last_applied<'a>(steps: &'a [Step], key: &StateKey) -> Option<&'a OwnedEventId> {
    let mut applied = steps.iter().rev().filter(|step| step.refused.is_none());
    applied
        .find(|step| step.key == *key)
        .map(|step| &step.event)
}

fn conflict(
    key: StateKey,
    forks: &[StateMap],
    state: &StateMap,
    steps: &[Step],
    events: &impl Events,
) -> Result<Conflict, Missing> {
    let mut of: BTreeMap<&OwnedEventId, Vec<usize>> = BTreeMap::new();
    for (index, fork) in forks.iter().enumerate() {
        if let Some(id) = fork.get(&key) {
            of.entry(id).or_default().push(index);
        }
    }
    for step in steps.iter().filter(|step| step.key == key) {
        of.entry(&step.event).or_default();
    }
    let winner = state.get(&key).cloned();
    let mut candidates = Vec::with_capacity(of.len());
    for (id, forks) in of {
        let step = steps.iter().position(|step| step.event == *id);
        let fate = if Some(id) == winner.as_ref() {
            Fate::Won
        } else if let Some(refused) = step.and_then(|index| steps[index].refused.clone()) {
            Fate::Refused(refused)
        } else if step.is_some() && last_applied(steps, &key) == winner.as_ref() {
            Fate::Replaced
        } else {
            judge(id, state, events)?
        };
        candidates.push(Candidate {
            event: id.clone(),
            forks,
            step,
            fate,
        });
    }
    candidates.sort_by_key(|candidate| candidate.step);
    Ok(Conflict {
        key,
        winner,
        candidates,
    })
}

/// What the settled state has against an event.
fn judge(id: &OwnedEventId, state: &StateMap, events: &impl Events) -> Result<Fate, Missing> {
    let find = |id: &OwnedEventId| events.event(id).ok_or_else(|| Missing(vec![id.clone()]));
    let event = find(id)?;
    let mut view: Vec<Arc<Pdu>> = Vec::new();
    for (kind, key) in auth::auth_keys_of(&event) {
        if let Some(id) = state.get(&StateKey::new(kind, key)) {
            view.push(find(id)?);
        }
    }
    if let Some(create) = event.implied_create()
        && StateView::get(&view, "m.room.create", "").is_none()
    {
        view.push(find(&create)?);
    }
    Ok(match auth::authorize(&event, &view) {
        Ok(()) => Fate::Outranked,
        Err(rejection) => Fate::Refused(rejection),
    })
}
