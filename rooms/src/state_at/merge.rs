//! Resolving forks: finding what differs, and letting `protocol` settle it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu, RoomRules, StateKey,
    resolve::{self, Events, StateMap},
};
use rhizome_storage::{EventNo, KeyNo, RoomHead, SnapshotNo, Status, Store, StoredEvent};
use ruma::{EventId, OwnedEventId};

use super::{Resolved, derive};
use crate::{Error, Rooms, error::Result};

/// How often resolution may ask for more events before we take it for a loop.
const MAX_ROUNDS: usize = 1_000;

/// One of the states that meet.
#[derive(Debug, Clone)]
pub(crate) enum Fork {
    /// A stored one.
    Snapshot(SnapshotNo),
    /// One that another server gave us.
    Given(BTreeMap<KeyNo, EventNo>),
}

/// The resolution of `forks`. `pending` is an event that they may name though it isn't stored yet.
pub(crate) async fn resolve(
    rooms: &Rooms,
    head: &RoomHead,
    forks: Vec<Fork>,
    pending: Option<(EventNo, &Arc<Pdu>)>,
) -> Result<Resolved> {
    let store = rooms.store();
    let mut stored: Vec<SnapshotNo> = Vec::new();
    let mut given: Vec<BTreeMap<KeyNo, EventNo>> = Vec::new();
    for fork in forks {
        match fork {
            Fork::Snapshot(no) if !stored.contains(&no) => stored.push(no),
            Fork::Given(map) if !given.contains(&map) => given.push(map),
            _ => {}
        }
    }
    if given.is_empty() && stored.len() <= 1 {
        return Ok(Resolved::stored_or_empty(stored.first().copied()));
    }
    // A fixed base, so that the answer doesn't depend on the order of the prevs.
    stored.sort_unstable();
    let base = stored.first().copied().or(head.snapshot);
    let base_all: BTreeMap<KeyNo, EventNo> = match base {
        Some(base) => store.state_all(base).await?.into_iter().collect(),
        None => BTreeMap::new(),
    };
    let branches = branches(store, base, &base_all, &stored, given).await?;
    let conflicted: BTreeSet<KeyNo> = branches
        .iter()
        .flat_map(|branch| branch.diff.keys().copied())
        .collect();
    let resolution: BTreeMap<KeyNo, Option<EventNo>> = match branches.as_slice() {
        _ if conflicted.is_empty() => BTreeMap::new(),
        [only] => only
            .diff
            .iter()
            .map(|(key, event)| (*key, *event))
            .collect(),
        _ => {
            settle(
                store,
                head.rules,
                &base_all,
                &branches,
                &conflicted,
                pending,
            )
            .await?
        }
    };
    // Is it one of the forks after all?
    for branch in &branches {
        let Some(no) = branch.stored else { continue };
        let same = conflicted.iter().all(|key| {
            let settled = resolution.get(key).copied().flatten();
            branch.entry(&base_all, *key) == settled
        });
        if same {
            return Ok(Resolved::stored_or_empty(Some(no)));
        }
    }
    let changes: Vec<(KeyNo, Option<EventNo>)> = resolution
        .into_iter()
        .filter(|(key, event)| base_all.get(key) != event.as_ref())
        .collect();
    derive(store, head.room, base, changes).await
}

/// A fork as its difference from the base.
struct Branch {
    stored: Option<SnapshotNo>,
    diff: HashMap<KeyNo, Option<EventNo>>,
}

impl Branch {
    fn entry(&self, base: &BTreeMap<KeyNo, EventNo>, key: KeyNo) -> Option<EventNo> {
        match self.diff.get(&key) {
            Some(event) => *event,
            None => base.get(&key).copied(),
        }
    }
}

async fn branches(
    store: &Store,
    base: Option<SnapshotNo>,
    base_all: &BTreeMap<KeyNo, EventNo>,
    stored: &[SnapshotNo],
    given: Vec<BTreeMap<KeyNo, EventNo>>,
) -> Result<Vec<Branch>> {
    let mut branches = Vec::new();
    for no in stored {
        let mut diff = HashMap::new();
        if let Some(base) = base.filter(|base| base != no) {
            for (key, _, new) in store.state_diff(base, *no).await? {
                diff.insert(key, new);
            }
        }
        branches.push(Branch {
            stored: Some(*no),
            diff,
        });
    }
    for map in given {
        let mut diff = HashMap::new();
        for (key, event) in &map {
            if base_all.get(key) != Some(event) {
                diff.insert(*key, Some(*event));
            }
        }
        for key in base_all.keys().filter(|key| !map.contains_key(key)) {
            diff.insert(*key, None);
        }
        branches.push(Branch { stored: None, diff });
    }
    Ok(branches)
}

/// Runs the room version's resolution and gives the settled value of each conflicted key.
async fn settle(
    store: &Store,
    rules: &'static RoomRules,
    base_all: &BTreeMap<KeyNo, EventNo>,
    branches: &[Branch],
    conflicted: &BTreeSet<KeyNo>,
    pending: Option<(EventNo, &Arc<Pdu>)>,
) -> Result<BTreeMap<KeyNo, Option<EventNo>>> {
    let mut loaded = Loaded::default();
    let mut ids: HashMap<EventNo, OwnedEventId> = HashMap::new();
    let mut of: Vec<OwnedEventId> = Vec::new();
    let mut nos: BTreeSet<EventNo> = base_all.values().copied().collect();
    nos.extend(
        branches
            .iter()
            .flat_map(|branch| branch.diff.values().flatten().copied()),
    );
    if let Some((no, pdu)) = pending {
        nos.remove(&no);
        of.extend(pdu.auth_events().iter().cloned());
        ids.insert(no, pdu.event_id().to_owned());
        loaded.put(pdu.clone(), false);
    }
    // What all agree about needs no more than its name; resolution says if it wants to look at it.
    let nos: Vec<EventNo> = nos.into_iter().collect();
    ids.extend(store.event_ids(&nos).await?);
    let keys: BTreeSet<KeyNo> = base_all.keys().chain(conflicted).copied().collect();
    let keys: Vec<KeyNo> = keys.into_iter().collect();
    let names: HashMap<KeyNo, Arc<StateKey>> =
        keys.iter().copied().zip(store.keys(&keys).await?).collect();

    let mut maps: Vec<StateMap> = Vec::with_capacity(branches.len());
    for branch in branches {
        let mut map = StateMap::new();
        for (key, name) in &names {
            let Some(event) = branch.entry(base_all, *key) else {
                continue;
            };
            let id = ids.get(&event).ok_or_else(|| missing_row(event))?;
            if conflicted.contains(key) {
                of.push(id.clone());
            }
            map.insert(StateKey::clone(name), id.clone());
        }
        maps.push(map);
    }
    let state = run(store, rules, &maps, of, &mut loaded).await?;
    let mut nos: HashMap<OwnedEventId, EventNo> =
        ids.into_iter().map(|(no, id)| (id, no)).collect();
    let values: Vec<(KeyNo, Option<&OwnedEventId>)> = conflicted
        .iter()
        .map(|key| (*key, names.get(key).and_then(|name| state.get(&**name))))
        .collect();
    // The value of a key may be an event that stands in none of the forks, but in their auth chains.
    let elsewhere: Vec<OwnedEventId> = values
        .iter()
        .filter_map(|(_, id)| *id)
        .filter(|id| !nos.contains_key(*id))
        .cloned()
        .collect();
    if !elsewhere.is_empty() {
        nos.extend(store.event_nos(&elsewhere).await?);
    }
    values
        .into_iter()
        .map(|(key, id)| match id {
            None => Ok((key, None)),
            Some(id) => match nos.get(id) {
                Some(no) => Ok((key, Some(*no))),
                None => Err(Error::Store(rhizome_storage::Error::Failed(format!(
                    "the settled state names {id}, which isn't stored"
                )))),
            },
        })
        .collect()
}

/// Resolves, and loads what that asks for with its whole auth chains; `of` is what it will ask for first.
async fn run(
    store: &Store,
    rules: &'static RoomRules,
    maps: &[StateMap],
    of: Vec<OwnedEventId>,
    loaded: &mut Loaded,
) -> Result<StateMap> {
    let mut wanted = of;
    let mut asked: HashSet<OwnedEventId> = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let mut chain = store.auth_chain(&wanted).await?;
        chain.append(&mut wanted);
        chain.retain(|id| !loaded.events.contains_key(id));
        loaded.add(&store.events(&chain).await?);
        match resolve::resolve(rules, maps, loaded) {
            Ok(state) => return Ok(state),
            Err(missing) => {
                wanted = missing.0;
                wanted.retain(|id| asked.insert(id.clone()));
                if wanted.is_empty() {
                    break;
                }
            }
        }
    }
    Err(Error::Store(rhizome_storage::Error::Failed(
        "state resolution needs events that were never received".into(),
    )))
}

fn missing_row(no: EventNo) -> Error {
    Error::Store(rhizome_storage::Error::Failed(format!(
        "the state names event {no}, which is gone"
    )))
}

/// The events that resolution may look at, and whether each was rejected.
#[derive(Default)]
struct Loaded {
    events: HashMap<OwnedEventId, (Arc<Pdu>, bool)>,
}

impl Loaded {
    fn add(&mut self, events: &[Arc<StoredEvent>]) {
        for event in events {
            self.put(event.pdu.clone(), event.status == Status::Rejected);
        }
    }

    fn put(&mut self, pdu: Arc<Pdu>, rejected: bool) {
        let id = pdu.event_id().to_owned();
        self.events.insert(id, (pdu, rejected));
    }
}

impl Events for Loaded {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.events.get(id).map(|(pdu, _)| pdu.clone())
    }
    fn rejected(&self, id: &EventId) -> bool {
        self.events.get(id).is_some_and(|(_, rejected)| *rejected)
    }
}
