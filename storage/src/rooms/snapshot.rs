//! The form of state snapshots: a persistent radix trie.
//!
//! A snapshot maps entries of a room's state ([`KeyNo`]) to events. The bits of the mixed key choose
//! the way down, four at a time. An entry stands in the highest node where it is alone in its slot,
//! so the form depends only on the content and two snapshots can be compared slot by slot. A change
//! copies the nodes on its path, about log₁₆ n of them, and refers to all others where they are: a
//! child is (snapshot, index of the node in that snapshot's body). Nodes are shared only with the
//! snapshot that one was derived from, never found by content.
//!
//! Everything here is pure. Functions that walk take the [`Nodes`] of all snapshots that they may
//! meet; [`crate::state`] loads those first, level by level.

mod bytes;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::{Error, EventNo, KeyNo, Result, RoomNo, SnapshotNo};

/// A snapshot that was derived and is written by the commit which refers to it. As long as it is
/// held, others can be derived from it and it can be read.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    pub(crate) no: SnapshotNo,
    pub(crate) room: RoomNo,
    pub(crate) parent: Option<SnapshotNo>,
    pub(crate) nodes: Arc<Nodes>,
}

impl NewSnapshot {
    /// Its number.
    pub fn no(&self) -> SnapshotNo {
        self.no
    }

    /// How many bytes it takes in the database.
    pub fn encoded_len(&self) -> usize {
        self.nodes.encode(self.no).len()
    }
}

/// One snapshot: where it begins, and the nodes that it doesn't share with older ones.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Nodes {
    pub(crate) root: Option<Slot>,
    nodes: Vec<Node>,
}

/// A node: up to sixteen slots, those in use in ascending order.
#[derive(Debug, PartialEq, Eq, Default)]
struct Node {
    used: u16,
    slots: Vec<Slot>,
}

/// What stands in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Leaf(KeyNo, EventNo),
    Child(Ref),
}

/// A node, wherever it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) snapshot: SnapshotNo,
    index: u32,
}

/// The snapshots at hand.
pub(crate) type Loaded = HashMap<SnapshotNo, Arc<Nodes>>;

const BITS: u32 = 4;
const WIDTH: u32 = 1 << BITS;

/// The sixteen places of a node.
type Slots = [Option<Slot>; WIDTH as usize];

/// Spreads keys evenly and maps no two to the same number (the finaliser of SplitMix64).
fn mix(key: KeyNo) -> u64 {
    let mut bits = key.0.cast_unsigned();
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Which slot the key takes at `level`.
fn slot_of(key: KeyNo, level: u32) -> u32 {
    u32::try_from((mix(key) >> (level * BITS)) & u64::from(WIDTH - 1)).unwrap_or(0)
}

impl Node {
    fn get(&self, slot: u32) -> Option<Slot> {
        let bit = 1_u16 << slot;
        if self.used & bit == 0 {
            return None;
        }
        let index = (self.used & (bit - 1)).count_ones() as usize;
        self.slots.get(index).copied()
    }

    fn from_slots(slots: &Slots) -> Self {
        let mut node = Self::default();
        for (index, slot) in slots.iter().enumerate() {
            if let Some(slot) = slot {
                node.used |= 1 << index;
                node.slots.push(*slot);
            }
        }
        node
    }
}

impl Nodes {
    /// How much room it takes in a cache.
    pub(crate) fn weight(&self) -> usize {
        self.nodes.len() + 1
    }

    /// The snapshots whose nodes these refer to, `no` itself left out.
    pub(crate) fn refers_to(&self, no: SnapshotNo) -> BTreeSet<SnapshotNo> {
        let slots = self.nodes.iter().flat_map(|node| &node.slots);
        let children = slots.chain(&self.root).filter_map(|slot| match slot {
            Slot::Child(at) => Some(at.snapshot),
            Slot::Leaf(..) => None,
        });
        children.filter(|at| *at != no).collect()
    }

    /// The entries that stand in these nodes themselves.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (KeyNo, EventNo)> {
        let slots = self.nodes.iter().flat_map(|node| &node.slots);
        slots.chain(&self.root).filter_map(|slot| match slot {
            Slot::Leaf(key, event) => Some((*key, *event)),
            Slot::Child(_) => None,
        })
    }
}

fn node(loaded: &Loaded, at: Ref) -> Result<&Node> {
    loaded
        .get(&at.snapshot)
        .and_then(|nodes| nodes.nodes.get(at.index as usize))
        .ok_or_else(|| Error::broken(format!("state snapshot {} lacks a node", at.snapshot)))
}

/// The slots below a node.
pub(crate) fn slots(loaded: &Loaded, at: Ref) -> Result<&[Slot]> {
    Ok(&node(loaded, at)?.slots)
}

/// One step down to `key`: what stands in its slot below `at`, a node on `level`.
pub(crate) fn step(loaded: &Loaded, at: Ref, level: u32, key: KeyNo) -> Result<Option<Slot>> {
    Ok(node(loaded, at)?.get(slot_of(key, level)))
}

/// What one side of a comparison has in each slot on `level`.
fn spread(loaded: &Loaded, slot: Option<Slot>, level: u32) -> Result<Slots> {
    let mut out = [None; WIDTH as usize];
    match slot {
        None => {}
        Some(Slot::Leaf(key, _)) => out[slot_of(key, level) as usize] = slot,
        Some(Slot::Child(at)) => {
            let node = node(loaded, at)?;
            for (index, place) in (0..WIDTH).zip(&mut out) {
                *place = node.get(index);
            }
        }
    }
    Ok(out)
}

/// Compares two slots on the same level: pushes what surely differs to `out`, and pairs of slots that
/// must be looked at one level further down to `next`.
pub(crate) fn compare(
    loaded: &Loaded,
    (a, b): (Option<Slot>, Option<Slot>),
    level: u32,
    out: &mut Vec<(KeyNo, Option<EventNo>, Option<EventNo>)>,
    next: &mut Vec<(Option<Slot>, Option<Slot>)>,
) -> Result<()> {
    if a == b {
        return Ok(());
    }
    let leaf = |slot: Option<Slot>| match slot {
        Some(Slot::Leaf(key, event)) => Some((key, event)),
        _ => None,
    };
    let is_node = |slot| matches!(slot, Some(Slot::Child(_)));
    if is_node(a) || is_node(b) {
        let (a, b) = (spread(loaded, a, level)?, spread(loaded, b, level)?);
        next.extend(a.into_iter().zip(b).filter(|(a, b)| a != b));
        return Ok(());
    }
    match (leaf(a), leaf(b)) {
        (Some((key, old)), Some((other, new))) if key == other => {
            out.push((key, Some(old), Some(new)));
        }
        (a, b) => {
            out.extend(a.map(|(key, event)| (key, Some(event), None)));
            out.extend(b.map(|(key, event)| (key, None, Some(event))));
        }
    }
    Ok(())
}

/// The snapshot `no`: what `root` leads to, with `changes` (each key at most once; `None` removes).
pub(crate) fn derive(
    no: SnapshotNo,
    root: Option<Slot>,
    changes: &[(KeyNo, Option<EventNo>)],
    loaded: &Loaded,
) -> Result<Nodes> {
    let mut maker = Maker {
        no,
        loaded,
        nodes: Vec::new(),
    };
    let root = maker.change(root, 0, changes.to_vec())?;
    Ok(Nodes {
        root,
        nodes: maker.nodes,
    })
}

struct Maker<'a> {
    no: SnapshotNo,
    loaded: &'a Loaded,
    nodes: Vec<Node>,
}

impl Maker<'_> {
    fn change(
        &mut self,
        slot: Option<Slot>,
        level: u32,
        changes: Vec<(KeyNo, Option<EventNo>)>,
    ) -> Result<Option<Slot>> {
        if changes.is_empty() {
            return Ok(slot);
        }
        let Some(Slot::Child(at)) = slot else {
            return self.build(slot, level, changes);
        };
        let mut parts: [Vec<_>; WIDTH as usize] = Default::default();
        for change in changes {
            parts[slot_of(change.0, level) as usize].push(change);
        }
        let before = spread(self.loaded, slot, level)?;
        let mut after = before;
        for (place, part) in after.iter_mut().zip(parts) {
            *place = self.change(*place, level + 1, part)?;
        }
        if after == before {
            return Ok(Some(Slot::Child(at)));
        }
        self.place(&after)
    }

    /// A slot that holds `slot`, at most a leaf, and the changes.
    fn build(
        &mut self,
        slot: Option<Slot>,
        level: u32,
        changes: Vec<(KeyNo, Option<EventNo>)>,
    ) -> Result<Option<Slot>> {
        let mut entries = Vec::with_capacity(changes.len() + 1);
        if let Some(Slot::Leaf(key, event)) = slot
            && changes.iter().all(|(other, _)| *other != key)
        {
            entries.push((key, event));
        }
        entries.extend(
            changes
                .into_iter()
                .filter_map(|(key, event)| Some((key, event?))),
        );
        self.grow(level, entries)
    }

    fn grow(&mut self, level: u32, entries: Vec<(KeyNo, EventNo)>) -> Result<Option<Slot>> {
        if let [(key, event)] = entries[..] {
            return Ok(Some(Slot::Leaf(key, event)));
        }
        if entries.is_empty() {
            return Ok(None);
        }
        if level * BITS >= u64::BITS {
            return Err(Error::broken("a state entry is given twice"));
        }
        let mut parts: [Vec<_>; WIDTH as usize] = Default::default();
        for entry in entries {
            parts[slot_of(entry.0, level) as usize].push(entry);
        }
        let mut slots = [None; WIDTH as usize];
        for (place, part) in slots.iter_mut().zip(parts) {
            *place = self.grow(level + 1, part)?;
        }
        self.place(&slots)
    }

    /// A node with these slots, or what takes its place: nothing, or the only leaf.
    fn place(&mut self, slots: &Slots) -> Result<Option<Slot>> {
        let node = Node::from_slots(slots);
        if let [] | [Slot::Leaf(..)] = node.slots[..] {
            return Ok(node.slots.first().copied());
        }
        let index = u32::try_from(self.nodes.len())
            .map_err(|_| Error::broken("a state snapshot is too large"))?;
        self.nodes.push(node);
        Ok(Some(Slot::Child(Ref {
            snapshot: self.no,
            index,
        })))
    }
}

#[cfg(test)]
mod tests;
