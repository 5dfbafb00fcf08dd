//! What takes its time: done piece by piece, by whichever process has the lease.

use http::Method;
use rhizome_client_api::{tasks, users};
use rhizome_storage::{Task, TaskState, testing::eventually};
use ruma::UserId;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, User, esc, events, story};

/// The server does tasks until the story stops it.
fn working(server: &Server) -> CancellationToken {
    let stop = CancellationToken::new();
    let (app, until) = (server.app.clone(), stop.clone());
    tokio::spawn(async move { tasks::run(app, until).await.unwrap() });
    stop
}

async fn task(server: &Server, no: i64) -> Task {
    let all = server.store.tasks(i64::MAX, 100).await.unwrap();
    all.into_iter().find(|task| task.no == no).unwrap()
}

async fn over(server: &Server, no: i64) -> Task {
    eventually("the task is over", async || {
        task(server, no).await.state != TaskState::Open
    })
    .await;
    task(server, no).await
}

/// What is left of an event.
async fn content(user: &User, room: &str, event: &str) -> serde_json::Value {
    let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
    user.read(&path).await["content"].clone()
}

#[tokio::test]
async fn what_a_user_said_is_redacted_where_they_are_and_were() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (here, left) = (bob.create_public().await, bob.create_public().await);
        let mut said = Vec::new();
        for room in [&here, &left] {
            ada.join(room).await;
            for text in ["one", "two"] {
                said.push((room, ada.say(room, text).await));
            }
        }
        let his = bob.say(&here, "his").await;
        ada.leave(&left).await;

        let no = server.store.add_task(tasks::REDACT, &ada.id).await.unwrap();
        // Nobody does it yet.
        assert_eq!(task(&server, no).await.state, TaskState::Open);
        let stop = working(&server);
        let done = over(&server, no).await;
        assert_eq!((done.state, done.progress), (TaskState::Done, 4));
        for (room, event) in &said {
            assert_eq!(content(&bob, room, event).await, serde_json::json!({}));
        }
        assert_eq!(content(&bob, &here, &his).await["body"], "his");
        // Where she is, she did it herself.
        let sync = bob.sync(None, "").await;
        let timeline = events(&sync, &["rooms", "join", &here, "timeline", "events"]);
        let redactions = timeline.iter().filter(|event| {
            event["type"] == "m.room.redaction" && event["sender"] == ada.id.as_str()
        });
        assert_eq!(redactions.count(), 2);
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn whose_account_ends_leaves_all_rooms() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (room, other) = (bob.create_public().await, bob.create_public().await);
        ada.join(&room).await;
        bob.invite(&other, &ada).await;
        let id = <&UserId>::try_from(ada.id.as_str()).unwrap();
        let user = server.store.user_no(id).await.unwrap();
        users::end(&server.store, id, user, false).await.unwrap();
        let stop = working(&server);
        let open = server.store.tasks(i64::MAX, 1).await.unwrap();
        let done = over(&server, open[0].no).await;
        assert_eq!((done.state, done.progress), (TaskState::Done, 2));
        for room in [&room, &other] {
            let path = format!("/rooms/{}/state/m.room.member/{}", esc(room), esc(&ada.id));
            assert_eq!(bob.read(&path).await["membership"], "leave");
        }
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn what_is_cancelled_or_unknown_is_not_done() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = bob.create_public().await;
        ada.join(&room).await;
        let said = ada.say(&room, "it stays").await;
        let store = &server.store;
        let cancelled = store.add_task(tasks::REDACT, &ada.id).await.unwrap();
        let state = TaskState::Cancelled;
        assert!(store.end_task(cancelled, state, None).await.unwrap());
        let unknown = store.add_task("fly", &ada.id).await.unwrap();
        let stop = working(&server);
        let failed = over(&server, unknown).await;
        assert_eq!(failed.state, TaskState::Failed);
        assert!(failed.error.unwrap().contains("fly"));
        assert_eq!(task(&server, cancelled).await.state, state);
        assert_eq!(content(&bob, &room, &said).await["body"], "it stays");
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn who_ends_their_account_has_left_all_rooms() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = bob.create_public().await;
        ada.join(&room).await;
        let auth = json!({ "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": ada.id } });
        let body = json!({ "auth": auth });
        ada.ok(Method::POST, "/account/deactivate", body).await;
        let path = format!("/rooms/{}/state/m.room.member/{}", esc(&room), esc(&ada.id));
        assert_eq!(bob.read(&path).await["membership"], "leave");
        // It was written down, for the case that the server stops, and is done.
        let all = server.store.tasks(i64::MAX, 10).await.unwrap();
        let all: Vec<_> = all
            .iter()
            .map(|task| (&*task.kind, &*task.what, task.state))
            .collect();
        assert_eq!(all, [(tasks::LEAVE, &*ada.id, TaskState::Done)]);
    })
    .await;
}
