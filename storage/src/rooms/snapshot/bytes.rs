//! Snapshots as bytes.

use super::{Node, Nodes, Ref, Slot};
use crate::{Error, EventNo, KeyNo, Result, SnapshotNo};

const FORMAT: u64 = 1;

impl Nodes {
    /// The body of the snapshot `no`: varints. Per node: which slots are used, which of these are
    /// children; then per slot the key and the event, or the distance of the snapshot and the index.
    pub(crate) fn encode(&self, no: SnapshotNo) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.nodes.len() * 64);
        put(&mut out, FORMAT);
        let root = Node {
            used: u16::from(self.root.is_some()),
            slots: self.root.into_iter().collect(),
        };
        put(&mut out, self.nodes.len() as u64);
        for node in self.nodes.iter().chain([&root]) {
            node.encode(no, &mut out);
        }
        out
    }

    /// The inverse of [`Nodes::encode`].
    pub(crate) fn decode(no: SnapshotNo, body: &[u8]) -> Result<Self> {
        let mut rest = body;
        let nodes = Self::take(no, &mut rest);
        nodes.ok_or_else(|| Error::broken(format!("state snapshot {no} is damaged")))
    }

    fn take(no: SnapshotNo, rest: &mut &[u8]) -> Option<Self> {
        if take(rest)? != FORMAT {
            return None;
        }
        let count = usize::try_from(take(rest)?).ok()?;
        let mut nodes = Vec::with_capacity(count.min(rest.len()));
        for _ in 0..count {
            nodes.push(Node::decode(no, rest)?);
        }
        let root = Node::decode(no, rest)?.slots.first().copied();
        rest.is_empty().then_some(Self { root, nodes })
    }
}

impl Node {
    fn encode(&self, no: SnapshotNo, out: &mut Vec<u8>) {
        let children = self
            .slots
            .iter()
            .enumerate()
            .fold(0_u64, |bits, (n, slot)| {
                bits | (u64::from(matches!(slot, Slot::Child(_))) << n)
            });
        put(out, u64::from(self.used));
        put(out, children);
        for slot in &self.slots {
            match slot {
                Slot::Leaf(key, event) => {
                    put(out, key.0.cast_unsigned());
                    put(out, event.0.cast_unsigned());
                }
                Slot::Child(at) => {
                    put(out, zigzag(no.0.wrapping_sub(at.snapshot.0)));
                    put(out, u64::from(at.index));
                }
            }
        }
    }

    fn decode(no: SnapshotNo, rest: &mut &[u8]) -> Option<Self> {
        let used = u16::try_from(take(rest)?).ok()?;
        let children = take(rest)?;
        let mut slots = Vec::with_capacity(used.count_ones() as usize);
        for n in 0..used.count_ones() {
            let (first, second) = (take(rest)?, take(rest)?);
            slots.push(if children >> n & 1 == 1 {
                Slot::Child(Ref {
                    snapshot: SnapshotNo(no.0.wrapping_sub(unzigzag(first))),
                    index: u32::try_from(second).ok()?,
                })
            } else {
                Slot::Leaf(KeyNo(first.cast_signed()), EventNo(second.cast_signed()))
            });
        }
        Some(Self { used, slots })
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}
