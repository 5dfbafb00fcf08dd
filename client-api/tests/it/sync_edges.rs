//! Ephemeral data, ignored users and odd tokens in /sync.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{esc, events, next, story, timeline};

#[tokio::test]
async fn a_token_of_another_epoch_counts_as_absent_and_garbage_is_refused() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let future = since.split('_').next().unwrap().to_owned() + "_99999999_0";
        for token in [future.as_str(), "sdeadbeef_1_0"] {
            let whole = alice.sync(Some(token), "").await;
            assert!(
                whole["rooms"]["join"][&room]["summary"].is_object(),
                "{token}"
            );
        }
        for garbage in ["x", "s1", "17", "s_1_2", "%00", "s1_2_3_4_5"] {
            let (status, error) = alice.get(&format!("/sync?since={garbage}")).await;
            assert_eq!(
                (status, &error["errcode"]),
                (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")),
                "{garbage}"
            );
        }
        server.store.renew_epoch().await.unwrap();
        let whole = alice.sync(Some(&since), "").await;
        assert!(whole["rooms"]["join"][&room]["summary"].is_object());
    })
    .await;
}

/// Who leaves a room and forgets it before the next `/sync` hears all the same with whom they share none any more.
#[tokio::test]
async fn who_leaves_and_forgets_is_told_who_is_out_of_sight() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&bob.sync(None, "").await);
        bob.leave(&room).await;
        let forget = format!("/rooms/{}/forget", esc(&room));
        bob.ok(Method::POST, &forget, json!({})).await;
        let told = bob.sync(Some(&since), "").await;
        assert_eq!(told["device_lists"]["left"], json!([alice.id]));
    })
    .await;
}

#[tokio::test]
async fn who_types_needn_t_say_for_how_long() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&alice.sync(None, "").await);
        let typing = format!("/rooms/{}/typing/{}", esc(&room), esc(&bob.id));
        bob.ok(Method::PUT, &typing, json!({"typing": true})).await;
        let told = alice.sync(Some(&since), "&timeout=60000").await;
        assert_eq!(
            told["rooms"]["join"][&room]["ephemeral"]["events"],
            json!([{"type": "m.typing", "content": {"user_ids": [bob.id]}}])
        );
    })
    .await;
}

#[tokio::test]
async fn who_types_is_told() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&alice.sync(None, "").await);
        let typing = format!("/rooms/{}/typing/{}", esc(&room), esc(&bob.id));
        bob.ok(
            Method::PUT,
            &typing,
            json!({"typing": true, "timeout": 30000}),
        )
        .await;
        let told = alice.sync(Some(&since), "&timeout=60000").await;
        assert_eq!(
            ephemeral(&told, &room),
            json!([{"type": "m.typing", "content": {"user_ids": [bob.id]}}])
        );
        assert_eq!(alice.sync(Some(&next(&told)), "").await.get("rooms"), None);
        bob.ok(Method::PUT, &typing, json!({"typing": false})).await;
        let stopped = alice.sync(Some(&next(&told)), "").await;
        for wrong in [
            json!({}),
            json!({"typing": 1}),
            json!({"typing": true, "timeout": "long"}),
            json!({"typing": true, "timeout": -1}),
        ] {
            let (status, error) = bob.call(Method::PUT, &typing, Some(wrong)).await;
            assert_eq!(
                (status.as_u16(), &error["errcode"]),
                (400, &json!("M_BAD_JSON"))
            );
        }
        assert_eq!(
            ephemeral(&stopped, &room),
            json!([{"type": "m.typing", "content": {"user_ids": []}}])
        );
        let (status, _) = alice
            .call(
                Method::PUT,
                &typing,
                Some(json!({"typing": true, "timeout": 1})),
            )
            .await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    })
    .await;
}

/// The ephemeral events of a room in an answer.
fn ephemeral(sync: &Value, room: &str) -> Value {
    sync["rooms"]["join"][room]["ephemeral"]["events"].clone()
}

#[tokio::test]
async fn receipts_are_told_and_private_receipts_to_their_owner() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let said = alice.say(&room, "read me").await;
        let (since, bobs) = (
            next(&alice.sync(None, "").await),
            next(&bob.sync(None, "").await),
        );
        let receipt = |kind: &str| format!("/rooms/{}/receipt/{kind}/{}", esc(&room), esc(&said));
        bob.ok(Method::POST, &receipt("m.read"), json!({})).await;
        bob.ok(Method::POST, &receipt("m.read.private"), json!({}))
            .await;
        bob.ok(Method::POST, &receipt("m.fully_read"), json!({}))
            .await;
        let told = ephemeral(&alice.sync(Some(&since), "").await, &room);
        assert!(
            told[0]["content"][&said]["m.read"][&bob.id]["ts"].is_i64(),
            "{told}"
        );
        assert!(told[0]["content"][&said].get("m.read.private").is_none());
        let own = bob.sync(Some(&bobs), "").await;
        let seen = ephemeral(&own, &room);
        let receipts = seen
            .as_array()
            .unwrap()
            .iter()
            .find(|event| event["type"] == "m.receipt")
            .unwrap();
        assert!(receipts["content"][&said]["m.read.private"][&bob.id].is_object());
        let marker = json!([{"type": "m.fully_read", "content": {"event_id": said}}]);
        assert_eq!(
            own["rooms"]["join"][&room]["account_data"]["events"],
            marker
        );
        // A receipt doesn't go back.
        let early = alice
            .read(&format!("/rooms/{}/messages?dir=f&limit=1", esc(&room)))
            .await;
        let early = early["chunk"][0]["event_id"].as_str().unwrap();
        for kind in ["m.read", "m.fully_read"] {
            let path = format!("/rooms/{}/receipt/{kind}/{}", esc(&room), esc(early));
            bob.ok(Method::POST, &path, json!({})).await;
        }
        assert!(bob.sync(Some(&next(&own)), "").await.get("rooms").is_none());
        // A new client is told where everybody has got to.
        let whole = alice.sync(None, "").await;
        assert!(ephemeral(&whole, &room)[0]["content"][&said]["m.read"][&bob.id].is_object());
        let (status, _) = bob
            .call(Method::POST, &receipt("m.unknown"), Some(json!({})))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test]
async fn ignored_users_are_not_heard() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&alice.sync(None, "").await);
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&alice.id));
        alice
            .ok(Method::PUT, &path, json!({"ignored_users": {&bob.id: {}}}))
            .await;
        bob.say(&room, "unheard").await;
        let told = alice.sync(Some(&since), "").await;
        assert_eq!(timeline(&told, &room), Vec::<String>::new());
        assert!(told["account_data"]["events"].is_array());
        alice
            .ok(Method::PUT, &path, json!({"ignored_users": {}}))
            .await;
        let heard = bob.say(&room, "heard").await;
        assert_eq!(
            timeline(&alice.sync(Some(&next(&told)), "").await, &room),
            [heard]
        );
    })
    .await;
}

#[tokio::test]
async fn replaced_and_redacted_events_say_so() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice
            .create(json!({"preset": "public_chat", "name": "One"}))
            .await;
        let since = next(&alice.sync(None, "").await);
        alice
            .set_state(&room, "m.room.name", "", json!({"name": "Two"}))
            .await;
        let told = alice.sync(Some(&since), "").await;
        let renamed = events(&told, &["rooms", "join", &room, "timeline", "events"])[0].clone();
        assert_eq!(renamed["unsigned"]["prev_content"], json!({"name": "One"}));
        assert_eq!(renamed["unsigned"]["membership"], "join");
        let said = alice.say(&room, "oops").await;
        let path = format!("/rooms/{}/redact/{}/r1", esc(&room), esc(&said));
        alice
            .ok(Method::PUT, &path, json!({"reason": "typo"}))
            .await;
        let event = alice
            .read(&format!("/rooms/{}/event/{}", esc(&room), esc(&said)))
            .await;
        assert_eq!(event["content"], json!({}));
        assert_eq!(
            event["unsigned"]["redacted_because"]["redacts"],
            said.as_str()
        );
        assert_eq!(
            event["unsigned"]["redacted_because"]["content"]["redacts"],
            said.as_str()
        );
        let told = alice.sync(Some(&next(&told)), "").await;
        let shown = events(&told, &["rooms", "join", &room, "timeline", "events"]);
        assert_eq!(shown[0]["content"], json!({}));
        assert_eq!(shown[1]["type"], "m.room.redaction");
    })
    .await;
}
