//! What a message into a warm room costs, decided only, and sent by so many senders at once, on SQLite.
//!
//! `cargo bench -p rhizome-rooms --bench send`
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

#[path = "../tests/it/rig.rs"]
mod rig;

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rhizome_rooms::send::{self, SendOptions};
use rhizome_storage::testing::TestDatabase;
use rhizome_storage::{Options, Store};
use tokio::task::JoinSet;

const ALICE: &str = "@alice:one";

fn message(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = TestDatabase::sqlite();
    let options = Options::new(database.url());
    let store = runtime.block_on(Store::open(options)).unwrap();
    let rooms = rig::server(store.clone(), 0);
    let room = runtime.block_on(rig::public_room(&rooms, ALICE));
    let draft = rig::message(&room, ALICE, "some words that people might say");

    let mut group = criterion.benchmark_group("send");
    group.measurement_time(Duration::from_secs(3));
    group.bench_function("decide", |b| {
        b.iter(|| {
            let decided = runtime.block_on(send::prepare(&rooms, black_box(&draft)));
            decided.unwrap()
        });
    });
    for senders in [1, 8, 32, 128] {
        group.throughput(Throughput::Elements(senders));
        group.bench_function(format!("{senders} at once"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let mut sending = JoinSet::new();
                    for _ in 0..senders {
                        let (rooms, draft) = (rooms.clone(), draft.clone());
                        sending.spawn(async move {
                            send::send(&rooms, draft, SendOptions::default()).await
                        });
                    }
                    for sent in sending.join_all().await {
                        black_box(sent.unwrap());
                    }
                });
            });
        });
    }
    group.finish();
    runtime.block_on(async {
        store.close().await;
        database.remove().await;
    });
}

criterion_group!(benches, message);
criterion_main!(benches);
