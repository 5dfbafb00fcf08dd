//! Users are made and changed, their devices too, and their accounts end.

use http::StatusCode;
use serde_json::{Value, json};

use super::{administrator, delete, get, of_user, post, put};
use crate::asking::{User, each_server, encoded, text};

async fn login(boss: &User, name: &str, password: &str) -> StatusCode {
    let body = json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": name },
    });
    let server = &boss.server;
    let path = "/_matrix/client/v3/login";
    server.ask(http::Method::POST, path, body).await.status
}

#[tokio::test]
async fn a_user_is_made_and_changed() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let path = of_user("v2", "@ada:here.test", "");
        let address = json!([{ "medium": "email", "address": "Ada@Example.org" }]);
        let new = json!({
            "password": "first", "displayname": "Ada", "avatar_url": "mxc://here.test/a",
            "threepids": address, "admin": false, "user_type": null, "external_ids": [],
        });
        let made = put(&boss, &path, new).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let user = made.body;
        assert_eq!(user["displayname"], "Ada");
        assert_eq!(user["avatar_url"], "mxc://here.test/a");
        assert_eq!(user["threepids"][0]["address"], "ada@example.org");
        assert_eq!(login(&boss, "ada", "first").await, 200);

        let owner = "/v1/threepid/email/users/";
        let found = get(&boss, &format!("{owner}ADA%40example.org")).await.ok();
        assert_eq!(found["user_id"], "@ada:here.test");
        get(&boss, &format!("{owner}bob%40example.org"))
            .await
            .fails(404, "M_NOT_FOUND");
        get(&boss, "/v1/threepid/fax/users/1")
            .await
            .fails(400, "M_INVALID_PARAM");

        // What isn't said stays; what is empty goes.
        let changed = put(&boss, &path, json!({ "displayname": "", "admin": true })).await;
        let user = changed.ok();
        assert_eq!(
            (&user["displayname"], &user["admin"]),
            (&Value::Null, &json!(true))
        );
        assert_eq!(user["avatar_url"], "mxc://here.test/a");
        let user = put(&boss, &path, json!({ "threepids": [], "admin": false }))
            .await
            .ok();
        assert_eq!(user["threepids"], json!([]));
        get(&boss, &format!("{owner}ada%40example.org"))
            .await
            .fails(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_changed() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let path = of_user("v2", &ada.id, "");
        for wrong in [
            json!({ "displayname": "X", "avatar_url": "https://x" }),
            json!({ "displayname": "X", "user_type": "bot" }),
            json!({ "displayname": "X", "external_ids": [{ "auth_provider": "a", "external_id": "b" }] }),
            json!({ "displayname": "X", "deactivated": true, "locked": true }),
            json!({ "displayname": "X", "admin": true, "locked": true }),
            json!({ "displayname": "X", "threepids": [{ "medium": "email", "address": "no" }] }),
            json!({ "displayname": "X", "approved": false }),
        ] {
            put(&boss, &path, wrong).await.fails(400, "M_INVALID_PARAM");
        }
        for wrong in [
            json!({ "displayname": "X", "admin": "yes" }),
            json!({ "displayname": 5 }),
            json!([]),
        ] {
            put(&boss, &path, wrong).await.fails(400, "M_BAD_JSON");
        }
        assert_eq!(get(&boss, &path).await.ok()["displayname"], Value::Null);

        // Somebody else's address.
        let address = json!({ "threepids": [{ "medium": "msisdn", "address": "447700900000" }] });
        put(&boss, &of_user("v2", &bob.id, ""), address.clone()).await.ok();
        put(&boss, &path, address).await.fails(400, "M_THREEPID_IN_USE");
        // Names that can't be.
        for name in ["@Capital:here.test", "@a b:here.test", "@:here.test"] {
            let path = of_user("v2", name, "");
            let answer = put(&boss, &path, json!({ "password": "x" })).await;
            assert_eq!(answer.status, 400, "{name}: {}", answer.body);
        }
        // No account is made of half of it.
        let new = of_user("v2", "@new:here.test", "");
        for wrong in [
            json!({ "displayname": "x".repeat(2_000) }),
            json!({ "avatar_url": format!("mxc://here.test/{}", "x".repeat(2_000)) }),
        ] {
            put(&boss, &new, wrong).await.fails(400, "M_INVALID_PARAM");
            get(&boss, &new).await.fails(404, "M_NOT_FOUND");
        }
        // Oneself, and other administrators.
        let own = of_user("v2", &boss.id, "");
        put(&boss, &own, json!({ "admin": false })).await.fails(400, "M_INVALID_PARAM");
        put(&boss, &own, json!({ "deactivated": true })).await.fails(400, "M_INVALID_PARAM");
        let end = format!("/v1/deactivate/{}", encoded(&boss.id));
        post(&boss, &end, json!({})).await.fails(400, "M_INVALID_PARAM");
        let other = administrator(&server, "other").await;
        let path = of_user("v2", &other.id, "");
        put(&boss, &path, json!({ "locked": true })).await.fails(403, "M_FORBIDDEN");
        let suspend = format!("/v1/suspend/{}", encoded(&other.id));
        put(&boss, &suspend, json!({ "suspend": true }))
            .await
            .fails(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn passwords_are_set_and_sessions_end_or_not() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let reset = format!("/v1/reset_password/{}", encoded(&ada.id));
        let kept = json!({ "new_password": "second", "logout_devices": false });
        post(&boss, &reset, kept).await.ok();
        ada.get("/account/whoami").await.ok();
        assert_eq!(login(&boss, "ada", "secret").await, 403);
        post(&boss, &reset, json!({ "new_password": "third" }))
            .await
            .ok();
        ada.get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        assert_eq!(login(&boss, "ada", "third").await, 200);
        post(&boss, &reset, json!({}))
            .await
            .fails(400, "M_BAD_JSON");
        post(&boss, &reset, json!({ "new_password": "" }))
            .await
            .fails(400, "M_WEAK_PASSWORD");
        let path = of_user("v2", &ada.id, "");
        put(&boss, &path, json!({ "password": "fourth" }))
            .await
            .ok();
        assert_eq!(login(&boss, "ada", "fourth").await, 200);
        let nobody = "/v1/reset_password/%40nobody%3Ahere.test";
        post(&boss, nobody, json!({ "new_password": "x" }))
            .await
            .fails(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn administrators_are_made_and_others_suspended_or_shadow_banned() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let admin = of_user("v1", &ada.id, "/admin");
        assert_eq!(get(&boss, &admin).await.ok(), json!({ "admin": false }));
        put(&boss, &admin, json!({ "admin": true })).await.ok();
        assert_eq!(get(&ada, &admin).await.ok(), json!({ "admin": true }));
        put(&ada, &admin, json!({ "admin": false }))
            .await
            .fails(400, "M_INVALID_PARAM");
        put(&boss, &admin, json!({ "admin": false })).await.ok();
        get(&ada, &admin).await.fails(403, "M_FORBIDDEN");

        let suspend = format!("/v1/suspend/{}", encoded(&ada.id));
        let told = put(&boss, &suspend, json!({ "suspend": true })).await.ok();
        assert_eq!(told, json!({ format!("user_{}_suspended", ada.id): true }));
        ada.post("/createRoom", json!({}))
            .await
            .fails(403, "M_USER_SUSPENDED");
        put(&boss, &suspend, json!({ "suspend": false })).await.ok();
        ada.post("/createRoom", json!({})).await.ok();

        let shadow = of_user("v1", &ada.id, "/shadow_ban");
        post(&boss, &shadow, Value::Null).await.ok();
        let path = of_user("v2", &ada.id, "");
        assert_eq!(get(&boss, &path).await.ok()["shadow_banned"], true);
        for _ in 0..2 {
            delete(&boss, &shadow, Value::Null).await.ok();
            assert_eq!(get(&boss, &path).await.ok()["shadow_banned"], false);
        }
    })
    .await;
}

#[tokio::test]
async fn devices_are_looked_at_named_and_logged_out() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (second, third) = (server.login("ada").await, server.login("ada").await);
        let all = of_user("v2", &ada.id, "/devices");
        let devices = get(&boss, &all).await.ok();
        assert_eq!(devices["total"], 3);
        for device in devices["devices"].as_array().unwrap() {
            assert_eq!(
                (&device["user_id"], &device["dehydrated"]),
                (&json!(ada.id), &json!(false))
            );
        }
        let one = format!("{all}/{}", encoded(&ada.device));
        put(&boss, &one, json!({ "display_name": "hers" }))
            .await
            .ok();
        put(&boss, &one, json!({})).await.ok();
        assert_eq!(get(&boss, &one).await.ok()["display_name"], "hers");
        // Nobody else's device.
        let other = format!("{all}/{}", encoded(&bob.device));
        get(&boss, &other).await.fails(404, "M_NOT_FOUND");
        put(&boss, &other, json!({ "display_name": "x" }))
            .await
            .fails(404, "M_NOT_FOUND");
        delete(&boss, &other, json!({})).await.ok();
        bob.get("/account/whoami").await.ok();

        delete(&boss, &one, json!({})).await.ok();
        ada.get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        let several = of_user("v2", &ada.id, "/delete_devices");
        post(
            &boss,
            &several,
            json!({ "devices": [second.device, "nothing"] }),
        )
        .await
        .ok();
        second
            .get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        third.get("/account/whoami").await.ok();
        post(&boss, &several, json!({}))
            .await
            .fails(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn a_device_is_made_that_its_user_logs_in_as() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let all = of_user("v2", &ada.id, "/devices");
        for _ in 0..2 {
            let made = post(&boss, &all, json!({ "device_id": "MADE" })).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        }
        assert_eq!(get(&boss, &all).await.ok()["total"], 2);
        // Nobody was there by it yet.
        let one = format!("{all}/MADE");
        assert_eq!(get(&boss, &one).await.ok()["last_seen_ip"], Value::Null);
        let login = json!({
            "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "ada" },
            "password": "secret", "device_id": "MADE",
        });
        let path = "/_matrix/client/v3/login";
        let answer = server.ask(http::Method::POST, path, login).await.ok();
        assert_eq!(answer["device_id"], "MADE");
        assert_eq!(get(&boss, &all).await.ok()["total"], 2);
        for wrong in [json!({}), json!({ "device_id": 5 })] {
            post(&boss, &all, wrong).await.fails(400, "M_BAD_JSON");
        }
        for wrong in ["", "a\nb"] {
            let wish = json!({ "device_id": wrong });
            post(&boss, &all, wish).await.fails(400, "M_INVALID_PARAM");
        }
        let nobody = of_user("v2", "@nobody:here.test", "/devices");
        post(&boss, &nobody, json!({ "device_id": "X" }))
            .await
            .fails(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn limits_of_a_user_are_set_and_taken_away() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let path = of_user("v1", &ada.id, "/override_ratelimit");
        assert_eq!(get(&boss, &path).await.ok(), json!({}));
        let some = json!({ "messages_per_second": 5, "burst_count": 9 });
        assert_eq!(post(&boss, &path, some.clone()).await.ok(), some);
        assert_eq!(get(&boss, &path).await.ok(), some);
        let none = json!({ "messages_per_second": 0, "burst_count": 0 });
        assert_eq!(post(&boss, &path, json!({})).await.ok(), none);
        let user = ruma::UserId::parse(ada.id.as_str()).unwrap();
        let limits = server.app.store.user_limits();
        assert!(limits.of(&user, "join").is_some());
        assert_eq!(post(&boss, &path, some.clone()).await.ok(), some);
        assert_eq!(limits.all_of(&user).len(), 1);
        post(&boss, &path, none).await.ok();
        delete(&boss, &path, Value::Null).await.ok();
        assert!(limits.all_of(&user).is_empty());
        assert_eq!(get(&boss, &path).await.ok(), json!({}));
        for wrong in [
            json!({ "messages_per_second": -1 }),
            json!({ "burst_count": 1.5 }),
        ] {
            post(&boss, &path, wrong).await.fails(400, "M_BAD_JSON");
        }
        post(
            &boss,
            &path,
            json!({ "messages_per_second": 2_000_000_000 }),
        )
        .await
        .fails(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn an_account_ends_for_ever() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let path = format!("/v1/deactivate/{}", encoded(&ada.id));
        post(&boss, &path, json!({ "erase": "yes" }))
            .await
            .fails(400, "M_BAD_JSON");
        let ended = post(&boss, &path, json!({ "erase": true })).await.ok();
        assert_eq!(ended, json!({ "id_server_unbind_result": "success" }));
        ada.get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        let user = get(&boss, &of_user("v2", &ada.id, "")).await.ok();
        assert_eq!(
            (&user["deactivated"], &user["erased"]),
            (&json!(true), &json!(true))
        );
        // That she leaves her rooms is written down.
        let tasks = server.app.store.tasks(i64::MAX, 1).await.unwrap();
        assert_eq!(tasks[0].what, ada.id);
        let path = of_user("v2", &ada.id, "");
        for wish in [
            json!({ "deactivated": false }),
            json!({ "password": "again" }),
            json!({ "admin": true }),
        ] {
            put(&boss, &path, wish).await.fails(403, "M_FORBIDDEN");
        }
        let same = json!({ "deactivated": true, "displayname": "" });
        assert_eq!(put(&boss, &path, same).await.ok()["deactivated"], true);
        let bob = server.register("bob").await;
        let path = of_user("v2", &bob.id, "");
        let ended = put(&boss, &path, json!({ "deactivated": true })).await.ok();
        assert_eq!(
            (&ended["deactivated"], text(&ended["name"])),
            (&json!(true), bob.id)
        );
    })
    .await;
}
