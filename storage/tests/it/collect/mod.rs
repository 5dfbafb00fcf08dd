//! What is collected, and what is not.

mod random;

use std::time::Duration;

use rhizome_storage::collect::{self, Collected, Collecting};
use rhizome_storage::testing::{TestDatabase, eventually, forget_snapshots};
use rhizome_storage::{
    Clock, CommitError, CurrentState, EventNo, KeyNo, Lease, NewEvent, NewSnapshot, Options,
    RoomWrite, SnapshotNo, Status, Store,
};

use tokio_util::sync::CancellationToken;

use crate::factory::Room;

const HOUR: Duration = Duration::from_hours(1);
/// A millisecond less.
const ALMOST: Duration = Duration::from_millis(3_599_999);
const HOW: Collecting = Collecting {
    grace: HOUR,
    interval: HOUR,
    pause: Duration::ZERO,
    expire_devices_after: None,
};

/// Runs the story on both databases, with a clock that stands until it is moved.
async fn each<R: Future<Output = ()>>(story: impl Fn(Store, Room) -> R) {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: Clock::manual(1_000_000),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let room = Room::new(&store, "yard").await;
        story(store.clone(), room).await;
        store.close().await;
        database.remove().await;
    }
}

async fn pass(store: &Store) -> Collected {
    let done = store.collect_snapshots(HOW).await.unwrap();
    done.expect("the lease is free")
}

fn entries(seed: i64, count: i64) -> Vec<(KeyNo, Option<EventNo>)> {
    (0..count)
        .map(|n| (KeyNo(1_000 + n * 7 + seed), Some(EventNo(10_000 + seed))))
        .collect()
}

async fn derive(room: &Room, parent: Option<SnapshotNo>, seed: i64, count: i64) -> NewSnapshot {
    let changes = entries(seed, count);
    let derived = room.store.derive_snapshot(room.no, parent, &changes).await;
    derived.unwrap()
}

/// Stores snapshots that nothing refers to.
async fn store_alone(room: &Room, snapshots: Vec<NewSnapshot>) -> Result<(), CommitError> {
    let write = RoomWrite {
        room: room.no,
        snapshots,
        ..RoomWrite::default()
    };
    room.commit(write).await.map(|_| ())
}

/// Stores a rejected event in this state, which may be new.
async fn refer_to(
    room: &Room,
    at: SnapshotNo,
    snapshots: Vec<NewSnapshot>,
    note: &str,
) -> Result<(), CommitError> {
    let pdu = room.message(note).await;
    let no = room.store.next_event_no().await.unwrap();
    let write = RoomWrite {
        room: room.no,
        events: vec![NewEvent {
            status: Status::Rejected,
            state_before: Some(at),
            state_after: Some(at),
            ..NewEvent::new(no, pdu)
        }],
        snapshots,
        ..RoomWrite::default()
    };
    room.commit(write).await.map(|_| ())
}

async fn is_stored(store: &Store, at: SnapshotNo) -> bool {
    forget_snapshots(store);
    store.state_all(at).await.is_ok()
}

#[tokio::test]
async fn garbage_goes_after_the_grace_period_and_not_before() {
    each(|store, room| async move {
        let before = pass(&store).await;
        let stray = derive(&room, None, 1, 50).await.no();
        assert_eq!(before.rooms, 1);
        // It was dropped: nothing came into the database, and nothing is left of it.
        assert!(!is_stored(&store, stray).await);
        let kept = room.head().await.snapshot.unwrap();
        let stray = derive(&room, Some(kept), 2, 50).await;
        let no = stray.no();
        store_alone(&room, vec![stray]).await.unwrap();

        assert_eq!(
            (pass(&store).await.listed, is_stored(&store, no).await),
            (1, true)
        );
        let counted = store.counters().now().collected;
        store.clock().advance(ALMOST);
        assert_eq!(
            (pass(&store).await.deleted, is_stored(&store, no).await),
            (0, true)
        );
        store.clock().advance(Duration::from_millis(1));
        assert_eq!(
            (pass(&store).await.deleted, is_stored(&store, no).await),
            (1, false)
        );
        assert_eq!(store.counters().now().collected, counted + 1);
        assert!(is_stored(&store, kept).await);
        assert_eq!(pass(&store).await.deleted, 0);
        room.send("all is well").await;
    })
    .await;
}

#[tokio::test]
async fn a_parent_whose_nodes_are_shared_is_kept() {
    each(|store, room| async move {
        let parent = derive(&room, None, 1, 200).await;
        let child = derive(&room, Some(parent.no()), 2, 1).await;
        let aside = derive(&room, Some(child.no()), 3, 1).await;
        let (parent_no, child_no, aside_no) = (parent.no(), child.no(), aside.no());
        refer_to(&room, child_no, vec![parent, child], "here")
            .await
            .unwrap();
        store_alone(&room, vec![aside]).await.unwrap();
        for _ in 0..3 {
            pass(&store).await;
            store.clock().advance(HOUR);
        }
        assert!(!is_stored(&store, aside_no).await);
        assert!(is_stored(&store, parent_no).await);
        assert_eq!(store.state_all(child_no).await.unwrap().len(), 201);
    })
    .await;
}

#[tokio::test]
async fn the_current_state_and_states_of_any_event_are_needed() {
    each(|store, room| async move {
        room.member(&crate::factory::user("bob"), "invite").await;
        room.send("hello").await;
        let rejected = derive(&room, None, 1, 30).await;
        let (at, count) = (rejected.no(), 30);
        refer_to(&room, at, vec![rejected], "refused")
            .await
            .unwrap();
        for _ in 0..3 {
            let done = pass(&store).await;
            assert_eq!((done.listed, done.deleted, done.skipped), (0, 0, 0));
            store.clock().advance(HOUR);
        }
        forget_snapshots(&store);
        assert_eq!(store.state_all(at).await.unwrap().len(), count);
        let head = room.head().await;
        assert_eq!(
            store.state_all(head.snapshot.unwrap()).await.unwrap().len(),
            3
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_referred_to_again_starts_anew() {
    each(|store, room| async move {
        let low = derive(&room, None, 1, 200).await;
        let high = derive(&room, Some(low.no()), 2, 1).await;
        let (low_no, high_no) = (low.no(), high.no());
        store_alone(&room, vec![low, high]).await.unwrap();
        assert_eq!(pass(&store).await.listed, 2);
        store.clock().advance(HOUR);
        refer_to(&room, high_no, Vec::new(), "after all")
            .await
            .unwrap();
        let done = pass(&store).await;
        assert_eq!((done.listed, done.deleted), (0, 0));
        assert!(is_stored(&store, high_no).await && is_stored(&store, low_no).await);
    })
    .await;
}

#[tokio::test]
async fn a_commit_upon_what_is_gone_is_refused_and_harms_nothing() {
    each(|store, room| async move {
        let stray = derive(&room, None, 1, 200).await;
        let gone = stray.no();
        store_alone(&room, vec![stray]).await.unwrap();
        // Somebody decides upon it, and takes very long.
        let late = derive(&room, Some(gone), 2, 1).await;
        pass(&store).await;
        store.clock().advance(HOUR);
        assert_eq!(pass(&store).await.deleted, 1);

        let head = room.head().await;
        let is_gone = |outcome: Result<(), CommitError>| {
            let named = match &outcome {
                Err(CommitError::SnapshotGone { snapshot, .. }) => Some(*snapshot),
                _ => None,
            };
            assert_eq!(named, Some(gone), "{outcome:?}");
        };
        is_gone(refer_to(&room, late.no(), vec![late.clone()], "late").await);
        is_gone(refer_to(&room, gone, Vec::new(), "later").await);
        is_gone(store_alone(&room, vec![late.clone()]).await);
        let current = RoomWrite {
            room: room.no,
            expect: Some(head.state_version),
            current: Some(CurrentState {
                snapshot: gone,
                changes: Vec::new(),
            }),
            ..RoomWrite::default()
        };
        is_gone(room.commit(current).await.map(|_| ()));
        assert!(!is_stored(&store, late.no()).await);
        assert_eq!(room.head().await.state_version, head.state_version);
        room.send("life goes on").await;
        room.member(&crate::factory::user("bob"), "invite").await;
    })
    .await;
}

#[tokio::test]
async fn it_runs_by_itself_until_it_is_stopped() {
    each(|store, room| async move {
        let stray = derive(&room, None, 1, 50).await;
        store_alone(&room, vec![stray]).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(collect::run(store.clone(), HOW, stop.clone()));
        eventually("it collects", async || {
            assert!(!task.is_finished());
            store.clock().advance(HOUR);
            store.counters().now().collected > 0
        })
        .await;
        stop.cancel();
        task.await.unwrap().unwrap();
        let lease = Lease::take(&store, "snapshot collector", Some(HOUR)).await;
        assert!(lease.unwrap().is_some(), "the lease was given back");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_at_once_do_no_harm() {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: Clock::manual(1_000_000),
            ..database.options()
        };
        let one = Store::open(options.clone()).await.unwrap();
        let two = Store::open(options).await.unwrap();
        let room = Room::new(&one, "yard").await;
        let mut needed = Vec::new();
        for seed in 0..30 {
            let parent = derive(&room, None, seed, 60).await;
            let child = derive(&room, Some(parent.no()), seed + 100, 1).await;
            let stray = derive(&room, Some(child.no()), seed + 200, 1).await;
            needed.push(child.no());
            let (at, new) = (child.no(), vec![parent, child]);
            refer_to(&room, at, new, &format!("{seed}")).await.unwrap();
            store_alone(&room, vec![stray]).await.unwrap();
        }
        let work = |store: Store| async move {
            let mut deleted = 0;
            for _ in 0..20 {
                // One of them has the lease, or loses it on its way.
                if let Some(done) = store.collect_snapshots(HOW).await.unwrap() {
                    deleted += done.deleted;
                }
                store.clock().advance(HOUR);
            }
            deleted
        };
        let (first, second) = tokio::join!(
            tokio::spawn(work(one.clone())),
            tokio::spawn(work(two.clone()))
        );
        let in_full_passes = first.unwrap() + second.unwrap();
        // The clock ran so fast that they may have taken the lease from each other all the time.
        for _ in 0..3 {
            one.clock().advance(HOUR);
            pass(&one).await;
        }
        let deleted = one.counters().now().collected + two.counters().now().collected;
        assert!(in_full_passes <= deleted);
        assert_eq!(deleted, 30, "every stray one, once");
        forget_snapshots(&one);
        for at in needed {
            assert_eq!(one.state_all(at).await.unwrap().len(), 61);
        }
        one.close().await;
        two.close().await;
        database.remove().await;
    }
}
