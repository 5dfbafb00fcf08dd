//! Profiles.

use http::Method;
use serde_json::{Value, json};

use crate::asking::{HOSTILE, each_server, encoded};

#[tokio::test]
async fn a_profile_is_set_and_told_to_rooms() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        bob.join(&room).await;
        let mine = format!("/profile/{}", ada.id);
        assert_eq!(bob.get(&mine).await.ok(), json!({}));
        bob.get(&format!("{mine}/displayname"))
            .await
            .fails(404, "M_NOT_FOUND");

        for name in HOSTILE {
            ada.put(
                &format!("{mine}/displayname"),
                json!({ "displayname": name }),
            )
            .await
            .ok();
            let path = format!("/_matrix/client/v3{mine}/displayname");
            let public = server.ask(Method::GET, &path, Value::Null).await.ok();
            assert_eq!(public, json!({ "displayname": name }));
            let member = bob.state(&room, "m.room.member", &ada.id).await.ok();
            assert_eq!(member["displayname"], name);
            assert_eq!(member["membership"], "join");
        }
        let avatar = json!({ "avatar_url": "mxc://here.test/a" });
        ada.put(&format!("{mine}/avatar_url"), avatar).await.ok();
        let member = bob.state(&room, "m.room.member", &ada.id).await.ok();
        assert_eq!(member["avatar_url"], "mxc://here.test/a");
        // New rooms know it from the start.
        let other = ada.create_room(json!({ "preset": "public_chat" })).await;
        let member = ada.state(&other, "m.room.member", &ada.id).await.ok();
        assert_eq!(member["avatar_url"], "mxc://here.test/a");

        ada.put(&format!("{mine}/displayname"), json!({ "displayname": "" }))
            .await
            .ok();
        let member = bob.state(&room, "m.room.member", &ada.id).await.ok();
        assert_eq!(member.get("displayname"), None);
        ada.delete(&format!("{mine}/avatar_url"), Value::Null)
            .await
            .ok();
        assert_eq!(bob.get(&mine).await.ok(), json!({}));

        ada.put(&format!("{mine}/m.tz"), json!({ "m.tz": "Europe/Zurich" }))
            .await
            .ok();
        ada.put(&format!("{mine}/org.x"), json!({ "org.x": [HOSTILE] }))
            .await
            .ok();
        let null = json!({ "org.null": null });
        ada.put(&format!("{mine}/org.null"), null.clone())
            .await
            .ok();
        let told = bob.get(&format!("{mine}/org.null")).await.ok();
        assert_eq!(told, null);
        ada.delete(&format!("{mine}/org.null"), Value::Null)
            .await
            .ok();
        let whole = bob.get(&mine).await.ok();
        assert_eq!(
            whole,
            json!({ "m.tz": "Europe/Zurich", "org.x": [HOSTILE] })
        );
    })
    .await;
}

#[tokio::test]
async fn what_a_profile_cannot_be() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let mine = format!("/profile/{}", ada.id);
        let name = json!({ "displayname": "x" });
        bob.put(&format!("{mine}/displayname"), name.clone())
            .await
            .fails(403, "M_FORBIDDEN");
        bob.delete(&format!("{mine}/displayname"), Value::Null)
            .await
            .fails(403, "M_FORBIDDEN");
        // Clients put there what is no address, too.
        let odd = json!({ "avatar_url": "x" });
        ada.put(&format!("{mine}/avatar_url"), odd.clone())
            .await
            .ok();
        let told = ada.get(&format!("{mine}/avatar_url")).await;
        assert_eq!(told.ok(), odd);
        let wrong = json!({ "displayname": 1 });
        ada.put(&format!("{mine}/displayname"), wrong)
            .await
            .fails(400, "M_BAD_JSON");
        let long = json!({ "displayname": "x".repeat(2000) });
        ada.put(&format!("{mine}/displayname"), long)
            .await
            .fails(400, "M_INVALID_PARAM");
        let key = "k".repeat(300);
        let body = json!({ key.clone(): 1 });
        ada.put(&format!("{mine}/{key}"), body)
            .await
            .fails(400, "M_KEY_TOO_LARGE");
        let huge = json!({ "org.x": "x".repeat(70_000) });
        ada.put(&format!("{mine}/org.x"), huge)
            .await
            .fails(400, "M_PROFILE_TOO_LARGE");
        ada.get("/profile/@nobody:here.test")
            .await
            .fails(404, "M_NOT_FOUND");
        let odd = format!("/profile/{}", encoded("@a\u{0}:here.test"));
        let answer = ada.get(&odd).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
    })
    .await;
}
