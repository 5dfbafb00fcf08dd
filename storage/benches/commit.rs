//! What a commit of so many messages costs, on SQLite with full durability.
//!
//! `cargo bench -p rhizome-storage --bench commit`
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

#[path = "../tests/it/factory.rs"]
mod factory;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use factory::{Event, Room};
use rhizome_storage::{NewEvent, Options, RoomWrite, Store, testing::TestDatabase};
use serde_json::json;

/// A chain of messages after the room's last event, ready to be committed.
async fn chain(room: &Room, length: usize) -> RoomWrite {
    let head = room.head().await;
    let mut last = head.extremities[0].event_id.clone();
    let mut events = Vec::new();
    for number in 0..length {
        let pdu = Event {
            room: &room.id,
            sender: &room.alice,
            kind: "m.room.message",
            state_key: None,
            content: json!({ "msgtype": "m.text", "body": "some words that people might say" }),
            prevs: vec![last],
            auth: vec![
                room.create.event_id().to_owned(),
                room.join.event_id().to_owned(),
            ],
            depth: head.extremities[0].depth + 1 + i64::try_from(number).unwrap(),
            redacts: None,
        }
        .build();
        last = pdu.event_id().to_owned();
        events.push(NewEvent {
            state_before: head.snapshot,
            state_after: head.snapshot,
            ..NewEvent::new(room.store.next_event_no().await.unwrap(), pdu)
        });
    }
    RoomWrite {
        room: room.no,
        events,
        ..RoomWrite::default()
    }
}

fn commit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = TestDatabase::sqlite();
    let options = Options::new(database.url());
    let store = runtime.block_on(Store::open(options)).unwrap();
    let room = runtime.block_on(Room::new(&store, "bench"));
    let mut group = criterion.benchmark_group("commit");
    group.measurement_time(Duration::from_secs(3));
    for length in [1, 8, 32, 128] {
        group.throughput(Throughput::Elements(length));
        group.bench_function(length.to_string(), |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        let write = chain(&room, usize::try_from(length).unwrap()).await;
                        let start = Instant::now();
                        black_box(room.commit(write).await.unwrap());
                        took += start.elapsed();
                    }
                    took
                })
            });
        });
    }
    group.finish();
    runtime.block_on(async {
        store.close().await;
        database.remove().await;
    });
}

criterion_group!(benches, commit);
criterion_main!(benches);
