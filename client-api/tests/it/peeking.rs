//! What was so when the reader wasn't there isn't told by asking for it another way.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{User, esc, events, ids, next, story};

/// A room with history for who is there; gives its id.
async fn closed_room(user: &User) -> String {
    let hidden = json!([{"type": "m.room.history_visibility", "state_key": "",
        "content": {"history_visibility": "joined"}}]);
    user.create(json!({"preset": "public_chat", "initial_state": hidden}))
        .await
}

fn memberships(answer: &Value) -> Vec<(&str, &str)> {
    let members = events(answer, &["chunk"]).into_iter();
    members
        .map(|event| {
            let who = event["state_key"].as_str().unwrap();
            (who, event["content"]["membership"].as_str().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn who_was_there_before_the_reader_is_not_told() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (carol, eve) = (server.register("carol").await, server.register("eve").await);
        let room = closed_room(&alice).await;
        carol.join(&room).await;
        let with_carol = next(&alice.sync(None, "").await);
        carol.leave(&room).await;
        bob.join(&room).await;
        let path = format!("/rooms/{}/members?at={with_carol}", esc(&room));
        let then = alice.read(&path).await;
        assert!(memberships(&then).contains(&(&carol.id, "join")));
        let found = bob.read(&path).await;
        let found = memberships(&found);
        assert!(found.contains(&(&carol.id, "leave")) && found.contains(&(&bob.id, "join")));

        // Opening the room opens no past.
        let open = json!({"history_visibility": "world_readable"});
        alice
            .set_state(&room, "m.room.history_visibility", "", open)
            .await;
        let (status, error) = eve.get(&path).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
        eve.read(&format!("/rooms/{}/members", esc(&room))).await;
    })
    .await;
}

#[tokio::test]
async fn the_state_around_what_happened_to_an_absent_reader_is_not_told() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = closed_room(&alice).await;
        let act = async |action: &str| {
            let path = format!("/rooms/{}/{action}", esc(&room));
            alice
                .ok(Method::POST, &path, json!({"user_id": bob.id}))
                .await
        };
        let topic = |topic: &str| {
            let content = json!({ "topic": topic });
            alice.set_state(&room, "m.room.topic", "", content)
        };
        let around = async |event: &str, limit: u8| {
            let path = format!("/rooms/{}/context/{}?limit={limit}", esc(&room), esc(event));
            bob.read(&path).await
        };
        let member = async || {
            let path = format!(
                "/rooms/{}/state/m.room.member/{}?format=event",
                esc(&room),
                esc(&bob.id)
            );
            alice.read(&path).await["event_id"]
                .as_str()
                .unwrap()
                .to_owned()
        };

        // Before bob has come: of his invite.
        let early = topic("before bob").await;
        act("invite").await;
        let invite = member().await;
        let first = topic("for bob").await;
        bob.join(&room).await;
        let told = around(&invite, 0).await;
        assert_eq!(told["event"]["event_id"], invite);
        assert!(!ids(&events(&told, &["state"])).contains(&early), "{told}");
        let told = around(&invite, 20).await;
        assert!(ids(&events(&told, &["state"])).contains(&first), "{told}");

        // After he has left: of his ban.
        bob.leave(&room).await;
        let late = topic("after bob").await;
        act("ban").await;
        let ban = member().await;
        for limit in [0, 20] {
            let told = around(&ban, limit).await;
            let state = ids(&events(&told, &["state"]));
            assert!(state.contains(&first) && !state.contains(&late), "{told}");
        }
    })
    .await;
}
