//! A disk without room: requests that change something are answered with 503, what was acknowledged stays, and
//! when there is room again everything goes on without anybody's help.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    client::{Client, Failure},
    database::Database,
    process,
};

fn is_busy<T>(answer: &Result<T, Failure>) -> bool {
    matches!(answer, Err(Failure::Refused { status: 503, .. }))
}

/// No file of the process may grow: neither the database's, where COMMIT fails, nor that of its own log lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_survived() {
    let database = Database::sqlite();
    let mut server = process::start(&database, None).await;
    let alice = Client::register(&server.base, "alice").await;
    let room = alice.create_room().await;
    let mut acknowledged = vec![alice.say(&room, "first", "first").await.unwrap()];
    for round in 0..3 {
        server.let_files_grow(false);
        let words: Vec<_> = (0..8).map(|n| format!("{round} {n}")).collect();
        let said = words.iter().map(|word| alice.say(&room, word, word));
        for (word, answer) in words.iter().zip(join_all(said).await) {
            assert!(is_busy(&answer), "{word}: {answer:?}");
        }
        let login = json!({ "type": "m.login.password", "password": "correct horse battery",
            "identifier": { "type": "m.id.user", "user": "alice" } });
        let answer = alice.call("POST", "/login", Some(login)).await;
        assert!(is_busy(&answer), "{answer:?}");
        let answer = alice.call("POST", "/createRoom", Some(json!({}))).await;
        assert!(is_busy(&answer), "{answer:?}");
        // Whoever only reads notices nothing.
        alice.sync(None, Duration::ZERO).await.unwrap();
        assert!(alice.history(&room).await.len() >= acknowledged.len());

        server.let_files_grow(true);
        // The same transactions once more: each message exists once.
        for word in &words {
            acknowledged.push(alice.say(&room, word, word).await.unwrap());
        }
    }
    // As if power were lost just now.
    server.let_files_grow(false);
    assert!(is_busy(&alice.say(&room, "last", "last").await));
    server.kill();
    let server = process::start(&database, None).await;
    let alice = alice.at(&server.base);
    let history = alice.history(&room).await;
    let texts = history
        .iter()
        .filter(|event| event["type"] == "m.room.message");
    let ids: Vec<_> = texts
        .map(|event| event["event_id"].as_str().unwrap())
        .collect();
    assert!(ids.starts_with(&acknowledged.iter().map(String::as_str).collect::<Vec<_>>()));
    // The one that wasn't acknowledged may be there or not.
    assert!(ids.len() <= acknowledged.len() + 1);
    alice.say(&room, "last", "last").await.unwrap();
}
