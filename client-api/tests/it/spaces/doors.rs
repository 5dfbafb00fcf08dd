//! Which rooms of a space somebody is told of.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{hierarchy, look, open, put, restricted, rooms, shown, space};
use crate::harness::{User, esc, story};

async fn act(alice: &User, room: &str, action: &str, who: &User) {
    let path = format!("/rooms/{}/{action}", esc(room));
    alice
        .ok(Method::POST, &path, json!({ "user_id": who.id }))
        .await;
}

#[tokio::test]
async fn who_could_come_in_is_told_of_a_room() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let root = space(&alice, json!({})).await;
        let private = json!({ "preset": "private_chat" });
        let with = |state: Value| json!({ "preset": "private_chat", "initial_state": state });
        let knock = json!([{ "type": "m.room.join_rules", "state_key": "",
            "content": { "join_rule": "knock" } }]);
        let rules = |rule: &str| {
            json!([{ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": rule,
                "allow": [{ "type": "m.room_membership", "room_id": root }] } }])
        };
        let closed = alice.create(private.clone()).await;
        let invited = alice.create(private.clone()).await;
        let readable = alice.create(with(open())).await;
        let knockable = alice.create(with(knock)).await;
        let either = alice.create(with(rules("knock_restricted"))).await;
        let of_members = alice.create(with(restricted(&root))).await;
        let of_others = alice.create(with(restricted(&closed))).await;
        // In this version the rule means nothing.
        let mut old = with(restricted(&root));
        old["room_version"] = "7".into();
        let old = alice.create(old).await;
        let public = alice.create_public().await;
        let banned = alice.create_public().await;
        let all = [
            &closed,
            &invited,
            &readable,
            &knockable,
            &either,
            &of_members,
            &of_others,
            &old,
            &public,
            &banned,
        ];
        for room in all {
            put(&alice, &root, room, json!({})).await;
        }
        alice.invite(&invited, &bob).await;
        act(&alice, &banned, "ban", &bob).await;
        let outside = [&root, &invited, &readable, &knockable, &either, &public];
        let page = look(&bob, &root, "").await;
        assert_eq!(rooms(&page), outside.map(String::as_str));
        assert_eq!(shown(&page, &readable)["world_readable"], true);
        assert_eq!(shown(&page, &readable)["join_rule"], "invite");
        let either_shown = shown(&page, &either);
        assert_eq!(either_shown["allowed_room_ids"], json!([root]));
        assert_eq!(shown(&page, &public).get("allowed_room_ids"), None);

        bob.join(&root).await;
        let inside = [
            &root,
            &invited,
            &readable,
            &knockable,
            &either,
            &of_members,
            &public,
        ];
        assert_eq!(
            rooms(&look(&bob, &root, "").await),
            inside.map(String::as_str)
        );
        bob.join(&invited).await;
        bob.leave(&invited).await;
        bob.leave(&root).await;
        let outside = [&root, &readable, &knockable, &either, &public];
        assert_eq!(
            rooms(&look(&bob, &root, "").await),
            outside.map(String::as_str)
        );
        let whole = look(&alice, &root, "").await;
        assert_eq!(rooms(&whole).len(), all.len() + 1);
        assert_eq!(rooms(&whole)[1..], all.map(String::as_str));
    })
    .await;
}

/// What a space that somebody can't know of holds, isn't told by way of it.
#[tokio::test]
async fn nothing_is_told_through_a_closed_space() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let root = space(&alice, json!({})).await;
        let inner = space(&alice, json!({ "preset": "private_chat" })).await;
        let room = alice.create_public().await;
        put(&alice, &root, &inner, json!({})).await;
        put(&alice, &inner, &room, json!({})).await;
        assert_eq!(rooms(&look(&bob, &root, "").await), [&*root]);
        let page = look(&alice, &root, "limit=2").await;
        let from = format!("from={}", page["next_batch"].as_str().unwrap());
        // Whoever has a token of another's is judged all the same.
        let none: [&str; 0] = [];
        assert_eq!(rooms(&look(&bob, &root, &from).await), none);
        alice.invite(&inner, &bob).await;
        assert_eq!(rooms(&look(&bob, &root, "").await), [&root, &inner, &room]);
    })
    .await;
}

#[tokio::test]
async fn a_root_that_one_may_not_know_of_is_as_one_that_is_not_there() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let closed = space(&alice, json!({ "preset": "private_chat" })).await;
        let banned = space(&alice, json!({})).await;
        act(&alice, &banned, "ban", &bob).await;
        let mut errors = Vec::new();
        for space in [&closed, &banned, "!nothing:here"] {
            let (status, error) = hierarchy(&bob, space, "").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
            assert_eq!(error["errcode"], "M_FORBIDDEN");
            errors.push(error);
        }
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        assert_eq!(rooms(&look(&alice, &closed, "").await), [&*closed]);
        // Where everybody may read, who is banned may.
        let readable = space(&alice, json!({ "initial_state": open() })).await;
        act(&alice, &readable, "ban", &bob).await;
        assert_eq!(rooms(&look(&bob, &readable, "").await), [&*readable]);
    })
    .await;
}
