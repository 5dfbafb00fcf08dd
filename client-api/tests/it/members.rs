//! People come and go.

use serde_json::{Value, json};

use crate::asking::{User, each_server, encoded, text};

pub async fn membership(reader: &User, room: &str, user: &str) -> String {
    text(&reader.state(room, "m.room.member", user).await.ok()["membership"])
}

#[tokio::test]
async fn people_come_and_go() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let eve = server.register("eve").await;
        let room = ada.create_room(json!({ "preset": "private_chat" })).await;
        let path = |what: &str| format!("/rooms/{}/{what}", encoded(&room));
        let who = |user: &User| json!({ "user_id": user.id, "reason": "because \u{0}" });

        bob.post(&path("join"), json!({}))
            .await
            .fails(403, "M_FORBIDDEN");
        bob.post(&path("invite"), who(&eve))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.post(&path("invite"), who(&bob)).await.ok();
        let invite = ada.state(&room, "m.room.member", &bob.id).await.ok();
        assert_eq!(invite["reason"], "because \u{0}");
        bob.post(&path("join"), Value::Null).await.ok();
        assert_eq!(
            bob.get("/joined_rooms").await.ok()["joined_rooms"],
            json!([room])
        );
        ada.post(&path("invite"), who(&bob))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.post(&path("invite"), json!({ "user_id": 1 }))
            .await
            .fails(400, "M_BAD_JSON");
        ada.post(
            &path("invite"),
            json!({ "medium": "email", "address": "a@b",
            "id_server": "x", "id_access_token": "y" }),
        )
        .await
        .fails(400, "M_INVALID_PARAM");

        bob.post(&path("kick"), who(&ada))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.post(&path("kick"), who(&eve))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.post(&path("kick"), who(&bob)).await.ok();
        assert_eq!(membership(&ada, &room, &bob.id).await, "leave");
        bob.post(&path("forget"), json!({})).await.ok();

        ada.post(&path("unban"), who(&bob))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.post(&path("ban"), who(&eve)).await.ok();
        assert_eq!(membership(&ada, &room, &eve.id).await, "ban");
        ada.post(&path("invite"), who(&eve))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.post(&path("unban"), who(&eve)).await.ok();
        assert_eq!(membership(&ada, &room, &eve.id).await, "leave");

        ada.post(&path("invite"), who(&eve)).await.ok();
        eve.post(&path("leave"), json!({})).await.ok();
        assert_eq!(membership(&ada, &room, &eve.id).await, "leave");
        let forget = ada.post(&path("forget"), json!({})).await;
        assert!(forget.status.is_client_error(), "{forget:?}");
        ada.post(&path("leave"), json!({ "reason": "done" }))
            .await
            .ok();
        ada.post(&path("leave"), json!({})).await.ok();
        ada.post(&path("forget"), json!({})).await.ok();
        let nowhere = format!("/rooms/{}/leave", encoded("!nowhere:here.test"));
        assert!(ada.post(&nowhere, json!({})).await.status.is_client_error());
    })
    .await;
}

#[tokio::test]
async fn an_invite_outlives_the_room_and_can_be_rejected() {
    each_server(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_room(json!({ "invite": [bob.id] })).await;
        let since = text(&bob.get("/sync").await.ok()["next_batch"]);
        let leave = format!("/rooms/{}/leave", encoded(&room));
        ada.post(&leave, json!({})).await.ok();
        bob.post(&leave, json!({})).await.ok();
        let news = bob.get(&format!("/sync?since={since}")).await.ok();
        let events = news["rooms"]["leave"][&room]["timeline"]["events"].as_array();
        let own = events.unwrap().last().unwrap();
        assert_eq!(own["content"]["membership"], "leave");
        assert_eq!(own["state_key"], bob.id);
    })
    .await;
}
