//! Knocking, and rooms that let in the members of others, as clients see them.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{User, esc, events, next, story};

async fn knock(user: &User, room: &str, body: Value) -> (StatusCode, Value) {
    let path = format!("/knock/{}", esc(room));
    user.call(Method::POST, &path, Some(body)).await
}

async fn try_join(user: &User, room: &str) -> (StatusCode, Value) {
    let path = format!("/join/{}", esc(room));
    user.call(Method::POST, &path, Some(json!({}))).await
}

async fn rule(user: &User, room: &str, content: Value) {
    user.set_state(room, "m.room.join_rules", "", content).await;
}

#[tokio::test]
async fn a_knock_is_shown_and_answered() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice
            .create(json!({ "preset": "private_chat", "name": "Club", "room_version": "7" }))
            .await;
        let (status, refused) = knock(&bob, &room, json!({})).await;
        assert_eq!(
            (status.as_u16(), &refused["errcode"]),
            (403, &json!("M_FORBIDDEN"))
        );
        rule(&alice, &room, json!({ "join_rule": "knock" })).await;
        let start = next(&bob.sync(None, "").await);

        let (status, answer) = knock(&bob, &room, json!({ "reason": "please" })).await;
        assert_eq!((status.as_u16(), answer), (200, json!({ "room_id": room })));
        let told = bob.sync(Some(&start), "").await;
        let state = events(&told, &["rooms", "knock", &room, "knock_state", "events"]);
        assert!(state.iter().any(|event| event["content"]["name"] == "Club"));
        let own = state.last().unwrap();
        assert_eq!(own["content"]["membership"], "knock");
        assert_eq!(own["content"]["reason"], "please");
        assert_eq!(try_join(&bob, &room).await.0.as_u16(), 403);

        // Taken back, and made again.
        bob.leave(&room).await;
        let left = bob.sync(Some(&next(&told)), "").await;
        assert!(left["rooms"]["leave"].get(&room).is_some());
        knock(&bob, &room, json!({})).await;
        alice.invite(&room, &bob).await;
        let invited = bob.sync(Some(&next(&left)), "").await;
        assert!(invited["rooms"]["invite"].get(&room).is_some());
        assert!(invited["rooms"].get("knock").is_none());
        assert_eq!(knock(&bob, &room, json!({})).await.0.as_u16(), 403);
        bob.join(&room).await;
        assert_eq!(knock(&bob, &room, json!({})).await.0.as_u16(), 403);

        let (status, unknown) = knock(&bob, "!nowhere:elsewhere.test", json!({})).await;
        assert!(
            status.is_client_error() || status.is_server_error(),
            "{unknown}"
        );
        let (_, own) = bob.id.split_once(':').unwrap();
        let (status, _) = knock(&bob, &format!("#nowhere:{own}"), json!({})).await;
        assert_eq!(status.as_u16(), 404);
    })
    .await;
}

#[tokio::test]
async fn a_restricted_room_lets_members_of_another_in() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let club = alice.create_public().await;
        for version in ["8", "10", "12"] {
            let den = alice
                .create(json!({ "preset": "private_chat", "room_version": version }))
                .await;
            let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
            rule(
                &alice,
                &den,
                json!({ "join_rule": "restricted", "allow": allow }),
            )
            .await;
            let (status, refused) = try_join(&bob, &den).await;
            assert_eq!(
                (status.as_u16(), &refused["errcode"]),
                (403, &json!("M_FORBIDDEN"))
            );
            // Nor does it help to write the letter of introduction oneself.
            let member = format!("/rooms/{}/state/m.room.member/{}", esc(&den), esc(&bob.id));
            let forged = json!({
                "membership": "join", "join_authorised_via_users_server": alice.id,
            });
            let (status, _) = bob.call(Method::PUT, &member, Some(forged)).await;
            assert_eq!(status.as_u16(), 403);

            bob.join(&club).await;
            bob.join(&den).await;
            let own = alice.read(&member).await;
            assert_eq!(own["join_authorised_via_users_server"], json!(alice.id));
            // To stay needs no condition.
            bob.leave(&club).await;
            bob.say(&den, "still here").await;
            bob.leave(&den).await;
            assert_eq!(try_join(&bob, &den).await.0.as_u16(), 403);
        }
    })
    .await;
}
