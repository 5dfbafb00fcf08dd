//! What was scheduled is sent, once, whatever ends the process meanwhile.

use std::collections::HashMap;

use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use crate::{
    client::{Client, Failure, path},
    crash::rounds,
    database::Database,
    process,
};

/// So many are scheduled each time, each due a moment after the one before.
const EVENTS: usize = 24;
const APART: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_and_repeats_no_delayed_event_on_sqlite() {
    kill(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_and_repeats_no_delayed_event_on_postgres() {
    kill(Database::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_around_the_commit_lose_and_repeat_no_delayed_event() {
    for point in ["before-commit", "after-commit", "before-answer"] {
        crash_at(Database::sqlite(), point).await;
    }
}

/// Whichever of two sends what is due.
#[tokio::test(flavor = "multi_thread")]
async fn another_process_goes_on_when_one_is_killed() {
    let database = Database::postgres().await;
    let mut one = process::start(&database, None).await;
    let other = process::start(&database, None).await;
    let here = Client::register(&one.base, "alice").await;
    let there = here.at(&other.base);
    let room = here.create_room().await;
    for n in 0..EVENTS {
        let by = if n % 2 == 0 { &here } else { &there };
        let scheduled = schedule(by, &room, n, APART * (n + 1)).await;
        scheduled.expect("is scheduled");
    }
    eventually("some are sent", async || {
        sent(&there, &room).await.len() >= EVENTS / 3
    })
    .await;
    one.kill();
    each_once(&there, &room, EVENTS).await;
}

async fn kill(database: Database) {
    let mut server = process::start(&database, None).await;
    let mut alice = Client::register(&server.base, "alice").await;
    let room = alice.create_room().await;
    let mut all = 0;
    for round in 0..rounds() {
        for n in 0..EVENTS {
            schedule(&alice, &room, all + n, APART * (n + 1))
                .await
                .expect("is scheduled");
        }
        let some = all + (round * 7) % EVENTS;
        all += EVENTS;
        eventually("some are sent", async || {
            sent(&alice, &room).await.len() >= some
        })
        .await;
        server.kill();
        server = process::start(&database, None).await;
        alice = alice.at(&server.base);
    }
    each_once(&alice, &room, all).await;
}

/// `point` counts commits: one of those that send an event ends the process, between any two of its steps.
async fn crash_at(database: Database, point: &str) {
    let server = process::start(&database, None).await;
    let alice = Client::register(&server.base, "alice").await;
    let room = alice.create_room().await;
    drop(server);
    let during = EVENTS + EVENTS / 2;
    let server = process::start(&database, Some(&format!("{point}:{during}"))).await;
    let here = alice.at(&server.base);
    let mut cut = Vec::new();
    for n in 0..EVENTS {
        if let Err(Failure::Cut(_)) = schedule(&here, &room, n, 10 * APART + APART * n).await {
            cut.push(n);
        }
    }
    server.ended().await;
    let server = process::start(&database, None).await;
    let alice = alice.at(&server.base);
    for n in cut {
        schedule(&alice, &room, n, APART)
            .await
            .expect("is scheduled");
    }
    each_once(&alice, &room, EVENTS).await;
}

async fn schedule(by: &Client, room: &str, n: usize, delay: usize) -> Result<Value, Failure> {
    let path = format!(
        "/rooms/{}/send/org.example.late/{n}?org.matrix.msc4140.delay={delay}",
        path(room)
    );
    by.call("PUT", &path, Some(json!({ "n": n }))).await
}

/// The numbers of what was sent, in order.
async fn sent(reader: &Client, room: &str) -> Vec<u64> {
    let history = reader.history(room).await;
    let late = history
        .iter()
        .filter(|event| event["type"] == "org.example.late");
    late.map(|event| event["content"]["n"].as_u64().unwrap())
        .collect()
}

async fn each_once(reader: &Client, room: &str, count: usize) {
    eventually("all are sent", async || {
        sent(reader, room).await.len() >= count
    })
    .await;
    let mut times: HashMap<u64, usize> = HashMap::new();
    for n in sent(reader, room).await {
        *times.entry(n).or_default() += 1;
    }
    assert_eq!(times.len(), count);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}
