//! What is so in rooms unless people say otherwise, as the operator wants it.

use rhizome_client_api::{ClientConfig, ForgetLeft, config::EncryptionByDefault};
use rhizome_storage::{LogWork as _, Pos, Stretch};
use serde_json::{Value, json};

use crate::asking::{Server, config, each_server, each_server_with, encoded};

fn encrypting(which: EncryptionByDefault) -> impl Fn() -> ClientConfig {
    move || ClientConfig {
        encryption_by_default: which,
        ..config()
    }
}

#[tokio::test]
async fn new_rooms_are_encrypted_as_the_operator_wants() {
    use EncryptionByDefault::{All, Invite, Off};
    for (which, private, public) in [
        (Off, false, false),
        (Invite, true, false),
        (All, true, true),
    ] {
        each_server_with(encrypting(which), async |server| {
            let ada = server.register("ada").await;
            for (body, encrypted) in [
                (json!({}), private),
                (json!({ "preset": "trusted_private_chat" }), private),
                (json!({ "visibility": "public" }), public),
                (json!({ "preset": "public_chat" }), public),
            ] {
                let room = ada.create_room(body.clone()).await;
                let found = ada.state(&room, "m.room.encryption", "").await;
                assert_eq!(found.status.is_success(), encrypted, "{which:?} {body}");
            }
            let own = json!({ "type": "m.room.encryption", "content": { "algorithm": "org.x" } });
            let room = ada.create_room(json!({ "initial_state": [own] })).await;
            let found = ada.state(&room, "m.room.encryption", "").await.ok();
            assert_eq!(found["algorithm"], "org.x");
        })
        .await;
    }
}

#[tokio::test]
async fn a_new_room_is_named_by_its_own_aliases_only_and_shows_whom_it_invites() {
    each_server(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let name = format!("/profile/{}/displayname", encoded(&bob.id));
        bob.put(&name, json!({ "displayname": "Bob" })).await.ok();
        let other = ada.create_room(json!({ "room_alias_name": "taken" })).await;
        let named = |alias: &str| {
            let content = json!({ "alias": alias });
            json!({ "room_alias_name": "den", "invite": [bob.id],
                "initial_state": [{ "type": "m.room.canonical_alias", "content": content }] })
        };
        for alias in ["#taken:here.test", "#none:here.test"] {
            let made = ada.post("/createRoom", named(alias)).await;
            made.fails(400, "M_BAD_ALIAS");
        }
        let room = ada.create_room(named("#den:here.test")).await;
        assert_ne!(room, other);
        let invite = ada.state(&room, "m.room.member", &bob.id).await.ok();
        assert_eq!(invite["displayname"], "Bob");
    })
    .await;
}

async fn forgotten(server: &Server) {
    let store = &server.app.store;
    let upto = store.log().head();
    let stretch = Stretch {
        entries: store.log().read(Pos(0), upto, 10_000).await.unwrap(),
        after: Pos(0),
        upto,
        failures: 0,
    };
    let name = server.app.config.server_name.clone();
    ForgetLeft::new(store, name).work(&stretch).await.unwrap();
}

#[tokio::test]
async fn rooms_are_forgotten_as_they_are_left() {
    let forgetting = || ClientConfig {
        forget_on_leave: true,
        ..config()
    };
    each_server_with(forgetting, async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let can = ada.get("/capabilities").await.ok();
        let can = &can["capabilities"]["m.forget_forced_upon_leave"]["enabled"];
        assert_eq!(*can, true);
        let mut rooms = Vec::new();
        for _ in 0..3 {
            let room = ada.create_room(json!({ "preset": "public_chat" })).await;
            bob.join(&room).await;
            rooms.push(room);
        }
        let path = |room: &str, what: &str| format!("/rooms/{}/{what}", encoded(room));
        let of_bob = || json!({ "user_id": bob.id });
        bob.post(&path(&rooms[0], "leave"), json!({})).await.ok();
        ada.post(&path(&rooms[1], "kick"), of_bob()).await.ok();
        ada.post(&path(&rooms[2], "ban"), of_bob()).await.ok();
        for room in &rooms {
            bob.get(&path(room, "messages?dir=b")).await.ok();
        }
        bob.join(&rooms[0]).await;
        forgotten(&server).await;
        // Who has come back is there, the others find nothing.
        bob.get(&path(&rooms[0], "messages?dir=b")).await.ok();
        for room in &rooms[1..] {
            bob.get(&path(room, "messages?dir=b"))
                .await
                .fails(403, "M_FORBIDDEN");
            bob.get(&path(room, "state"))
                .await
                .fails(403, "M_FORBIDDEN");
        }
        let all = "/sync?filter=%7B%22room%22%3A%7B%22include_leave%22%3Atrue%7D%7D";
        let sync = bob.get(all).await.ok();
        assert_eq!(
            sync["rooms"]
                .get("leave")
                .unwrap_or(&Value::Null)
                .as_object()
                .map_or(0, serde_json::Map::len),
            0
        );
        ada.get(&path(&rooms[1], "messages?dir=b")).await.ok();
    })
    .await;
    each_server(async |server| {
        let can = server.register("ada").await.get("/capabilities").await.ok();
        let can = &can["capabilities"]["m.forget_forced_upon_leave"]["enabled"];
        assert_eq!(*can, false);
    })
    .await;
}
