//! Who is told of what relates to an event: whoever may see it, and nobody else.

use http::Method;
use serde_json::json;

use super::{ask, bundle, edit, page, relate, relating, threads};
use crate::harness::{User, esc, story};

async fn room_with(alice: &User, visibility: &str) -> String {
    let hidden = json!([{"type": "m.room.history_visibility", "state_key": "",
        "content": {"history_visibility": visibility}}]);
    let request = json!({"preset": "public_chat", "initial_state": hidden});
    alice.create(request).await
}

/// Bob is there, away, and back: what was sent in between he sees as far as the history's visibility goes.
#[tokio::test]
async fn children_are_told_as_far_as_they_may_be_seen() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        for (visibility, all) in [("shared", true), ("joined", false)] {
            let room = room_with(&alice, visibility).await;
            bob.join(&room).await;
            let root = alice.say(&room, "root").await;
            let there = relate(&alice, &room, "m.thread", &root).await;
            let first = relate(&alice, &room, "m.reference", &root).await;
            bob.leave(&room).await;
            let away = relate(&alice, &room, "m.thread", &root).await;
            let second = relate(&alice, &room, "m.reference", &root).await;
            edit(&alice, &room, &root, "while he was away").await;

            // Gone, he sees what was there when he went.
            let (found, _) = page(&bob, &room, &root, "?dir=f").await;
            assert_eq!(found, [there.clone(), first.clone()], "{visibility}");
            let told = bundle(&bob, &room, &root).await;
            assert!(told["m.replace"].is_null(), "{told}");
            if all {
                assert_eq!(told["m.thread"]["count"], 1, "{told}");
                assert_eq!(told["m.thread"]["latest_event"]["event_id"], there.as_str());
                assert_eq!(told["m.reference"]["chunk"], json!([{ "event_id": first }]));
            }

            bob.join(&room).await;
            let (found, _) = page(&bob, &room, &root, "/m.thread?dir=f").await;
            let expected = if all { vec![there, away] } else { vec![there] };
            assert_eq!(found, expected, "{visibility}");
            let told = bundle(&bob, &room, &root).await;
            assert_eq!(told["m.replace"].is_object(), all, "{told}");
            let latest = relate(&alice, &room, "m.thread", &root).await;
            let told = bundle(&bob, &room, &root).await;
            let count = if all { 3 } else { 1 };
            assert_eq!(told["m.thread"]["count"], count, "{told}");
            assert_eq!(
                told["m.thread"]["latest_event"]["event_id"],
                latest.as_str()
            );
            let chunk = told["m.reference"]["chunk"].as_array();
            let ids: Vec<&str> = (chunk.into_iter().flatten())
                .map(|one| one["event_id"].as_str().unwrap())
                .collect();
            let both = [first.as_str(), second.as_str()];
            assert_eq!(ids, if all { &both[..] } else { &[] }, "{visibility}");
            assert_eq!(bundle(&alice, &room, &root).await["m.thread"]["count"], 3);
        }
    })
    .await;
}

#[tokio::test]
async fn who_was_never_there_sees_what_everybody_may() {
    story(|server| async move {
        let (alice, eve) = (server.register("alice").await, server.register("eve").await);
        let room = room_with(&alice, "shared").await;
        let early = alice.say(&room, "early").await;
        relate(&alice, &room, "m.thread", &early).await;
        let open = json!({"history_visibility": "world_readable"});
        alice
            .set_state(&room, "m.room.history_visibility", "", open)
            .await;
        let root = alice.say(&room, "root").await;
        let reply = relate(&alice, &room, "m.thread", &root).await;
        let late = relate(&alice, &room, "m.thread", &early).await;
        let told = bundle(&eve, &room, &root).await;
        assert_eq!(told["m.thread"]["count"], 1);
        assert_eq!(told["m.thread"]["latest_event"]["event_id"], reply.as_str());
        assert_eq!(told["m.thread"]["current_user_participated"], false);
        let (status, _) = ask(&eve, &room, &early, "").await;
        assert_eq!(status, 404, "the root itself is hidden");
        let list = threads(&eve, &room, "").await.0;
        assert_eq!(list, [(root, reply)]);
        let list = threads(&alice, &room, "").await.0;
        assert_eq!(list[0], (early, late));
    })
    .await;
}

/// A redaction that changes nothing is no part of a thread, though it says so.
#[tokio::test]
async fn what_changes_nothing_is_not_counted() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let root = alice.say(&room, "root").await;
        let reply = relate(&bob, &room, "m.thread", &root).await;
        let mut content = relating("m.thread", &root);
        content["redacts"] = json!("$nothing");
        let path = format!("/rooms/{}/send/m.room.redaction/t1", esc(&room));
        bob.call(Method::PUT, &path, Some(content)).await;
        let told = bundle(&alice, &room, &root).await;
        assert_eq!(told["m.thread"]["count"], 1, "{told}");
        assert_eq!(told["m.thread"]["latest_event"]["event_id"], reply.as_str());
        assert_eq!(page(&alice, &room, &root, "").await.0, [reply]);
    })
    .await;
}
