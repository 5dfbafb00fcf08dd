//! Snapshots against plain maps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Map = BTreeMap<KeyNo, EventNo>;

fn read(loaded: &Loaded, no: SnapshotNo) -> Map {
    let mut out = Map::new();
    let mut left: Vec<_> = loaded[&no].root.into_iter().collect();
    while let Some(slot) = left.pop() {
        match slot {
            Slot::Leaf(key, event) => assert_eq!(out.insert(key, event), None),
            Slot::Child(at) => left.extend(slots(loaded, at).unwrap()),
        }
    }
    out
}

fn get(loaded: &Loaded, no: SnapshotNo, key: KeyNo) -> Option<EventNo> {
    let mut slot = loaded[&no].root;
    for level in 0.. {
        match slot? {
            Slot::Leaf(found, event) => return (found == key).then_some(event),
            Slot::Child(at) => slot = step(loaded, at, level, key).unwrap(),
        }
    }
    None
}

fn diff(
    loaded: &Loaded,
    a: SnapshotNo,
    b: SnapshotNo,
) -> Vec<(KeyNo, Option<EventNo>, Option<EventNo>)> {
    let mut out = Vec::new();
    let mut pairs = vec![(loaded[&a].root, loaded[&b].root)];
    for level in 0.. {
        let mut next = Vec::new();
        for pair in pairs {
            compare(loaded, pair, level, &mut out, &mut next).unwrap();
        }
        pairs = next;
        if pairs.is_empty() {
            break;
        }
    }
    out.sort();
    out
}

/// The differences by the plain way.
fn plain_diff(a: &Map, b: &Map) -> Vec<(KeyNo, Option<EventNo>, Option<EventNo>)> {
    let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    keys.into_iter()
        .map(|key| (*key, a.get(key).copied(), b.get(key).copied()))
        .filter(|(_, a, b)| a != b)
        .collect()
}

fn add(loaded: &mut Loaded, no: i64, nodes: &Nodes) {
    let no = SnapshotNo(no);
    let again = Nodes::decode(no, &nodes.encode(no)).unwrap();
    assert_eq!(&again, nodes);
    loaded.insert(no, Arc::new(again));
}

proptest! {
    /// Any chain of changes gives what a plain map gives, in content, lookups and differences.
    #[test]
    fn it_is_a_map(
        batches in prop::collection::vec(
            prop::collection::btree_map(0_i64..60, prop::option::of(1_i64..5), 0..25),
            1..12,
        ),
        parents in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let mut loaded = Loaded::new();
        let mut maps: Vec<Map> = vec![Map::new()];
        add(&mut loaded, 0, &Nodes::default());
        for (n, batch) in batches.iter().enumerate() {
            let parent = parents[n].index(maps.len());
            let mut map = maps[parent].clone();
            let changes: Vec<_> = batch
                .iter()
                .map(|(key, event)| (KeyNo(*key), event.map(EventNo)))
                .collect();
            for (key, event) in &changes {
                match event {
                    Some(event) => map.insert(*key, *event),
                    None => map.remove(key),
                };
            }
            let root = loaded[&SnapshotNo(number(parent))].root;
            let no = number(maps.len());
            let nodes = derive(SnapshotNo(no), root, &changes, &loaded).unwrap();
            add(&mut loaded, no, &nodes);
            prop_assert_eq!(read(&loaded, SnapshotNo(no)), map.clone());
            for key in (0..60).map(KeyNo) {
                prop_assert_eq!(get(&loaded, SnapshotNo(no), key), map.get(&key).copied());
            }
            maps.push(map);
        }
        for (a, left) in maps.iter().enumerate() {
            for (b, right) in maps.iter().enumerate() {
                prop_assert_eq!(
                    diff(&loaded, SnapshotNo(number(a)), SnapshotNo(number(b))),
                    plain_diff(left, right)
                );
            }
        }
    }

    /// Damage is an error, never a panic.
    #[test]
    fn hostile_bytes_are_refused(body in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Nodes::decode(SnapshotNo(3), &body);
    }
}

#[test]
fn one_more_entry_costs_logarithmically() {
    for (size, most) in [(1_000, 260), (10_000, 330), (100_000, 420)] {
        let entries: Vec<_> = (0..size)
            .map(|n| (KeyNo(n), Some(EventNo(n + 1_000_000))))
            .collect();
        let mut loaded = Loaded::new();
        let nodes = derive(SnapshotNo(1), None, &entries, &loaded).unwrap();
        loaded.insert(SnapshotNo(1), Arc::new(nodes));
        let mut bytes = 0;
        for n in 0..100 {
            let root = loaded[&SnapshotNo(n + 1)].root;
            let change = [(KeyNo(size + n), Some(EventNo(n + 2_000_000)))];
            let nodes = derive(SnapshotNo(n + 2), root, &change, &loaded).unwrap();
            bytes += nodes.encode(SnapshotNo(n + 2)).len();
            loaded.insert(SnapshotNo(n + 2), Arc::new(nodes));
        }
        println!("{size} entries: {} bytes for one more", bytes / 100);
        assert!(bytes / 100 < most, "{size}: {}", bytes / 100);
    }
}

fn number(index: usize) -> i64 {
    i64::try_from(index).unwrap()
}
