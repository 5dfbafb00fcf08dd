//! Whole states as maps of ids, and the events that resolution asks for.

use std::collections::{HashMap, HashSet};

use rhizome_protocol::{
    StateKey,
    resolve::{Missing, StateMap},
};
use rhizome_rooms::state::Loaded;
use rhizome_storage::{EventNo, KeyNo, SnapshotNo, Store};
use ruma::OwnedEventId;

use crate::Result;

/// How often resolution may ask for more events before we take it for a loop.
const MAX_ROUNDS: usize = 1_000;

/// The state at a snapshot; `None` is the empty state.
pub(crate) async fn state_map(store: &Store, at: Option<SnapshotNo>) -> Result<StateMap> {
    match at {
        Some(at) => named(store, store.state_all(at).await?).await,
        None => Ok(StateMap::new()),
    }
}

/// These entries with their names.
pub(crate) async fn named(store: &Store, entries: Vec<(KeyNo, EventNo)>) -> Result<StateMap> {
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
pub(crate) fn difference(
    a: &StateMap,
    b: &StateMap,
) -> Option<(StateKey, Option<OwnedEventId>, Option<OwnedEventId>)> {
    let mut keys: Vec<&StateKey> = a.keys().chain(b.keys()).collect();
    keys.sort();
    let key = keys.into_iter().find(|key| a.get(*key) != b.get(*key))?;
    Some((key.clone(), a.get(key).cloned(), b.get(key).cloned()))
}

/// The events of the entries that the states don't agree about.
pub(crate) fn conflicted(forks: &[StateMap]) -> Vec<OwnedEventId> {
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
pub(crate) async fn with_events<'s, T>(
    store: &'s Store,
    first: Vec<OwnedEventId>,
    mut run: impl FnMut(&Loaded<'s>) -> Result<T, Missing>,
) -> Result<Option<T>> {
    let mut loaded = Loaded::new(store);
    let mut wanted = first;
    let mut asked: HashSet<OwnedEventId> = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let mut chain = store.auth_chain(&wanted).await?;
        chain.append(&mut wanted);
        loaded.load_ids(chain).await?;
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
