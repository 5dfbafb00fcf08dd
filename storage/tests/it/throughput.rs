//! A measurement, not a test:
//! `scripts/with-postgres --durable cargo test --release -p rhizome-storage -- --ignored throughput --nocapture`.

use std::time::Instant;

use rhizome_storage::testing::TestDatabase;
use rhizome_storage::{NewEvent, Options, RoomWrite, Store};
use serde_json::json;

use crate::factory::{Event, Room};

const SENDERS: u32 = 32;
const MESSAGES: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a measurement"]
async fn throughput() {
    for database in TestDatabase::both().await {
        let store = Store::open(Options::new(database.url())).await.unwrap();
        let room = Room::new(&store, "r").await;
        let mut ready = Vec::new();
        for sender in 0..SENDERS {
            // Made beforehand: this is about the commit.
            let mut writes = Vec::new();
            let mut prev = room.join.event_id().to_owned();
            for n in 0..MESSAGES {
                let pdu = Event {
                    room: &room.id,
                    sender: &room.alice,
                    kind: "m.room.message",
                    state_key: None,
                    content: json!({"body": format!("{sender} {n}"), "msgtype": "m.text"}),
                    prevs: vec![prev],
                    auth: vec![room.create.event_id().to_owned()],
                    depth: 3,
                    redacts: None,
                }
                .build();
                prev = pdu.event_id().to_owned();
                let no = store.next_event_no().await.unwrap();
                writes.push(RoomWrite {
                    room: room.no,
                    events: vec![NewEvent::new(no, pdu)],
                    ..RoomWrite::default()
                });
            }
            ready.push(writes);
        }
        let before = store.counters().now();
        let start = Instant::now();
        let mut tasks = Vec::new();
        for writes in ready {
            let room = room.clone();
            tasks.push(tokio::spawn(async move {
                for write in writes {
                    room.commit(write).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let took = start.elapsed();
        let done = store.counters().now() - before;
        println!(
            "{:?}: {:.0} messages/s with {SENDERS} senders, {:.3} transactions per message",
            store.dialect(),
            f64::from(SENDERS * MESSAGES) / took.as_secs_f64(),
            f64::from(u32::try_from(done.transactions).unwrap()) / f64::from(SENDERS * MESSAGES)
        );
        store.close().await;
        database.remove().await;
    }
}
