//! The state of a room at any of its events.
//!
//! Every event of a room's history knows the snapshot before and after it. The state before a new event
//! is the resolution of the snapshots after its prevs; mostly they are one and the same, and nothing is
//! computed. Otherwise one of them is the base, the new snapshot shares all with it but the keys whose
//! resolution turned out otherwise.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu, RoomRules, StateKey,
    resolve::{self, Events, StateMap},
};
use rhizome_storage::{
    EventNo, KeyNo, NewSnapshot, RoomHead, RoomNo, SnapshotNo, Status, Store, StoredEvent,
};
use ruma::{EventId, OwnedEventId};

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

/// A state, perhaps one that is yet to be stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    /// `None` is the empty state.
    pub(crate) snapshot: Option<SnapshotNo>,
    /// What must be stored with whatever refers to it.
    pub(crate) new: Vec<NewSnapshot>,
    /// If it is new: which stored snapshot it is based on, and how it differs.
    pub(crate) derived: Option<Derived>,
}

/// How a new snapshot came about.
#[derive(Debug, Clone)]
pub(crate) struct Derived {
    pub(crate) base: Option<SnapshotNo>,
    pub(crate) changes: Vec<(KeyNo, Option<EventNo>)>,
}

impl Resolved {
    pub(crate) fn stored(snapshot: SnapshotNo) -> Self {
        Self {
            snapshot: Some(snapshot),
            new: Vec::new(),
            derived: None,
        }
    }

    /// Entries of this state, asked for by their keys.
    pub(crate) async fn entries(
        &self,
        store: &Store,
        keys: &[(&str, &str)],
    ) -> Result<Vec<Option<EventNo>>> {
        let base = self
            .derived
            .as_ref()
            .map_or(self.snapshot, |derived| derived.base);
        let mut entries = match base {
            Some(base) => store.state_entries(base, keys).await?,
            None => vec![None; keys.len()],
        };
        if let Some(derived) = &self.derived {
            for (entry, (kind, key)) in entries.iter_mut().zip(keys) {
                let no = store.key_no(kind, key).await?;
                if let Some((_, event)) = derived.changes.iter().find(|(key, _)| *key == no) {
                    *entry = *event;
                }
            }
        }
        Ok(entries)
    }

    /// This state with one entry replaced.
    pub(crate) async fn with(
        &self,
        store: &Store,
        room: RoomNo,
        key: KeyNo,
        event: EventNo,
    ) -> Result<Self> {
        let snapshot = store
            .derive_snapshot(room, self.snapshot, &[(key, Some(event))])
            .await?;
        let mut changes = self
            .derived
            .as_ref()
            .map_or_else(Vec::new, |d| d.changes.clone());
        changes.retain(|(changed, _)| *changed != key);
        changes.push((key, Some(event)));
        let base = self
            .derived
            .as_ref()
            .map_or(self.snapshot, |derived| derived.base);
        let no = snapshot.no();
        let mut new = self.new.clone();
        new.push(snapshot);
        Ok(Self {
            snapshot: Some(no),
            new,
            derived: Some(Derived { base, changes }),
        })
    }

    /// The whole state.
    pub(crate) async fn all(&self, store: &Store) -> Result<BTreeMap<KeyNo, EventNo>> {
        let base = self
            .derived
            .as_ref()
            .map_or(self.snapshot, |derived| derived.base);
        let mut all: BTreeMap<KeyNo, EventNo> = match base {
            Some(base) => store.state_all(base).await?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        for (key, event) in self.derived.iter().flat_map(|derived| &derived.changes) {
            match event {
                Some(event) => all.insert(*key, *event),
                None => all.remove(key),
            };
        }
        Ok(all)
    }

    /// How this state differs from the stored one at `from`: `(key, there, here)`.
    pub(crate) async fn diff_from(
        &self,
        store: &Store,
        from: Option<SnapshotNo>,
    ) -> Result<Vec<(KeyNo, Option<EventNo>, Option<EventNo>)>> {
        let base = self
            .derived
            .as_ref()
            .map_or(self.snapshot, |derived| derived.base);
        let mut diff: BTreeMap<KeyNo, (Option<EventNo>, Option<EventNo>)> = match (from, base) {
            (from, base) if from == base => BTreeMap::new(),
            (Some(from), Some(base)) => store
                .state_diff(from, base)
                .await?
                .into_iter()
                .map(|(key, old, new)| (key, (old, new)))
                .collect(),
            (None, Some(base)) => store
                .state_all(base)
                .await?
                .into_iter()
                .map(|(key, event)| (key, (None, Some(event))))
                .collect(),
            (Some(from), None) => store
                .state_all(from)
                .await?
                .into_iter()
                .map(|(key, event)| (key, (Some(event), None)))
                .collect(),
            (None, None) => BTreeMap::new(),
        };
        if let Some(derived) = &self.derived {
            let unknown: Vec<KeyNo> = derived
                .changes
                .iter()
                .map(|(key, _)| *key)
                .filter(|key| !diff.contains_key(key))
                .collect();
            let there = entries_by_no(store, from, &unknown).await?;
            for (key, old) in unknown.into_iter().zip(there) {
                diff.insert(key, (old, old));
            }
            for (key, event) in &derived.changes {
                if let Some(change) = diff.get_mut(key) {
                    change.1 = *event;
                }
            }
        }
        Ok(diff
            .into_iter()
            .filter(|(_, (old, new))| old != new)
            .map(|(key, (old, new))| (key, old, new))
            .collect())
    }
}

async fn entries_by_no(
    store: &Store,
    at: Option<SnapshotNo>,
    keys: &[KeyNo],
) -> Result<Vec<Option<EventNo>>> {
    let Some(at) = at else {
        return Ok(vec![None; keys.len()]);
    };
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let names = store.keys(keys).await?;
    let pairs: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.kind.as_str(), name.key.as_str()))
        .collect();
    Ok(store.state_entries(at, &pairs).await?)
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
        return Ok(Resolved {
            snapshot: stored.first().copied(),
            ..Resolved::default()
        });
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
            return Ok(Resolved::stored(no));
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

/// A new snapshot upon a stored one.
pub(crate) async fn derive(
    store: &Store,
    room: RoomNo,
    base: Option<SnapshotNo>,
    changes: Vec<(KeyNo, Option<EventNo>)>,
) -> Result<Resolved> {
    if changes.is_empty() && base.is_some() {
        return Ok(Resolved {
            snapshot: base,
            ..Resolved::default()
        });
    }
    let snapshot = store.derive_snapshot(room, base, &changes).await?;
    Ok(Resolved {
        snapshot: Some(snapshot.no()),
        new: vec![snapshot],
        derived: Some(Derived { base, changes }),
    })
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
    let nos: HashMap<&EventId, EventNo> = ids.iter().map(|(no, id)| (&**id, *no)).collect();
    let mut settled = BTreeMap::new();
    for key in conflicted {
        let id = names.get(key).and_then(|name| state.get(&**name));
        settled.insert(*key, id.and_then(|id| nos.get(&**id)).copied());
    }
    Ok(settled)
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

/// All state events of a snapshot.
pub async fn events_at(rooms: &Rooms, at: SnapshotNo) -> Result<Vec<Arc<StoredEvent>>> {
    let all = rooms.store().state_all(at).await?;
    let nos: Vec<EventNo> = all.into_iter().map(|(_, event)| event).collect();
    Ok(rooms.store().events_by_no(&nos).await?)
}

/// What `/state`, `/state_ids` and `send_join` answer: the state before an event, and its auth chain.
#[derive(Debug, Clone)]
pub struct StateBefore {
    /// The state events.
    pub state: Vec<Arc<StoredEvent>>,
    /// The auth chain of those, without those themselves unless one is in another's chain.
    pub auth_chain: Vec<OwnedEventId>,
}

/// The state before a stored event, with its auth chain. `None` if the state there isn't known
/// (an outlier).
pub async fn before(rooms: &Rooms, event: &StoredEvent) -> Result<Option<StateBefore>> {
    let state = match event.state_before {
        Some(at) => events_at(rooms, at).await?,
        None if event.pdu.prev_events().is_empty() => Vec::new(),
        None => return Ok(None),
    };
    let ids: Vec<OwnedEventId> = state
        .iter()
        .map(|event| event.pdu.event_id().to_owned())
        .collect();
    let auth_chain = rooms.store().auth_chain(&ids).await?;
    Ok(Some(StateBefore { state, auth_chain }))
}
