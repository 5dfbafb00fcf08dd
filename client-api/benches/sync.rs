//! What requests cost from the router on, without HTTP: `/sync` of an account in 50 rooms, and a message.
//!
//! `cargo bench -p rhizome-client-api --bench sync`
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

#[path = "../tests/it/harness.rs"]
mod harness;
#[path = "../tests/it/telling.rs"]
mod telling;

use std::time::Duration;

use axum::body::{Body, Bytes};
use criterion::{Criterion, criterion_group, criterion_main};
use harness::{Server, User, esc, next};
use http::{Method, Request, StatusCode, header};
use rhizome_storage::testing::TestDatabase;
use serde_json::json;
use tower::ServiceExt as _;

const ROOMS: usize = 50;

/// The bytes of an answer, which isn't looked into.
async fn ask(user: &User, method: Method, path: &str, body: &'static str) -> Bytes {
    let request = Request::builder()
        .method(method)
        .uri(format!("/_matrix/client/v3{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", user.token))
        .body(Body::from(body))
        .unwrap();
    let answer = user.server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    axum::body::to_bytes(answer.into_body(), 1 << 26)
        .await
        .unwrap()
}

fn sync(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = TestDatabase::sqlite();
    let store = runtime.block_on(database.open());
    let (alice, room, before, after) = runtime.block_on(async {
        let server = Server::new(store.clone());
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let mut room = String::new();
        for number in 0..ROOMS {
            room = bob
                .create(json!({ "preset": "public_chat", "name": format!("Room {number}") }))
                .await;
            bob.say(&room, "a first word").await;
            alice.join(&room).await;
        }
        let before = next(&alice.sync(None, "").await);
        bob.say(&room, "some words that people might say").await;
        let after = next(&alice.sync(Some(&before), "").await);
        (alice, room, before, after)
    });

    let mut group = criterion.benchmark_group("client");
    group.measurement_time(Duration::from_secs(3));
    for (name, path) in [
        ("sync, nothing new", format!("/sync?since={after}")),
        ("sync, one message", format!("/sync?since={before}")),
        ("sync, initial", "/sync".to_owned()),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(ask(&alice, Method::GET, &path, "")));
        });
    }
    let mut number = 0;
    group.bench_function("send", |b| {
        b.iter(|| {
            number += 1;
            let path = format!("/rooms/{}/send/m.room.message/bench{number}", esc(&room));
            let body = r#"{"msgtype":"m.text","body":"some words that people might say"}"#;
            runtime.block_on(ask(&alice, Method::PUT, &path, body))
        });
    });
    group.finish();
    runtime.block_on(async {
        store.close().await;
        database.remove().await;
    });
}

criterion_group!(benches, sync);
criterion_main!(benches);
