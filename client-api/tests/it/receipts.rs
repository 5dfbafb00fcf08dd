//! Read receipts by the book: which thread they may name, and that they don't go back.

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{User, esc, next, story};

async fn answer(user: &User, room: &str, kind: &str, event: &str, thread: Value) -> (u16, Value) {
    let path = format!("/rooms/{}/receipt/{kind}/{}", esc(room), esc(event));
    let body = match thread {
        Value::Null => json!({}),
        thread => json!({ "thread_id": thread }),
    };
    let (status, answer) = user.call(Method::POST, &path, Some(body)).await;
    (status.as_u16(), answer["errcode"].clone())
}

#[tokio::test]
async fn a_receipt_names_the_thread_that_its_event_is_in() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let other = alice.create_public().await;
        let elsewhere = alice.say(&other, "elsewhere").await;
        let root = alice.say(&room, "root").await;
        let lonely = alice.say(&room, "lonely").await;
        let related = async |kind: &str, to: &str| {
            let content = json!({
                "msgtype": "m.text", "body": "x",
                "m.relates_to": { "rel_type": kind, "event_id": to },
            });
            alice.send(&room, "m.room.message", content).await
        };
        let reply = related("m.thread", &root).await;
        let edit = related("m.replace", &reply).await;
        let to_root = related("m.reference", &root).await;
        let stray = related("m.thread", &elsewhere).await;
        let mut deep = edit.clone();
        for _ in 0..3 {
            deep = related("m.reference", &deep).await;
        }

        let refused = (400, json!("M_INVALID_PARAM"));
        let fine = (200, Value::Null);
        for (event, thread, expected) in [
            // In no thread: `main`, or what begins a thread.
            (&root, json!("main"), &fine),
            (&lonely, json!("main"), &fine),
            (&to_root, json!("main"), &fine),
            (&root, json!(root), &fine),
            (&lonely, json!(root), &refused),
            (&to_root, json!(to_root), &fine),
            // Beside a thread, and shown with it.
            (&to_root, json!(root), &fine),
            // In a thread.
            (&reply, json!(root), &fine),
            (&edit, json!(root), &fine),
            (&reply, json!("main"), &refused),
            (&edit, json!("main"), &refused),
            (&reply, json!(reply), &refused),
            (&reply, json!(lonely), &refused),
            (&reply, json!("$nothing"), &refused),
            // Further away than anybody looks.
            (&deep, json!(root), &refused),
            (&deep, json!("main"), &fine),
            // Of another room, of none, or no thread at all.
            (&stray, json!(elsewhere), &refused),
            (&elsewhere, json!("main"), &refused),
            (&"$nothing".to_owned(), json!("main"), &refused),
            (&"$nothing".to_owned(), json!("$nothing"), &refused),
            (&root, json!(""), &refused),
            (&root, json!("x"), &refused),
        ] {
            for kind in ["m.read", "m.read.private"] {
                let told = answer(&alice, &room, kind, event, thread.clone()).await;
                assert_eq!(&told, expected, "{kind} {event} in {thread}");
            }
        }
        let told = answer(&alice, &room, "m.fully_read", &root, json!("main")).await;
        assert_eq!(told, refused);
    })
    .await;
}

/// Devices that are behind and ahead say at once what they have read.
#[tokio::test]
async fn marks_that_race_end_at_the_newest() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let mut said = Vec::new();
        for n in 0..8 {
            said.push(alice.say(&room, &n.to_string()).await);
        }
        for round in 1..8 {
            let path = format!("/rooms/{}/read_markers", esc(&room));
            let marks = [round, round - 1, 0, round, round - 1].map(|n| {
                let mark = json!({ "m.fully_read": said[n], "m.read": said[n] });
                let (alice, path) = (alice.clone(), path.clone());
                async move { alice.call(Method::POST, &path, Some(mark)).await.0 }
            });
            let answers = join_all(marks).await;
            assert!(answers.into_iter().all(|status| status == StatusCode::OK));
            let whole = alice.sync(None, "").await;
            let room = &whole["rooms"]["join"][&room];
            let marker = &room["account_data"]["events"][0]["content"]["event_id"];
            assert_eq!(marker, &json!(said[round]));
            let receipts = room["ephemeral"]["events"][0]["content"].as_object();
            let at: Vec<_> = receipts.unwrap().keys().collect();
            assert_eq!(at, [&said[round]]);
        }
        // Saying it again is no news.
        let since = next(&alice.sync(None, "").await);
        let told = answer(&alice, &room, "m.read", &said[7], Value::Null).await;
        assert_eq!(told.0, 200);
        let news = alice.sync(Some(&since), "").await;
        assert!(news.get("rooms").is_none(), "{news}");
    })
    .await;
}
