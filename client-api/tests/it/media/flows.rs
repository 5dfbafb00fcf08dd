//! Files where they are used: as a user's picture, a room's, and in messages.

use serde_json::{Value, json};

use super::world::{PNG, World, download, each, told};
use crate::asking::{User, text};
use crate::harness::esc;

/// The file at an address, as a client gets it.
async fn follow(world: &World, user: &User, uri: &Value) {
    let uri = text(uri);
    let id = uri.rsplit('/').next().unwrap();
    assert_eq!(uri, format!("mxc://here.test/{id}"));
    let answer = world.get(user, &download(id)).await;
    assert_eq!(answer.bytes, PNG);
    assert_eq!(told(&answer.headers, "content-type"), "image/png");
    let thumbnail =
        format!("/_matrix/client/v1/media/thumbnail/here.test/{id}?width=96&height=96&method=crop");
    assert_eq!(world.get(user, &thumbnail).await.status, 200);
}

#[tokio::test]
async fn pictures_of_users_rooms_and_messages() {
    each(async |world| {
        let ada = world.register("ada").await;
        let bob = world.register("bob").await;
        let id = world.upload(&ada, "image/png", "me.png", PNG).await;
        let uri = format!("mxc://here.test/{id}");

        let avatar = format!("/profile/{}/avatar_url", ada.id);
        ada.put(&avatar, json!({ "avatar_url": uri })).await.ok();
        follow(&world, &bob, &bob.get(&avatar).await.ok()["avatar_url"]).await;

        let room = json!({
            "preset": "public_chat",
            "visibility": "public",
            "initial_state": [{ "type": "m.room.avatar", "content": { "url": uri } }],
        });
        let room = ada.create_room(room).await;
        let listed = bob.get("/publicRooms").await.ok();
        follow(&world, &bob, &listed["chunk"][0]["avatar_url"]).await;

        bob.join(&room).await;
        let members = format!("/rooms/{}/joined_members", esc(&room));
        let members = bob.get(&members).await.ok();
        follow(&world, &bob, &members["joined"][&ada.id]["avatar_url"]).await;

        let message = json!({ "msgtype": "m.image", "body": "me.png", "url": uri });
        let path = format!("/rooms/{}/send/m.room.message/1", esc(&room));
        ada.put(&path, message).await.ok();
        let filter = esc(r#"{"contains_url":true}"#);
        let path = format!("/rooms/{}/messages?dir=b&filter={filter}", esc(&room));
        let found = bob.get(&path).await.ok();
        // The message, and before it the room's picture.
        assert_eq!(found["chunk"].as_array().map(Vec::len), Some(2));
        follow(&world, &bob, &found["chunk"][0]["content"]["url"]).await;
        // Who filters is told where to go on as long as there is something.
        let end = esc(found["end"].as_str().unwrap());
        let last = bob.get(&format!("{path}&from={end}")).await.ok();
        assert_eq!((&last["chunk"], &last["end"]), (&json!([]), &Value::Null));
    })
    .await;
}

#[tokio::test]
async fn clients_are_told_that_files_are_for_users() {
    each(async |world| {
        let versions = world.anybody("/_matrix/client/versions").await.ok();
        for feature in ["org.matrix.msc3916.stable", "fi.mau.msc2246.stable"] {
            assert_eq!(versions["unstable_features"][feature], true, "{feature}");
        }
    })
    .await;
}
