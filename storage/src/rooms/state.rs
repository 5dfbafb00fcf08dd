//! Room state: immutable snapshots that share what they have in common (`crate::snapshot`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::db::{Columns as _, json_numbers};
use crate::engine::store::lock;
use crate::rooms::snapshot::{Loaded, Nodes, Slot, compare, derive, slots, step};
use crate::{Error, EventNo, KeyNo, NewSnapshot, Result, RoomNo, SnapshotNo, Store, StoredEvent};

/// An entry of a state.
pub type StateEntry = (KeyNo, EventNo);
/// An entry that differs between two states.
pub type StateDiff = (KeyNo, Option<EventNo>, Option<EventNo>);

impl Store {
    /// The event of one entry.
    pub async fn state_entry(
        &self,
        at: SnapshotNo,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<EventNo>> {
        let Some(key) = self.known_key(kind, state_key).await? else {
            return Ok(None);
        };
        Ok(self.state_lookup(at, &[key]).await?.pop().flatten())
    }

    /// The event of one entry, loaded.
    pub async fn state_event(
        &self,
        at: SnapshotNo,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<Arc<StoredEvent>>> {
        match self.state_entry(at, kind, state_key).await? {
            Some(no) => self.event_by_no(no).await,
            None => Ok(None),
        }
    }

    /// The events of these entries, in their order.
    pub async fn state_entries(
        &self,
        at: SnapshotNo,
        keys: &[(&str, &str)],
    ) -> Result<Vec<Option<EventNo>>> {
        let known = self.known_keys(keys).await?;
        let wanted: Vec<_> = known.iter().flatten().copied().collect();
        let mut found = self.state_lookup(at, &wanted).await?.into_iter();
        let events = known
            .iter()
            .map(|key| key.and_then(|_| found.next().flatten()));
        Ok(events.collect())
    }

    /// The events of the entries with these numbers, in their order.
    pub async fn state_lookup(
        &self,
        at: SnapshotNo,
        keys: &[KeyNo],
    ) -> Result<Vec<Option<EventNo>>> {
        let mut loaded = Loaded::new();
        let root = self.root(at, &mut loaded).await?;
        let mut found = vec![None; keys.len()];
        let mut left: Vec<(usize, Slot)> = root.map_or_else(Vec::new, |root| {
            (0..keys.len()).map(|index| (index, root)).collect()
        });
        for level in 0.. {
            let mut next = Vec::new();
            self.load(left.iter().map(|(_, slot)| *slot), &mut loaded)
                .await?;
            for (index, slot) in left {
                match slot {
                    Slot::Leaf(key, event) if key == keys[index] => found[index] = Some(event),
                    Slot::Leaf(..) => {}
                    Slot::Child(node) => {
                        let below = step(&loaded, node, level, keys[index])?;
                        next.extend(below.map(|slot| (index, slot)));
                    }
                }
            }
            left = next;
            if left.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// The whole state, in no particular order.
    pub async fn state_all(&self, at: SnapshotNo) -> Result<Vec<StateEntry>> {
        let mut loaded = Loaded::new();
        let mut left: Vec<_> = self.root(at, &mut loaded).await?.into_iter().collect();
        let mut entries = Vec::new();
        while !left.is_empty() {
            let mut next = Vec::new();
            self.load(left.iter().copied(), &mut loaded).await?;
            for slot in left {
                match slot {
                    Slot::Leaf(key, event) => entries.push((key, event)),
                    Slot::Child(node) => next.extend_from_slice(slots(&loaded, node)?),
                }
            }
            left = next;
        }
        Ok(entries)
    }

    /// What the states of a room take: how many entries the current one has, and the bytes of all stored
    /// snapshots.
    pub async fn state_size(&self, room: RoomNo) -> Result<(i64, i64)> {
        let query = self
            .sql(
                "SELECT (SELECT COUNT(*) FROM current_state WHERE room = $1), \
                 (SELECT CAST(COALESCE(SUM(LENGTH(body)), 0) AS BIGINT) FROM state_snapshot \
                 WHERE room = $1)",
            )
            .bind(room.0);
        let row = self.row(query).await?;
        let row = row.ok_or_else(|| Error::broken("a count has no row"))?;
        Ok((row.int(0)?, row.int(1)?))
    }

    /// What differs: entry, event in `a`, event in `b`. Skips what the two share.
    pub async fn state_diff(&self, a: SnapshotNo, b: SnapshotNo) -> Result<Vec<StateDiff>> {
        if a == b {
            return Ok(Vec::new());
        }
        let mut loaded = Loaded::new();
        let roots = (
            self.root(a, &mut loaded).await?,
            self.root(b, &mut loaded).await?,
        );
        let mut pairs = vec![roots];
        let mut differences = Vec::new();
        for level in 0.. {
            let mut next = Vec::new();
            // Collected: a closure over references inside an await keeps the future from being `Send`.
            let both: Vec<Slot> = pairs.iter().flat_map(|(a, b)| [*a, *b]).flatten().collect();
            self.load(both.into_iter(), &mut loaded).await?;
            for pair in pairs {
                compare(&loaded, pair, level, &mut differences, &mut next)?;
            }
            pairs = next;
            if pairs.is_empty() {
                break;
            }
        }
        Ok(differences)
    }

    /// A new snapshot: `parent` with `changes` (`None` removes an entry; the last change of an entry
    /// counts). The parent may itself be a [`NewSnapshot`] that isn't committed, as long as that is
    /// held. Put it into [`RoomWrite::snapshots`](crate::RoomWrite::snapshots).
    pub async fn derive_snapshot(
        &self,
        room: RoomNo,
        parent: Option<SnapshotNo>,
        changes: &[(KeyNo, Option<EventNo>)],
    ) -> Result<NewSnapshot> {
        let mut loaded = Loaded::new();
        let root = match parent {
            Some(parent) => self.root(parent, &mut loaded).await?,
            None => None,
        };
        let changes: Vec<_> = changes
            .iter()
            .copied()
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        self.load_paths(root, &changes, &mut loaded).await?;
        let no = self.next_snapshot_no().await?;
        let nodes = Arc::new(derive(no, root, &changes, &loaded)?);
        let mut pending = lock(&self.core.caches.pending);
        if pending.len() >= 256 {
            pending.retain(|_, nodes| nodes.strong_count() > 0);
        }
        pending.insert(no, Arc::downgrade(&nodes));
        drop(pending);
        Ok(NewSnapshot {
            no,
            room,
            parent,
            nodes,
        })
    }

    /// Loads all nodes on the ways to the changed entries.
    async fn load_paths(
        &self,
        root: Option<Slot>,
        changes: &[(KeyNo, Option<EventNo>)],
        loaded: &mut Loaded,
    ) -> Result<()> {
        let Some(root) = root else { return Ok(()) };
        let mut left: Vec<_> = changes.iter().map(|(key, _)| (*key, root)).collect();
        for level in 0.. {
            self.load(left.iter().map(|(_, slot)| *slot), loaded)
                .await?;
            let mut next = Vec::new();
            for (key, slot) in left {
                if let Slot::Child(node) = slot {
                    next.extend(step(loaded, node, level, key)?.map(|slot| (key, slot)));
                }
            }
            left = next;
            if left.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn root(&self, at: SnapshotNo, loaded: &mut Loaded) -> Result<Option<Slot>> {
        self.load_snapshots([at].into(), loaded).await?;
        Ok(loaded.get(&at).and_then(|nodes| nodes.root))
    }

    /// Makes sure that the nodes behind `slots` are there.
    async fn load(&self, slots: impl Iterator<Item = Slot>, loaded: &mut Loaded) -> Result<()> {
        let snapshots = slots.filter_map(|slot| match slot {
            Slot::Child(node) => Some(node.snapshot),
            Slot::Leaf(..) => None,
        });
        self.load_snapshots(snapshots.collect(), loaded).await
    }

    async fn load_snapshots(
        &self,
        wanted: BTreeSet<SnapshotNo>,
        loaded: &mut Loaded,
    ) -> Result<()> {
        let mut missing = BTreeSet::new();
        for no in wanted {
            if loaded.contains_key(&no) {
                continue;
            }
            match self.remembered_snapshot(no) {
                Some(nodes) => drop(loaded.insert(no, nodes)),
                None => drop(missing.insert(no)),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let query = self
            .sql(
                "SELECT no, body FROM state_snapshot WHERE no IN \
                 (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
            )
            .bind(json_numbers(missing.iter().map(|no| no.0)));
        for row in self.rows(query).await? {
            let no = SnapshotNo(row.int(0)?);
            let nodes = Arc::new(Nodes::decode(no, &row.bytes(1)?)?);
            self.remember_snapshot(no, &nodes);
            missing.remove(&no);
            loaded.insert(no, nodes);
        }
        match missing.first() {
            Some(no) => Err(Error::broken(format!("state snapshot {no} is not stored"))),
            None => Ok(()),
        }
    }

    fn remembered_snapshot(&self, no: SnapshotNo) -> Option<Arc<Nodes>> {
        let cached = self.core.caches.snapshots.get(&no);
        cached.or_else(|| lock(&self.core.caches.pending).get(&no)?.upgrade())
    }

    pub(crate) fn remember_snapshot(&self, no: SnapshotNo, nodes: &Arc<Nodes>) {
        let weight = nodes.weight();
        self.core
            .caches
            .snapshots
            .insert_weighing(no, nodes.clone(), weight);
    }
}
