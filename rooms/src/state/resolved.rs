//! A state that may be yet to be stored.

use std::collections::BTreeMap;

use rhizome_storage::{EventNo, KeyNo, NewSnapshot, RoomNo, SnapshotNo, Store};

use crate::error::Result;

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
    /// A stored state; `None` is the empty one.
    pub(crate) fn stored_or_empty(snapshot: Option<SnapshotNo>) -> Self {
        Self {
            snapshot,
            ..Self::default()
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

    /// Whether it says the same as another.
    pub(crate) async fn is_same(&self, store: &Store, other: &Self) -> Result<bool> {
        if self.snapshot == other.snapshot {
            return Ok(true);
        }
        let from = other
            .derived
            .as_ref()
            .map_or(other.snapshot, |derived| derived.base);
        Ok(self.diff_from(store, from).await? == other.diff_from(store, from).await?)
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

/// A new snapshot upon a stored one.
pub(crate) async fn derive(
    store: &Store,
    room: RoomNo,
    base: Option<SnapshotNo>,
    changes: Vec<(KeyNo, Option<EventNo>)>,
) -> Result<Resolved> {
    if changes.is_empty() && base.is_some() {
        return Ok(Resolved::stored_or_empty(base));
    }
    let snapshot = store.derive_snapshot(room, base, &changes).await?;
    Ok(Resolved {
        snapshot: Some(snapshot.no()),
        new: vec![snapshot],
        derived: Some(Derived { base, changes }),
    })
}
