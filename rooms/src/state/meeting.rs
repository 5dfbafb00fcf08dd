//! States that meet, as differences from one of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rhizome_storage::{EventNo, KeyNo, RoomHead, SnapshotNo, Store};

use crate::error::Result;

/// One of the states that meet.
#[derive(Debug, Clone)]
pub(crate) enum Fork {
    /// A stored one, or one that is held to be stored.
    Snapshot(SnapshotNo),
    /// One that another server gave us.
    Given(BTreeMap<KeyNo, EventNo>),
}

/// The states that meet, each once.
pub(super) struct Meeting<'a> {
    store: &'a Store,
    /// What the others are compared with.
    pub(super) base: Option<SnapshotNo>,
    pub(super) branches: Vec<Branch>,
    /// Entries of the base, as far as they were looked up.
    at_base: HashMap<KeyNo, Option<EventNo>>,
}

/// A state as its difference from the base.
pub(super) struct Branch {
    pub(super) stored: Option<SnapshotNo>,
    pub(super) diff: HashMap<KeyNo, Option<EventNo>>,
}

impl<'a> Meeting<'a> {
    /// What stored states share isn't looked at. A given one is looked at as a whole.
    pub(super) async fn of(store: &'a Store, head: &RoomHead, forks: Vec<Fork>) -> Result<Self> {
        let mut stored: BTreeSet<SnapshotNo> = BTreeSet::new();
        let mut given: Vec<BTreeMap<KeyNo, EventNo>> = Vec::new();
        for fork in forks {
            match fork {
                Fork::Snapshot(no) => drop(stored.insert(no)),
                Fork::Given(map) if !given.contains(&map) => given.push(map),
                Fork::Given(_) => {}
            }
        }
        // A fixed base, so that the answer doesn't depend on the order of the prevs.
        let base = stored.first().copied().or(if given.is_empty() {
            None
        } else {
            head.snapshot
        });
        let mut branches = Vec::with_capacity(stored.len() + given.len());
        for no in stored {
            let mut diff = HashMap::new();
            if let Some(base) = base.filter(|base| *base != no) {
                let differing = store.state_diff(base, no).await?;
                diff.extend(differing.into_iter().map(|(key, _, new)| (key, new)));
            }
            branches.push(Branch {
                stored: Some(no),
                diff,
            });
        }
        let mut meeting = Self {
            store,
            base,
            branches,
            at_base: HashMap::new(),
        };
        if !given.is_empty() {
            meeting.compare_given(given).await?;
        }
        let conflicted: Vec<KeyNo> = meeting.conflicted().into_iter().collect();
        meeting.look_up(conflicted).await?;
        Ok(meeting)
    }

    async fn compare_given(&mut self, given: Vec<BTreeMap<KeyNo, EventNo>>) -> Result<()> {
        let base: BTreeMap<KeyNo, EventNo> = match self.base {
            Some(base) => self.store.state_all(base).await?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        for map in given {
            let gone = base.keys().filter(|key| !map.contains_key(key));
            let mut diff: HashMap<_, _> = gone.map(|key| (*key, None)).collect();
            for (key, event) in map {
                if base.get(&key) != Some(&event) {
                    diff.insert(key, Some(event));
                }
            }
            self.branches.push(Branch { stored: None, diff });
        }
        Ok(())
    }

    /// The keys for which not all have the same event; if there is but one state beside the base, where it
    /// differs from that.
    pub(super) fn conflicted(&self) -> BTreeSet<KeyNo> {
        let keys = self.branches.iter().flat_map(|branch| branch.diff.keys());
        keys.copied().collect()
    }

    /// Makes sure that [`Meeting::entry`] knows these.
    pub(super) async fn look_up(&mut self, keys: impl IntoIterator<Item = KeyNo>) -> Result<()> {
        let mut unknown: Vec<KeyNo> = keys
            .into_iter()
            .filter(|key| !self.at_base.contains_key(key))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let found = match self.base {
            Some(base) if !unknown.is_empty() => self.store.state_lookup(base, &unknown).await?,
            _ => vec![None; unknown.len()],
        };
        self.at_base.extend(unknown.into_iter().zip(found));
        Ok(())
    }

    /// What the base has for a key that was looked up.
    pub(super) fn at_base(&self, key: KeyNo) -> Option<EventNo> {
        self.at_base.get(&key).copied().flatten()
    }

    /// What a branch has for a key that was looked up.
    pub(super) fn entry(&self, branch: &Branch, key: KeyNo) -> Option<EventNo> {
        match branch.diff.get(&key) {
            Some(event) => *event,
            None => self.at_base(key),
        }
    }

    /// All entries of all branches.
    pub(super) async fn whole(&self) -> Result<Vec<BTreeMap<KeyNo, EventNo>>> {
        let base: BTreeMap<KeyNo, EventNo> = match self.base {
            Some(base) => self.store.state_all(base).await?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        let whole = self.branches.iter().map(|branch| {
            let mut all = base.clone();
            for (key, event) in &branch.diff {
                match event {
                    Some(event) => all.insert(*key, *event),
                    None => all.remove(key),
                };
            }
            all
        });
        Ok(whole.collect())
    }
}
