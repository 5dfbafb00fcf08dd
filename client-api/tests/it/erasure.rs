//! A user ends their account and wants what they said forgotten.

use http::Method;
use rhizome_rooms::access;
use rhizome_storage::Pos;
use ruma::server_name;
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, events, story},
    peer::room_of,
};

async fn ends(user: &User, erase: bool) {
    let auth = json!({
        "type": "m.login.password", "password": "a good password",
        "identifier": { "type": "m.id.user", "user": user.id },
    });
    let body = json!({ "auth": auth, "erase": erase });
    user.ok(Method::POST, "/account/deactivate", body).await;
}

/// What the reader finds that was said in the room, oldest first, an empty text for what has no content.
async fn said(reader: &User, room: &str, by: &User) -> Vec<String> {
    let path = format!("/rooms/{}/messages?dir=b&limit=100", esc(room));
    let page = reader.read(&path).await;
    let mut texts: Vec<String> = events(&page, &["chunk"])
        .into_iter()
        .filter(|event| event["type"] == "m.room.message" && event["sender"] == by.id.as_str())
        .map(|event| {
            event["content"]["body"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    texts.reverse();
    texts
}

async fn people(server: &Server) -> [User; 4] {
    [
        server.register("alice").await,
        server.register("bob").await,
        server.register("carol").await,
        server.register("dora").await,
    ]
}

#[tokio::test]
async fn who_comes_after_an_erasure_gets_no_content() {
    story(|server| async move {
        let [alice, bob, carol, dora] = people(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let first = alice.say(&room, "before carol").await;
        bob.say(&room, "mine").await;
        carol.join(&room).await;
        let data = json!({ "secret": 1 });
        let path = format!("/user/{}/account_data/org.example.mine", esc(&alice.id));
        alice.ok(Method::PUT, &path, data).await;
        alice.say(&room, "with carol").await;
        bob.leave(&room).await;
        ends(&alice, true).await;
        dora.join(&room).await;

        // Who was there, or came before, keeps what they could see.
        let all = ["before carol", "with carol"];
        assert_eq!(said(&carol, &room, &alice).await, all);
        assert_eq!(said(&bob, &room, &alice).await, all);
        // Who comes later finds that something was said, by every way of reading.
        assert_eq!(said(&dora, &room, &alice).await, ["", ""]);
        assert_eq!(said(&dora, &room, &bob).await, ["mine"]);
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&first));
        assert_eq!(dora.read(&path).await["content"], json!({}));
        let path = format!("/rooms/{}/context/{}", esc(&room), esc(&first));
        assert_eq!(dora.read(&path).await["event"]["content"], json!({}));
        let sync = dora.sync(None, "").await;
        let timeline = events(&sync, &["rooms", "join", &room, "timeline", "events"]);
        let of_alice = |event: &&&Value| {
            event["type"] == "m.room.message" && event["sender"] == alice.id.as_str()
        };
        let hers: Vec<_> = timeline.iter().filter(of_alice).collect();
        assert_eq!(hers.len(), 2);
        assert!(hers.iter().all(|event| event["content"] == json!({})));
        // The room keeps its state.
        let path = format!("/rooms/{}/state/m.room.join_rules", esc(&room));
        assert_eq!(dora.read(&path).await["join_rule"], Value::from("public"));
        // Servers that come later get as little, also of what members say of themselves.
        let store = &server.store;
        let head = store.room(&room_of(&room)).await.unwrap().unwrap();
        let live = store.live_after(head.room, Pos(0), store.log().head(), 100);
        let hers = live.await.unwrap();
        let there = server_name!("there");
        let shown = access::events_for_server(store, there, &hers)
            .await
            .unwrap();
        for (event, shown) in hers.iter().zip(shown) {
            let by_her = event.pdu.sender() == alice.id.as_str();
            let of_herself = event.pdu.state_key().is_none_or(|key| key == alice.id);
            assert_eq!(shown, !(by_her && of_herself), "{}", event.pdu.json());
        }
    })
    .await;
}

#[tokio::test]
async fn who_only_leaves_is_not_erased() {
    story(|server| async move {
        let [alice, bob, carol, _] = people(&server).await;
        let room = alice.create_public().await;
        carol.join(&room).await;
        alice.say(&room, "stays").await;
        ends(&alice, false).await;
        bob.join(&room).await;
        assert_eq!(said(&bob, &room, &alice).await, ["stays"]);
    })
    .await;
}
