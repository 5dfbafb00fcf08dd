//! An administrator acts as a user, who sees nothing of it.

use std::time::Duration;

use http::Method;
use rhizome_storage::PresenceState;
use ruma::UserId;
use serde_json::{Value, json};

use super::{administrator, of_user, post, put};
use crate::asking::{START_MS, Server, User, each_server, encoded, text};
use crate::e2ee::signer::Signer;

/// The administrator as the user.
async fn acting(boss: &User, user: &User, body: Value) -> User {
    let path = of_user("v1", &user.id, "/login");
    let answer = post(boss, &path, body).await.ok();
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    User {
        token: text(&answer["access_token"]),
        device: String::new(),
        ..user.clone()
    }
}

async fn lost(user: &User) {
    user.get("/account/whoami")
        .await
        .fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn who_acts_as_a_user_is_seen_by_nobody() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let before = ada.get("/devices").await.ok();
        let as_ada = acting(&boss, &ada, Value::Null).await;
        let whoami = as_ada.get("/account/whoami").await.ok();
        assert_eq!(whoami, json!({ "user_id": ada.id }));
        let room = as_ada.create_room(json!({})).await;
        as_ada.say(&room, "hello").await;
        let sync = as_ada.get("/sync").await.ok();
        assert!(sync["rooms"]["join"].get(&room).is_some());
        let joined = ada.get("/joined_rooms").await.ok();
        assert_eq!(joined["joined_rooms"], json!([room]));
        assert_eq!(ada.get("/devices").await.ok(), before);
        let no = UserId::parse(ada.id.as_str()).unwrap();
        let no = server.app.store.user_no(&no).await.unwrap();
        let presence = server.app.store.presence().of(no);
        assert!(presence.is_none_or(|status| status.state == PresenceState::Offline));
        // What is proved by a password, or is a device's, isn't the administrator's.
        as_ada
            .post("/keys/upload", json!({}))
            .await
            .fails(400, "M_MISSING_PARAM");
        let master = Signer::cross_signing(&ada.id, 1).as_key("master");
        let keys = json!({ "master_key": master });
        as_ada
            .post("/keys/device_signing/upload", keys)
            .await
            .fails(403, "M_FORBIDDEN");
        let path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
        let dry = json!({ "device_id": "dry", "device_data": {}, "device_keys": {} });
        let token = Some(as_ada.token.as_str());
        let refused = server.text(Method::PUT, path, token, dry.to_string()).await;
        refused.fails(403, "M_FORBIDDEN");
        // It would tell of the user's messages when the token has ended.
        let pusher = json!({
            "app_id": "app", "pushkey": "key", "kind": "http", "app_display_name": "App",
            "device_display_name": "Phone", "lang": "en",
            "data": { "url": "https://push.example.org/_matrix/push/v1/notify" },
        });
        as_ada
            .post("/pushers/set", pusher.clone())
            .await
            .fails(403, "M_FORBIDDEN");
        ada.post("/pushers/set", pusher).await.ok();
        let change = json!({ "new_password": "x" });
        let asked = as_ada.post("/account/password", change).await;
        assert_eq!(asked.status, 401, "{}", asked.body);
        assert!(asked.body.get("flows").is_some());
    })
    .await;
}

#[tokio::test]
async fn it_ends_when_it_is_over_or_logged_out() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let until = json!({ "valid_until_ms": START_MS + 60_000 });
        let short = acting(&boss, &ada, until).await;
        let (one, two) = (
            acting(&boss, &ada, json!({})).await,
            acting(&boss, &ada, json!({})).await,
        );
        short.get("/account/whoami").await.ok();
        server.advance(Duration::from_secs(59));
        short.get("/account/whoami").await.ok();
        server.advance(Duration::from_secs(1));
        lost(&short).await;
        one.post("/logout", json!({})).await.ok();
        lost(&one).await;
        two.get("/account/whoami").await.ok();
        ada.get("/account/whoami").await.ok();
        // The user's own sessions are another matter.
        ada.post("/logout/all", json!({})).await.ok();
        two.get("/account/whoami").await.ok();
        boss.post("/logout/all", json!({})).await.ok();
        lost(&two).await;
    })
    .await;
}

#[tokio::test]
async fn it_ends_with_the_rights_of_who_asked_for_it() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let other = administrator(&server, "other").await;
        let ada = server.register("ada").await;
        let as_ada = acting(&other, &ada, json!({})).await;
        as_ada.get("/account/whoami").await.ok();
        let admin = of_user("v1", &other.id, "/admin");
        put(&boss, &admin, json!({ "admin": false })).await.ok();
        lost(&as_ada).await;
        put(&boss, &admin, json!({ "admin": true })).await.ok();
        lost(&as_ada).await;
        // Or when the user becomes an administrator.
        let as_ada = acting(&boss, &ada, json!({})).await;
        as_ada.get("/account/whoami").await.ok();
        let admin = of_user("v1", &ada.id, "/admin");
        put(&boss, &admin, json!({ "admin": true })).await.ok();
        lost(&as_ada).await;
    })
    .await;
}

#[tokio::test]
async fn nobody_acts_as_an_administrator_or_as_who_is_gone() {
    each_server(async |server: Server| {
        let boss = administrator(&server, "boss").await;
        let other = administrator(&server, "other").await;
        let ada = server.register("ada").await;
        let path = |id: &str| of_user("v1", id, "/login");
        post(&boss, &path(&boss.id), json!({}))
            .await
            .fails(400, "M_INVALID_PARAM");
        post(&boss, &path(&other.id), json!({}))
            .await
            .fails(403, "M_FORBIDDEN");
        post(&boss, &path("@nobody:here.test"), json!({}))
            .await
            .fails(404, "M_NOT_FOUND");
        let over = json!({ "valid_until_ms": START_MS - 1 });
        post(&boss, &path(&ada.id), over)
            .await
            .fails(400, "M_INVALID_PARAM");
        let odd = json!({ "valid_until_ms": "soon" });
        post(&boss, &path(&ada.id), odd)
            .await
            .fails(400, "M_BAD_JSON");
        // Who acts as a user has that user's rights, and no others.
        let as_ada = acting(&boss, &ada, json!({})).await;
        let users = "/_synapse/admin/v2/users";
        let refused = server
            .text(Method::GET, users, Some(&as_ada.token), "")
            .await;
        refused.fails(403, "M_FORBIDDEN");
        let end = format!("/v1/deactivate/{}", encoded(&ada.id));
        post(&boss, &end, json!({})).await.ok();
        lost(&as_ada).await;
        post(&boss, &path(&ada.id), json!({}))
            .await
            .fails(404, "M_NOT_FOUND");
    })
    .await;
}
