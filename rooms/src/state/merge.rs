//! Resolving forks: finding what differs, and letting `protocol` settle it.
//!
//! 1. Where do the states differ? A comparison of snapshots that skips what they share ([`Meeting`]).
//! 2. What of the auth chains differs with that? ([`difference`])
//! 3. What do all agree about, of what the auth rules will look at?
//! 4. `protocol` settles the conflict from these, and asks for lines of old power levels if it needs them.
//! 5. If the answer is one of the forks, that is it; otherwise a new snapshot shares all but the difference
//!    with one of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu, RoomRules, StateKey,
    resolve::{self, Conflict, StateMap},
    rules::Resolution,
};
use rhizome_storage::{EventNo, KeyNo, RoomHead, Store};
use ruma::OwnedEventId;

use super::{
    Resolved, derive, difference,
    loaded::Loaded,
    meeting::{Fork, Meeting},
};
use crate::{Error, Rooms, error::Result};

/// How often resolution may ask for more events before we take it for a loop. What is loaded at once doubles
/// each time.
const MAX_ROUNDS: usize = 64;

/// An event that isn't stored yet.
type Pending<'a> = Option<(EventNo, &'a Arc<Pdu>)>;
/// That, and events that are allowed although they are stored as rejected.
type Beside<'a> = (Pending<'a>, &'a [(EventNo, Arc<Pdu>)]);

/// The resolution of `forks`. `pending` is an event that they may name though it isn't stored yet.
pub(crate) async fn resolve(
    rooms: &Rooms,
    head: &RoomHead,
    forks: Vec<Fork>,
    pending: Pending<'_>,
) -> Result<Resolved> {
    resolve_with(rooms, head, forks, (pending, &[])).await
}

/// The same, where the events of a list count as allowed, whatever is stored of them.
pub(crate) async fn resolve_with(
    rooms: &Rooms,
    head: &RoomHead,
    forks: Vec<Fork>,
    beside: Beside<'_>,
) -> Result<Resolved> {
    let store = rooms.store();
    let mut meeting = Meeting::of(store, head, forks).await?;
    let conflicted = meeting.conflicted();
    let settled: BTreeMap<KeyNo, Option<EventNo>> = match meeting.branches.as_slice() {
        [] => return Ok(Resolved::stored_or_empty(None)),
        [only] => only.diff.iter().map(|(k, event)| (*k, *event)).collect(),
        _ if conflicted.is_empty() => BTreeMap::new(),
        _ => settle(store, head.rules, &mut meeting, &conflicted, beside).await?,
    };
    // Is it one of the forks after all?
    for branch in &meeting.branches {
        let same = |(key, event): (&KeyNo, &Option<EventNo>)| meeting.entry(branch, *key) == *event;
        if branch.stored.is_some() && settled.iter().all(same) {
            return Ok(Resolved::stored_or_empty(branch.stored));
        }
    }
    let changes: Vec<(KeyNo, Option<EventNo>)> = settled
        .into_iter()
        .filter(|(key, event)| meeting.at_base(*key) != *event)
        .collect();
    derive(store, head.room, meeting.base, changes).await
}

/// Runs the room version's resolution and gives the settled value of each conflicted key, and of keys that
/// none of the forks has, if it finds some.
async fn settle<'a>(
    store: &'a Store,
    rules: &'static RoomRules,
    meeting: &mut Meeting<'a>,
    keys: &BTreeSet<KeyNo>,
    (pending, allowed): Beside<'_>,
) -> Result<BTreeMap<KeyNo, Option<EventNo>>> {
    let mut events = Loaded::new(store);
    if let Some((no, pdu)) = pending {
        events.put(no, pdu.clone(), false);
    }
    for (no, pdu) in allowed {
        events.put(*no, pdu.clone(), false);
    }
    let keys: Vec<KeyNo> = keys.iter().copied().collect();
    let names = store.keys(&keys).await?;
    let mut conflicted: BTreeSet<EventNo> = BTreeSet::new();
    for branch in &meeting.branches {
        conflicted.extend(keys.iter().filter_map(|key| meeting.entry(branch, *key)));
    }
    events.load(conflicted.iter().copied()).await?;
    let forks = meeting.branches.iter().map(|branch| {
        let entries = keys.iter().zip(&names).filter_map(|(key, name)| {
            let event = meeting.entry(branch, *key)?;
            Some((StateKey::clone(name), events.id(event)?.clone()))
        });
        entries.collect()
    });
    let mut conflict = Conflict {
        forks: forks.collect(),
        ..Conflict::default()
    };
    let mut full = conflicted.clone();
    if rules.resolution != Resolution::V1 {
        let of = &conflicted;
        let more = difference::auth_difference(store, meeting, &mut events, of, pending).await?;
        events.load(more.iter().copied()).await?;
        conflict.auth_difference = ids(&events, &more);
        full.extend(more);
    }
    if rules.resolution == Resolution::V2_1 {
        let more = difference::subgraph(store, &conflicted, pending).await?;
        events.load(more.iter().copied()).await?;
        conflict.subgraph = ids(&events, &more);
        full.extend(more);
    }
    conflict.agreed = agreed(store, meeting, &mut events, &full, &keys).await?;
    let settled = run(rules, &conflict, &mut events).await?;

    let mut values: BTreeMap<KeyNo, Option<EventNo>> = BTreeMap::new();
    for (key, name) in keys.iter().zip(&names) {
        let id = settled.get(&**name);
        values.insert(*key, id.and_then(|id| events.no(id)));
    }
    // An event of the auth difference may stand where none of the forks has anything.
    let known: HashSet<&StateKey> = names.iter().map(|name| &**name).collect();
    for (name, id) in settled.iter().filter(|(name, _)| !known.contains(*name)) {
        let key = store.key_no(&name.kind, &name.key).await?;
        meeting.look_up([key]).await?;
        values.insert(key, events.no(id));
    }
    Ok(values)
}

fn ids(events: &Loaded<'_>, nos: &BTreeSet<EventNo>) -> BTreeSet<OwnedEventId> {
    nos.iter()
        .filter_map(|no| events.id(*no).cloned())
        .collect()
}

/// What all forks have, of what settling a conflict about `full` may look at.
async fn agreed(
    store: &Store,
    meeting: &mut Meeting<'_>,
    events: &mut Loaded<'_>,
    full: &BTreeSet<EventNo>,
    conflicted: &[KeyNo],
) -> Result<StateMap> {
    let mut names: BTreeSet<StateKey> = BTreeSet::new();
    for pdu in full.iter().filter_map(|no| events.pdu(*no)) {
        names.extend(resolve::keys_looked_at(pdu));
    }
    let pairs: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.kind.as_str(), name.key.as_str()))
        .collect();
    let keys = store.known_keys(&pairs).await?;
    meeting.look_up(keys.iter().flatten().copied()).await?;
    let mut entries: Vec<(StateKey, EventNo)> = Vec::new();
    for (name, key) in names.into_iter().zip(keys) {
        let Some(key) = key.filter(|key| conflicted.binary_search(key).is_err()) else {
            continue;
        };
        entries.extend(meeting.at_base(key).map(|event| (name, event)));
    }
    events.load(entries.iter().map(|(_, event)| *event)).await?;
    let agreed = entries
        .into_iter()
        .filter_map(|(name, event)| Some((name, events.id(event)?.clone())));
    Ok(agreed.collect())
}

/// Settles, and loads what that asks for. It may follow a line of power levels far back: each time, what
/// is loaded goes further beyond what it asks for.
async fn run(
    rules: &'static RoomRules,
    conflict: &Conflict,
    events: &mut Loaded<'_>,
) -> Result<StateMap> {
    let full = conflict.events(rules);
    let auth: Vec<OwnedEventId> = full
        .iter()
        .filter_map(|id| resolve::Events::event(events, id))
        .flat_map(|pdu| {
            pdu.auth_events()
                .to_vec()
                .into_iter()
                .chain(pdu.implied_create())
        })
        .collect();
    events.load_ids(auth).await?;
    let mut asked: HashSet<OwnedEventId> = HashSet::new();
    for round in 0..MAX_ROUNDS {
        let missing = match resolve::settle(rules, conflict, events) {
            Ok(settled) => return Ok(settled),
            Err(missing) => missing.0,
        };
        if missing.iter().all(|id| !asked.insert(id.clone())) {
            break;
        }
        let mut level = missing;
        for _ in 0..1_usize << round.min(10) {
            events.load_ids(level.iter().cloned()).await?;
            let pdus = level
                .iter()
                .filter_map(|id| resolve::Events::event(events, id));
            level = pdus.flat_map(|pdu| pdu.auth_events().to_vec()).collect();
            level.retain(|id| resolve::Events::event(events, id).is_none());
            if level.is_empty() {
                break;
            }
        }
    }
    Err(Error::Store(rhizome_storage::Error::Failed(
        "state resolution needs events that were never received".into(),
    )))
}
