//! What a collector does when something happens between its steps.

use rhizome_protocol::RoomRules;
use ruma::OwnedRoomId;

use super::*;
use crate::testing::TestDatabase;
use crate::{
    Clock, CommitError, CurrentState, EventNo, KeyNo, NewRoom, NewSnapshot, Options, RoomWrite,
    SnapshotNo, WriteSet,
};

pub(super) const NOW: Collecting = Collecting {
    grace: Duration::ZERO,
    interval: Duration::ZERO,
    pause: Duration::ZERO,
    expire_devices_after: None,
};

/// Runs the story on both databases with a clock that stands.
async fn each<R: Future<Output = ()>>(story: impl Fn(Store) -> R) {
    each_at(1_000_000, story).await;
}

/// The same with a clock that stands at this time (ms since 1970) until it is moved.
pub(super) async fn each_at<R: Future<Output = ()>>(now_ms: i64, story: impl Fn(Store) -> R) {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: Clock::manual(now_ms),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        story(store.clone()).await;
        store.close().await;
        database.remove().await;
    }
}

async fn derive(store: &Store, parent: Option<SnapshotNo>, seed: i64) -> NewSnapshot {
    let changes: Vec<_> = (0..40)
        .map(|n| (KeyNo(n + seed), Some(EventNo(n + 100 * seed + 1))))
        .collect();
    store
        .derive_snapshot(RoomNo(1), parent, &changes)
        .await
        .unwrap()
}

async fn commit(store: &Store, write: RoomWrite) -> Result<(), CommitError> {
    let set = WriteSet {
        rooms: vec![RoomWrite {
            room: RoomNo(1),
            ..write
        }],
        ..WriteSet::default()
    };
    store.commit(set).await.map(|_| ())
}

/// A room with these snapshots and no current state.
async fn room_of(store: &Store, snapshots: Vec<NewSnapshot>) {
    let create = NewRoom {
        room_id: OwnedRoomId::try_from("!yard:here").unwrap(),
        rules: RoomRules::named("12").unwrap(),
    };
    let write = RoomWrite {
        create: Some(create),
        snapshots,
        ..RoomWrite::default()
    };
    commit(store, write).await.unwrap();
}

/// Makes a stored snapshot the room's current one.
async fn refer_to(store: &Store, snapshot: SnapshotNo, expect: i64) -> Result<(), CommitError> {
    let current = CurrentState {
        snapshot,
        changes: Vec::new(),
    };
    let write = RoomWrite {
        expect: Some(expect),
        current: Some(current),
        ..RoomWrite::default()
    };
    commit(store, write).await
}

async fn stored(store: &Store) -> Vec<SnapshotNo> {
    let query = store.sql("SELECT no FROM state_snapshot ORDER BY no");
    let rows = store.rows(query).await.unwrap();
    rows.iter().map(|row| row.get("no").unwrap()).collect()
}

async fn on_list(store: &Store) -> usize {
    let query = store.sql("SELECT no FROM snapshot_candidate");
    store.rows(query).await.unwrap().len()
}

async fn lease(store: &Store) -> Lease {
    let (name, length) = LEASE;
    let taken = Lease::take(store, name, Some(length)).await.unwrap();
    taken.expect("it is free")
}

fn pass<'a>(store: &'a Store, lease: &'a Lease) -> Pass<'a> {
    Pass {
        store,
        lease,
        how: NOW,
    }
}

#[tokio::test]
async fn what_is_referred_to_between_looking_and_deleting_stays_with_what_it_shares() {
    each(|store| async move {
        let (low, high) = {
            let low = derive(&store, None, 1).await;
            let high = derive(&store, Some(low.no()), 30).await;
            let nos = (low.no(), high.no());
            room_of(&store, vec![low, high]).await;
            nos
        };
        let lease = lease(&store).await;
        let pass = pass(&store, &lease);
        let mut done = Collected::default();
        assert!(lease.renew().await.unwrap());
        assert_eq!(pass.room(RoomNo(1), &mut done).await.unwrap(), Swept::All);
        assert_eq!((done.listed, done.deleted), (2, 0));

        let marks = pass.marks(RoomNo(1), pass.cutoff()).await.unwrap().unwrap();
        assert_eq!(marks.of(mark::Mark::Garbage).count(), 2);
        // Only the higher one is named; both are needed.
        refer_to(&store, high, 0).await.unwrap();
        assert_eq!(on_list(&store).await, 0);
        let swept = pass.sweep(RoomNo(1), &marks, &mut done).await.unwrap();
        assert_eq!((swept, done.deleted), (Swept::Moved, 0));
        assert_eq!(stored(&store).await, [low, high]);
    })
    .await;
}

#[tokio::test]
async fn what_came_too_late_for_the_list_keeps_what_it_shares() {
    each(|store| async move {
        let low = derive(&store, None, 1).await;
        let high = derive(&store, Some(low.no()), 30).await;
        let (low_no, high_no) = (low.no(), high.no());
        room_of(&store, vec![low]).await;
        let lease = lease(&store).await;
        let pass = pass(&store, &lease);
        assert!(lease.renew().await.unwrap());
        let marks = pass.marks(RoomNo(1), pass.cutoff()).await.unwrap().unwrap();
        // It comes after the look and before the list: neither knows of the other.
        let write = RoomWrite {
            snapshots: vec![high],
            ..RoomWrite::default()
        };
        commit(&store, write).await.unwrap();
        let mut done = Collected::default();
        pass.list(RoomNo(1), &marks, &mut done).await.unwrap();
        assert_eq!(on_list(&store).await, 1);

        let marks = pass.marks(RoomNo(1), pass.cutoff()).await.unwrap().unwrap();
        // Nothing stands between this and the deletion but what the pass itself has seen.
        refer_to(&store, high_no, 0).await.unwrap();
        pass.sweep(RoomNo(1), &marks, &mut done).await.unwrap();
        assert_eq!(stored(&store).await, [low_no, high_no]);
        crate::testing::forget_snapshots(&store);
        store.state_all(high_no).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn who_has_lost_the_lease_writes_nothing() {
    each(|store| async move {
        let stray = derive(&store, None, 1).await;
        let no = stray.no();
        room_of(&store, vec![stray]).await;
        let asleep = lease(&store).await;
        let sleeper = pass(&store, &asleep);
        let mut done = Collected::default();
        sleeper.room(RoomNo(1), &mut done).await.unwrap();
        let marks = sleeper
            .marks(RoomNo(1), sleeper.cutoff())
            .await
            .unwrap()
            .unwrap();
        store.clock().advance(LEASE.1 + Duration::from_millis(1));
        let _other = lease(&store).await;
        assert!(!asleep.renew().await.unwrap());
        let swept = sleeper.sweep(RoomNo(1), &marks, &mut done).await.unwrap();
        assert_eq!((swept, done.deleted), (Swept::LeaseLost, 0));
        // Nor does it touch the list.
        let fresh = derive(&store, None, 2).await;
        let write = RoomWrite {
            snapshots: vec![fresh.clone()],
            ..RoomWrite::default()
        };
        commit(&store, write).await.unwrap();
        let marks = sleeper
            .marks(RoomNo(1), sleeper.cutoff())
            .await
            .unwrap()
            .unwrap();
        let listed = sleeper.list(RoomNo(1), &marks, &mut done).await.unwrap();
        assert_eq!((listed, on_list(&store).await), (Swept::LeaseLost, 1));
        assert_eq!(stored(&store).await, [no, fresh.no()]);
        assert!(store.collect_snapshots(NOW).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_that_is_stored_twice_comes_off_the_list() {
    each(|store| async move {
        let stray = derive(&store, None, 1).await;
        let no = stray.no();
        room_of(&store, vec![stray.clone()]).await;
        store.collect_snapshots(NOW).await.unwrap().unwrap();
        assert_eq!(on_list(&store).await, 1);
        let write = RoomWrite {
            expect: Some(0),
            snapshots: vec![stray],
            current: Some(CurrentState {
                snapshot: no,
                changes: Vec::new(),
            }),
            ..RoomWrite::default()
        };
        commit(&store, write).await.unwrap();
        assert_eq!(on_list(&store).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_long_chain_goes_children_first_wherever_the_pass_ends() {
    each(|store| async move {
        let mut chain: Vec<NewSnapshot> = Vec::new();
        for seed in 0..250 {
            let parent = chain.last().map(NewSnapshot::no);
            chain.push(derive(&store, parent, seed * 40).await);
        }
        let late = chain[20].no();
        room_of(&store, chain).await;
        store.collect_snapshots(NOW).await.unwrap().unwrap();
        let lease = lease(&store).await;
        let pass = pass(&store, &lease);
        assert!(lease.renew().await.unwrap());
        let marks = pass.marks(RoomNo(1), pass.cutoff()).await.unwrap().unwrap();
        // Somebody takes one off the list whose turn comes late: the pass ends there, in its midst.
        let query = store
            .sql("DELETE FROM snapshot_candidate WHERE no = $1")
            .bind(late);
        store.execute(query).await.unwrap();
        let mut done = Collected::default();
        let swept = pass.sweep(RoomNo(1), &marks, &mut done).await.unwrap();
        assert_eq!(swept, Swept::Moved);
        assert!(done.deleted > 0, "the first are deleted");
        crate::testing::forget_snapshots(&store);
        let left = stored(&store).await;
        assert!(left.contains(&late));
        for no in left {
            store.state_all(no).await.unwrap();
        }
        lease.release().await.unwrap();
        for _ in 0..2 {
            store.collect_snapshots(NOW).await.unwrap().unwrap();
        }
        assert!(stored(&store).await.is_empty());
        assert_eq!(on_list(&store).await, 0);
    })
    .await;
}
