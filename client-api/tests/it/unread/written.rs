//! Counts that were written down: who comes to a server that knows nothing of them has little to count.

use rhizome_client_api::WriteUnread;
use rhizome_storage::{
    LogReader,
    testing::{TestDatabase, eventually},
};
use ruma::{RoomId, UserId, server_name};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{told, two};
use crate::harness::{Server, User, filter};

const MESSAGES: u64 = 120;

async fn is_written(user: &User, room: &str) -> bool {
    let store = &user.server.store;
    let room = <&RoomId>::try_from(room).unwrap();
    let room = store.room(room).await.unwrap().unwrap().room;
    let id = <&UserId>::try_from(user.id.as_str()).unwrap();
    let user = store.user_no(id).await.unwrap();
    !store.unread_rows(&[(room, user)]).await.unwrap().is_empty()
}

/// What a first answer tells, and how many events had to be read for it.
async fn first_answer(user: &User, room: &str) -> (u64, u64) {
    let short =
        filter(&json!({ "room": { "timeline": { "limit": 1 }, "state": { "types": [] } } }));
    let before = user.server.store.counters().now();
    let answer = user.sync(None, &short).await;
    let cost = user.server.store.counters().now() - before;
    (told(&answer, room).unwrap().0, cost.event_reads)
}

#[tokio::test]
async fn a_reader_writes_counts_down_and_so_does_who_had_much_to_count() {
    for by_reader in [true, false] {
        for database in TestDatabase::both().await {
            let server = Server::new(database.open().await);
            let (alice, bob, room) = two(&server).await;
            for _ in 0..MESSAGES {
                alice.say(&room, "x").await;
            }
            let mut said = MESSAGES;
            let stop = CancellationToken::new();
            let work = WriteUnread::new(&server.store, server_name!("here").to_owned());
            let reader = LogReader::new(&server.store, "unread", work.after_every(20));
            if by_reader {
                let running = async { reader.run(&stop).await };
                let writing = async {
                    while !is_written(&bob, &room).await {
                        alice.say(&room, "x").await;
                        said += 1;
                    }
                    stop.cancel();
                };
                futures_util::future::join(running, writing).await;
            } else {
                assert_eq!(first_answer(&bob, &room).await.0, said);
                eventually("it is written", async || is_written(&bob, &room).await).await;
            }
            server.store.close().await;

            let server = Server::new(database.open().await);
            let again = User {
                server: server.clone(),
                ..bob
            };
            let (counted, reads) = first_answer(&again, &room).await;
            assert_eq!(counted, said);
            assert!(reads < MESSAGES / 2, "{reads} events were read");
            server.store.close().await;
            database.remove().await;
        }
    }
}
