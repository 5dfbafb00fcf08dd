//! Setting pushers.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{each, keys, pusher, set};
use crate::harness::User;

async fn refused(user: &User, pusher: Value) -> (u16, String) {
    let (status, answer) = user.call(Method::POST, "/pushers/set", Some(pusher)).await;
    assert_ne!(status, StatusCode::OK);
    (
        status.as_u16(),
        answer["errcode"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn a_pusher_is_set_changed_and_taken_away() {
    each(async |world| {
        let ada = world.server.register("ada").await;
        assert_eq!(ada.read("/pushers").await, json!({ "pushers": [] }));
        let data = json!({
            "url": "https://push/_matrix/push/v1/notify?x=1",
            "format": "event_id_only",
            "org.example.own": { "a": [1] },
        });
        set(
            &ada,
            pusher("one", json!({ "data": data, "profile_tag": "tag" })),
        )
        .await;
        set(&ada, pusher("two", json!({}))).await;
        let told = ada.read("/pushers").await;
        assert_eq!(told["pushers"][0]["data"], data);
        assert_eq!(told["pushers"][0]["profile_tag"], "tag");
        assert_eq!(told["pushers"][0]["org.matrix.msc3881.enabled"], true);
        assert!(told["pushers"][0]["org.matrix.msc3881.device_id"].is_string());
        // Set anew it is the last one; what isn't said of it any more is gone.
        set(
            &ada,
            pusher("one", json!({ "org.matrix.msc3881.enabled": false })),
        )
        .await;
        assert_eq!(keys(&ada).await, ["two", "one"]);
        let told = ada.read("/pushers").await;
        assert_eq!(told["pushers"][1]["profile_tag"], Value::Null);
        assert_eq!(told["pushers"][1]["org.matrix.msc3881.enabled"], false);
        // Who knows nothing of the switch leaves it.
        set(&ada, pusher("one", json!({ "lang": "de" }))).await;
        let told = ada.read("/pushers").await;
        assert_eq!(told["pushers"][1]["org.matrix.msc3881.enabled"], false);
        assert_eq!(told["pushers"][1]["lang"], "de");
        let gone = json!({ "app_id": "org.example.app", "pushkey": "one", "kind": null });
        set(&ada, gone.clone()).await;
        set(&ada, gone).await;
        assert_eq!(keys(&ada).await, ["two"]);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_one_users_unless_they_say_otherwise() {
    each(async |world| {
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        set(&ada, pusher("phone", json!({}))).await;
        set(&bob, pusher("phone", json!({ "append": true }))).await;
        assert_eq!((keys(&ada).await.len(), keys(&bob).await.len()), (1, 1));
        set(&bob, pusher("phone", json!({ "append": false }))).await;
        assert_eq!((keys(&ada).await.len(), keys(&bob).await.len()), (0, 1));
        set(&ada, pusher("phone", json!({}))).await;
        assert_eq!((keys(&ada).await.len(), keys(&bob).await.len()), (1, 0));
        // Another app's keys are others.
        set(
            &bob,
            pusher("phone", json!({ "app_id": "org.example.other" })),
        )
        .await;
        assert_eq!((keys(&ada).await.len(), keys(&bob).await.len()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_pusher_is_refused() {
    each(async |world| {
        let ada = world.server.register("ada").await;
        for missing in ["app_id", "pushkey", "kind", "app_display_name", "device_display_name", "lang", "data"] {
            let mut without = pusher("one", json!({}));
            without.as_object_mut().unwrap().remove(missing);
            assert_eq!(refused(&ada, without).await, (400, "M_MISSING_PARAM".into()), "{missing}");
        }
        let at = |url: &str| json!({ "data": { "url": url } });
        for wrong in [
            json!({ "kind": "pigeon" }),
            json!({ "kind": "email" }),
            json!({ "app_id": "x".repeat(65) }),
            json!({ "pushkey": "x".repeat(513) }),
            json!({ "lang": "x".repeat(256) }),
            at("http://push/_matrix/push/v1/notify"),
            at("https://push/_matrix/push/v1/other"),
            at("https://user:word@push/_matrix/push/v1/notify"),
            at("push"),
            json!({ "data": { "url": "https://push/_matrix/push/v1/notify", "x": "y".repeat(5_000) } }),
        ] {
            let told = refused(&ada, pusher("one", wrong.clone())).await;
            assert_eq!(told, (400, "M_INVALID_PARAM".into()), "{wrong}");
        }
        for wrong in [json!({ "kind": 1 }), json!({ "data": [] }), json!({ "append": 1 }), json!({ "lang": {} })] {
            let told = refused(&ada, pusher("one", wrong.clone())).await;
            assert_eq!(told, (400, "M_BAD_JSON".into()), "{wrong}");
        }
        assert_eq!(refused(&ada, pusher("one", json!({ "data": {} }))).await.1, "M_MISSING_PARAM");
        assert!(keys(&ada).await.is_empty());
        for number in 0..100 {
            set(&ada, pusher(&number.to_string(), json!({}))).await;
        }
        assert_eq!(refused(&ada, pusher("more", json!({}))).await.1, "M_INVALID_PARAM");
        set(&ada, pusher("7", json!({ "lang": "de" }))).await;
    })
    .await;
}

#[tokio::test]
async fn a_pusher_goes_with_the_session_that_has_set_it() {
    each(async |world| {
        let ada = world.server.register("ada").await;
        let (phone, tablet) = (ada.another_device().await, ada.another_device().await);
        set(&ada, pusher("own", json!({}))).await;
        set(&phone, pusher("phone", json!({}))).await;
        set(&tablet, pusher("tablet", json!({}))).await;
        phone.ok(Method::POST, "/logout", json!({})).await;
        assert_eq!(keys(&ada).await, ["own", "tablet"]);
        let password = json!({
            "new_password": "another password",
            "auth": {
                "type": "m.login.password",
                "identifier": { "type": "m.id.user", "user": ada.id },
                "password": "a good password",
            },
        });
        ada.ok(Method::POST, "/account/password", password).await;
        assert_eq!(keys(&ada).await, ["own"]);
    })
    .await;
}
