//! Snapshots in the database.

use std::collections::BTreeMap;

use rhizome_storage::testing::each_database;
use rhizome_storage::{EventNo, KeyNo, RoomWrite, SnapshotNo, Store, WriteSet};

use crate::factory::Room;

async fn all(store: &Store, at: SnapshotNo) -> BTreeMap<KeyNo, EventNo> {
    store.state_all(at).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn a_chain_of_snapshots_reads_the_same_everywhere() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let mut map = BTreeMap::new();
        let mut parent = None;
        let mut maps = Vec::new();
        let mut held = Vec::new();
        for round in 0..30_i64 {
            let changes: Vec<_> = (0..20)
                .map(|n| {
                    let key = KeyNo((round * 7 + n * 13) % 300 + 1);
                    let event = (n % 5 != 4).then_some(EventNo(round * 100 + n));
                    (key, event)
                })
                .collect();
            for (key, event) in &changes {
                match event {
                    Some(event) => map.insert(*key, *event),
                    None => map.remove(key),
                };
            }
            let new = store
                .derive_snapshot(room.no, parent, &changes)
                .await
                .unwrap();
            parent = Some(new.no());
            assert_eq!(all(&store, new.no()).await, map);
            maps.push((new.no(), map.clone()));
            held.push(new);
        }
        let write = RoomWrite {
            room: room.no,
            snapshots: held,
            ..RoomWrite::default()
        };
        let set = WriteSet::from(write);
        store.commit(set).await.unwrap();
        let fresh = Store::open(store.options().clone()).await.unwrap();
        for (no, map) in &maps {
            assert_eq!(&all(&fresh, *no).await, map);
        }
        let keys: Vec<_> = (1..=300).map(KeyNo).collect();
        let (no, map) = &maps[20];
        let found = fresh.state_lookup(*no, &keys).await.unwrap();
        let expected: Vec<_> = keys.iter().map(|key| map.get(key).copied()).collect();
        assert_eq!(found, expected);
        for (a, b) in [(0, 29), (29, 0), (10, 11), (5, 5)] {
            let ((a, left), (b, right)) = (&maps[a], &maps[b]);
            let mut diff = fresh.state_diff(*a, *b).await.unwrap();
            diff.sort();
            let mut expected: Vec<_> = keys
                .iter()
                .map(|key| (*key, left.get(key).copied(), right.get(key).copied()))
                .filter(|(_, old, new)| old != new)
                .collect();
            expected.sort();
            assert_eq!(diff, expected);
        }
        fresh.close().await;
    })
    .await;
}

#[tokio::test]
async fn auth_chains_and_their_difference() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let bob = ruma::user_id!("@bob:there.example");
        let invite = room.member(bob, "invite").await;
        let ids = [invite.clone(), room.join.event_id().to_owned()];
        let nos = store.event_nos(&ids).await.unwrap();
        let chain = store
            .auth_chain(std::slice::from_ref(&invite))
            .await
            .unwrap();
        assert_eq!(chain.len(), 2);
        let sets = [vec![nos[&ids[0]]], vec![nos[&ids[1]]]];
        assert_eq!(store.auth_difference(&sets).await.unwrap(), [nos[&invite]]);
        let fresh = Store::open(store.options().clone()).await.unwrap();
        assert_eq!(fresh.auth_chain_nos(&sets[0]).await.unwrap().len(), 2);
        // What the creator's join allows, newest first.
        let join = nos[&ids[1]];
        let all = fresh.auth_children(join, None, 10).await.unwrap();
        assert!(
            all.contains(&nos[&invite]) && all.is_sorted_by(|a, b| a > b),
            "{all:?}"
        );
        let newest = fresh.auth_children(join, None, 1).await.unwrap();
        assert_eq!(newest, all[..1]);
        let rest = fresh.auth_children(join, Some(all[0]), 10).await.unwrap();
        assert_eq!(rest, all[1..]);
        for limit in 1..=all.len() + 1 {
            let of_both = fresh
                .auth_children_of(&[join, nos[&invite]], limit)
                .await
                .unwrap();
            assert_eq!(of_both[&join], all[..limit.min(all.len())]);
            assert!(!of_both.contains_key(&nos[&invite]));
        }
        assert_eq!(fresh.auth_difference(&sets).await.unwrap(), [nos[&invite]]);
        fresh.close().await;
    })
    .await;
}
