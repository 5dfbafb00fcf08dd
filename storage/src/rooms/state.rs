//! Room state: immutable snapshots that share what they have in common (`crate::snapshot`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::lock;
use crate::engine::sql::Columns as _;
use crate::rooms::snapshot::{Loaded, Nodes, Slot, compare, derive, slots, step};
use crate::{
    Error, EventNo, KeyNo, NewSnapshot, Pos, Result, RoomNo, SnapshotNo, Store, StoredEvent,
};

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

    /// The events of these entries of several states, in their order, in as few queries as for one state.
    pub async fn state_entries_at(
        &self,
        wanted: &[(SnapshotNo, &str, &str)],
    ) -> Result<Vec<Option<EventNo>>> {
        let names: Vec<_> = wanted.iter().map(|(_, kind, key)| (*kind, *key)).collect();
        let known = self.known_keys(&names).await?;
        let mut loaded = Loaded::new();
        self.load_snapshots(wanted.iter().map(|(at, ..)| *at).collect(), &mut loaded)
            .await?;
        let (mut keys, mut left) = (Vec::new(), Vec::new());
        for ((at, ..), key) in wanted.iter().zip(&known) {
            let root = loaded.get(at).and_then(|nodes| nodes.root);
            let index = keys.len();
            keys.extend(key);
            left.extend(key.and(root).map(|root| (index, root)));
        }
        let mut found = self.descend(left, &keys, loaded).await?.into_iter();
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
        let left = root.map_or_else(Vec::new, |root| {
            (0..keys.len()).map(|index| (index, root)).collect()
        });
        self.descend(left, keys, loaded).await
    }

    /// Looks for each of `keys` below a node, level by level; `left` says which is looked for where.
    async fn descend(
        &self,
        mut left: Vec<(usize, Slot)>,
        keys: &[KeyNo],
        mut loaded: Loaded,
    ) -> Result<Vec<Option<EventNo>>> {
        let mut found = vec![None; keys.len()];
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

    /// The entries of these rooms' current states that aren't memberships, and perhaps some that are, as the database has
    /// them: each with its room, and the position at which it changed last.
    pub async fn current_without_members(
        &self,
        rooms: &[RoomNo],
    ) -> Result<Vec<(RoomNo, StateEntry, Pos)>> {
        let query = self
            .sql(
                "SELECT room, state_key, event, pos FROM current_state \
                 WHERE room IN NUMBERS($1) AND member = 0 ORDER BY room",
            )
            .numbers(rooms.iter().copied());
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                let entry = (row.get("state_key")?, row.get("event")?);
                Ok((row.get("room")?, entry, row.get("pos")?))
            })
            .collect()
    }

    /// The events of a room's current state with one of these types, memberships apart: at most so many, the newest first.
    pub async fn current_of_kinds(
        &self,
        room: RoomNo,
        kinds: &[&str],
        most: usize,
    ) -> Result<Vec<EventNo>> {
        let query = self
            .sql(
                "SELECT c.event FROM current_state c CROSS JOIN state_key k \
                 WHERE k.no = c.state_key AND c.room = $1 AND c.member = 0 \
                 AND k.kind IN TEXTS($2) ORDER BY c.event DESC LIMIT $3",
            )
            .bind(room)
            .texts(kinds.iter().copied())
            .bind(most);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("event")).collect()
    }

    /// What the states of a room take: how many entries the current one has, and the bytes of all stored
    /// snapshots.
    pub async fn state_size(&self, room: RoomNo) -> Result<(i64, i64)> {
        let query = self
            .sql(
                "SELECT (SELECT COUNT(*) FROM current_state WHERE room = $1) AS entries, \
                 (SELECT CAST(COALESCE(SUM(LENGTH(body)), 0) AS BIGINT) FROM state_snapshot \
                 WHERE room = $1) AS bytes",
            )
            .bind(room);
        let row = self.row(query).await?;
        let row = row.ok_or_else(|| Error::broken("a count has no row"))?;
        Ok((row.get("entries")?, row.get("bytes")?))
    }

    /// What differs: entry, event in `a`, event in `b`. Skips what the two share.
    pub async fn state_diff(&self, a: SnapshotNo, b: SnapshotNo) -> Result<Vec<StateDiff>> {
        let found = self.state_diffs(a, &[b]).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// What differs between `a` and each of `others`, in as few queries as for one.
    pub async fn state_diffs(
        &self,
        a: SnapshotNo,
        others: &[SnapshotNo],
    ) -> Result<Vec<Vec<StateDiff>>> {
        let mut differences = vec![Vec::new(); others.len()];
        if others.iter().all(|other| *other == a) {
            return Ok(differences);
        }
        let mut loaded = Loaded::new();
        let roots = others.iter().copied().chain([a]).collect();
        self.load_snapshots(roots, &mut loaded).await?;
        let root = |at: SnapshotNo| loaded.get(&at).and_then(|nodes| nodes.root);
        let mut pairs: Vec<Vec<_>> = others
            .iter()
            .map(|other| vec![(root(a), root(*other))])
            .collect();
        for level in 0.. {
            // Collected: a closure over references inside an await keeps the future from being `Send`.
            let all = pairs.iter().flatten();
            let both: Vec<Slot> = all.flat_map(|(a, b)| [*a, *b]).flatten().collect();
            if both.is_empty() {
                break;
            }
            self.load(both.into_iter(), &mut loaded).await?;
            for (pairs, differences) in pairs.iter_mut().zip(&mut differences) {
                let mut next = Vec::new();
                for pair in std::mem::take(pairs) {
                    compare(&loaded, pair, level, differences, &mut next)?;
                }
                *pairs = next;
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
            .sql("SELECT no, body FROM state_snapshot WHERE no IN NUMBERS($1)")
            .numbers(missing.iter().copied());
        for row in self.rows(query).await? {
            let no = row.get("no")?;
            let nodes = Arc::new(Nodes::decode(no, &row.get::<Vec<u8>>("body")?)?);
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
