//! Whole states as maps of ids, and the events that resolution asks for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu, StateKey,
    resolve::{Events, Missing, StateMap},
};
use rhizome_storage::{EventNo, KeyNo, SnapshotNo, Status, Store};
use ruma::{EventId, OwnedEventId};

use crate::error::Result;

/// How often resolution may ask for more events before we take it for a loop.
const MAX_ROUNDS: usize = 1_000;

/// The state at a snapshot; `None` is the empty state.
pub(super) async fn state_map(store: &Store, at: Option<SnapshotNo>) -> Result<StateMap> {
    match at {
        Some(at) => named(store, store.state_all(at).await?).await,
        None => Ok(StateMap::new()),
    }
}

/// These entries with their names.
pub(super) async fn named(store: &Store, entries: Vec<(KeyNo, EventNo)>) -> Result<StateMap> {
    let (keys, nos): (Vec<KeyNo>, Vec<EventNo>) = entries.into_iter().unzip();
    let ids: HashMap<EventNo, OwnedEventId> = store.event_ids(&nos).await?.into_iter().collect();
    let keys = store.keys(&keys).await?;
    let mut map = StateMap::new();
    for (key, no) in keys.iter().zip(nos) {
        let id = ids.get(&no).ok_or_else(|| {
            rhizome_storage::Error::broken(format!("the state names event {no}, which is gone"))
        })?;
        map.insert(StateKey::clone(key), id.clone());
    }
    Ok(map)
}

/// The first entry that differs: key, value in `a`, value in `b`.
pub(super) fn difference(
    a: &StateMap,
    b: &StateMap,
) -> Option<(StateKey, Option<OwnedEventId>, Option<OwnedEventId>)> {
    let mut keys: Vec<&StateKey> = a.keys().chain(b.keys()).collect();
    keys.sort();
    let key = keys.into_iter().find(|key| a.get(*key) != b.get(*key))?;
    Some((key.clone(), a.get(key).cloned(), b.get(key).cloned()))
}

/// The events of the entries that the states don't agree about.
pub(super) fn conflicted(forks: &[StateMap]) -> Vec<OwnedEventId> {
    let mut ids: HashSet<&OwnedEventId> = HashSet::new();
    for fork in forks {
        let differs = |(key, id): &(&StateKey, &OwnedEventId)| {
            forks.iter().any(|other| other.get(*key) != Some(*id))
        };
        ids.extend(fork.iter().filter(differs).map(|(_, id)| id));
    }
    ids.into_iter().cloned().collect()
}

/// Runs `run` until it has all events that it asks for; `first` is what it will ask for first. `None` if it
/// asks for events that aren't stored.
pub(super) async fn with_events<T>(
    store: &Store,
    first: Vec<OwnedEventId>,
    mut run: impl FnMut(&Loaded) -> Result<T, Missing>,
) -> Result<Option<T>> {
    let mut loaded = Loaded::default();
    let mut wanted = first;
    let mut asked: HashSet<OwnedEventId> = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let mut chain = store.auth_chain(&wanted).await?;
        chain.append(&mut wanted);
        chain.retain(|id| !loaded.0.contains_key(id));
        for event in store.events(&chain).await? {
            let rejected = event.status == Status::Rejected;
            let id = event.pdu.event_id().to_owned();
            loaded.0.insert(id, (event.pdu.clone(), rejected));
        }
        match run(&loaded) {
            Ok(done) => return Ok(Some(done)),
            Err(missing) => wanted = missing.0,
        }
        wanted.retain(|id| asked.insert(id.clone()));
        if wanted.is_empty() {
            break;
        }
    }
    Ok(None)
}

/// The events at hand, and whether each was rejected.
#[derive(Default)]
pub(super) struct Loaded(HashMap<OwnedEventId, (Arc<Pdu>, bool)>);

impl Events for Loaded {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.0.get(id).map(|(pdu, _)| pdu.clone())
    }
    fn rejected(&self, id: &EventId) -> bool {
        self.0.get(id).is_some_and(|(_, rejected)| *rejected)
    }
}
