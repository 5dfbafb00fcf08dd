//! What several processes do in one room.

use std::collections::HashSet;

use rhizome_storage::{
    Clock, Options, Store,
    testing::{TestDatabase, check_summaries},
};
use serde_json::json;

use crate::rig::*;

/// The same words of one user, in the same millisecond, upon the same ends of the room: that would be one event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_at_two_processes_at_once_is_said_twice() {
    let database = TestDatabase::postgres().await;
    let clock = Clock::manual(1_700_000_000_000);
    let mut nodes = Vec::new();
    for _ in 0..2 {
        // Neither hears of the other by itself: no time goes by.
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        nodes.push(server(Store::open(options).await.unwrap(), 0));
    }
    let room = public_room(&nodes[0], "@alice:one").await;
    nodes[1].store().log().refresh().await.unwrap();
    nodes[1].store().room(&room).await.unwrap();
    let mut said = HashSet::new();
    for node in &nodes {
        said.insert(say(node, &room, "@alice:one", "hello").await);
    }
    assert_eq!(said.len(), 2);
    for node in nodes {
        node.store().log().refresh().await.unwrap();
        let log = log_of(&node, &room).await;
        let logged = log.iter().filter(|pdu| said.contains(pdu.event_id()));
        assert_eq!(logged.count(), 2);
        node.store().close().await;
    }
    database.remove().await;
}

/// Each change of one process makes what the other has decided void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_change_a_room_all_the_time_never_give_up() {
    let database = TestDatabase::postgres().await;
    let stores = [database.open().await, database.open().await];
    let nodes = stores.clone().map(|store| server(store, 0));
    let room = public_room(&nodes[0], "@alice:one").await;
    nodes[1].store().log().refresh().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (index, node) in nodes.iter().enumerate() {
        for sender in 0..8 {
            let (node, room) = (node.clone(), room.clone());
            tasks.spawn(async move {
                let mut ids = Vec::new();
                for turn in 0..15 {
                    let key = format!("{index} {sender}");
                    let value = json!({ "turn": turn });
                    ids.push(
                        set(&node, &room, "@alice:one", "org.example.note", &key, value).await,
                    );
                }
                ids
            });
        }
    }
    let answered: HashSet<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(answered.len(), 2 * 8 * 15);
    for node in &nodes {
        node.store().log().refresh().await.unwrap();
    }
    let states = [
        current(&nodes[0], &room).await,
        current(&nodes[1], &room).await,
    ];
    assert_eq!(states[0], states[1]);
    for store in stores {
        check_summaries(&store, "in a hot room").await;
        store.close().await;
    }
    database.remove().await;
}
