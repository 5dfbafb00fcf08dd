//! Turns of rooms: what is decided while a room's row is locked.

use std::time::Duration;

use rhizome_storage::testing::TestDatabase;
use rhizome_storage::{CommitError, Options, Store};
use serde_json::json;

use crate::factory::Room;
use crate::processes::seen_by;

/// Whoever takes a turn knows what was committed before, and nobody comes in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_has_a_turn_is_changed_by_nobody_else() {
    let database = TestDatabase::postgres().await;
    let deaf = Options {
        poll_interval: Some(Duration::from_hours(1)),
        ..database.options()
    };
    let (one, two) = (Store::open(deaf).await.unwrap(), database.open().await);
    let room = Room::new(&one, "r").await;
    two.log().refresh().await.unwrap();
    let there = seen_by(&two, &room);
    let topic = async |of: &Room, text: &str| {
        let content = json!({ "topic": text });
        let pdu = of.event(&of.alice, "m.room.topic", Some(""), content).await;
        of.state_write(pdu).await
    };
    there.commit(topic(&there, "first").await).await.unwrap();
    assert_eq!(room.head().await.state_version, 1, "it hasn't heard");
    let turn = one.take_turn(room.no).await.unwrap().unwrap();
    assert_eq!(room.head().await.state_version, 2);
    // It is decided before the other, and submitted before it, and comes too late.
    let late = topic(&there, "second").await;
    let (late_one, early) = tokio::join!(there.commit(late), async {
        turn.commit(topic(&room, "in the turn").await.into()).await
    });
    early.unwrap();
    assert!(
        matches!(late_one, Err(CommitError::StateMoved { now: 3, .. })),
        "{late_one:?}"
    );
    // Whoever lets a turn go holds nobody up, not even themselves.
    drop(one.take_turn(room.no).await.unwrap());
    room.commit(topic(&room, "third").await).await.unwrap();
    // Nor does who can't decide: others go on when the turn has lasted long enough.
    let slow = one.take_turn(room.no).await.unwrap().unwrap();
    let fourth = topic(&room, "fourth").await;
    room.commit(fourth).await.unwrap();
    let too_late = slow.commit(topic(&room, "fifth").await.into()).await;
    assert!(
        matches!(too_late, Err(CommitError::TurnOver)),
        "{too_late:?}"
    );
    assert_eq!(one.counters().now().turns, 3);
    for store in [one, two] {
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test]
async fn who_is_alone_needs_no_turn() {
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let room = Room::new(&store, "r").await;
    assert!(store.take_turn(room.no).await.unwrap().is_none());
    store.close().await;
    database.remove().await;
}
