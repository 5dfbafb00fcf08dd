//! 32 senders in one hot room: everything arrives, and what a message cost is printed (never asserted).
//!
//! For numbers worth quoting:
//! `RHIZOME_LOAD_MESSAGES=500 scripts/with-postgres --durable cargo test --release --test process load -- --nocapture --test-threads=1`

use std::time::Instant;

use crate::{client::Client, database::Database, process};

const SENDERS: usize = 32;

/// Messages of each sender.
fn messages() -> usize {
    std::env::var("RHIZOME_LOAD_MESSAGES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10)
}

#[tokio::test(flavor = "multi_thread")]
async fn load_of_32_senders_on_sqlite() {
    load(Database::sqlite(), "SQLite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_of_32_senders_on_postgres() {
    load(Database::postgres().await, "PostgreSQL").await;
}

async fn load(database: Database, name: &str) {
    let server = process::start(&database, None).await;
    let founder = Client::register(&server.base, "founder").await;
    let room = founder.create_room().await;
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        let sender = Client::register(&server.base, &format!("sender{number}")).await;
        sender.join(&room).await;
        senders.push(sender);
    }
    // Once each, so that connections, caches and statements are warm.
    for sender in &senders {
        sender.say(&room, "warm", "warm").await.unwrap();
    }

    let (start, cpu) = (Instant::now(), server.cpu_seconds());
    let tasks: Vec<_> = senders
        .into_iter()
        .map(|sender| {
            let room = room.clone();
            tokio::spawn(async move {
                for message in 0..messages() {
                    sender
                        .say(&room, &format!("t{message}"), "hello")
                        .await
                        .expect("is taken");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let sent = (SENDERS * messages()) as f64;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), server.cpu_seconds() - cpu);
    println!(
        "{name}: {sent} messages by {SENDERS} senders: {:.0} messages/s, {:.0} µs CPU each",
        sent / wall,
        cpu * 1e6 / sent
    );
    let stored = founder.history(&room).await;
    let hellos = stored
        .iter()
        .filter(|event| event["content"]["body"] == "hello")
        .count();
    assert_eq!(hellos, SENDERS * messages());
}
