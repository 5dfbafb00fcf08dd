//! Devices and keys of services' users (MSC4190, MSC3202).

use http::{Method, StatusCode};
use ruma::user_id;
use serde_json::{Value, json};

use super::{Acting, IRC, PUPPETS, refuses, story};
use crate::{
    e2ee::signer::{Device, Signer},
    harness::{Server, User, esc},
};

/// Somebody for whom a service acts, as a name for their keys.
fn named(server: &Server, id: &str) -> User {
    User {
        server: server.clone(),
        id: id.to_owned(),
        token: "irc-token".to_owned(),
    }
}

#[tokio::test]
async fn services_make_devices_and_do_away_with_them() {
    story(&[IRC], async |server| {
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        let put = async |id: &str, body: Value| {
            let path = format!("/devices/{}", esc(id));
            let (status, answer) = ann.call(Method::PUT, &path, body).await;
            (status.as_u16(), answer)
        };
        let named = json!({ "display_name": "bridge" });
        assert_eq!(put("ONE", named.clone()).await, (201, json!({})));
        assert_eq!(
            put("ONE", json!({ "display_name": "other" })).await,
            (200, json!({}))
        );
        assert_eq!(put("ONE", json!({})).await.0, 200);
        assert_eq!(put("TWO", json!({})).await.0, 201);
        assert_eq!(put("THREE", json!({})).await.0, 201);
        let one = ann.read("/devices/ONE").await;
        assert_eq!(one["display_name"], "other");
        assert_eq!(
            ann.read("/devices").await["devices"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
        for wrong in ["x".repeat(256), "a\nb".to_owned()] {
            assert_eq!(put(&wrong, json!({})).await.1["errcode"], "M_INVALID_PARAM");
        }
        let long = json!({ "display_name": "x".repeat(2000) });
        assert_eq!(put("FOUR", long).await.1["errcode"], "M_INVALID_PARAM");

        // Nobody is there to prove anything.
        ann.ok(Method::DELETE, "/devices/ONE", json!({})).await;
        let both = json!({ "devices": ["TWO", "THREE", "NONE"] });
        ann.ok(Method::POST, "/delete_devices", both).await;
        assert_eq!(ann.read("/devices").await["devices"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn people_make_no_devices_so() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let body = json!({ "display_name": "x" });
        let unknown = (404, "M_NOT_FOUND");
        refuses(&ada, (Method::PUT, "/devices/NEW"), body, unknown).await;
        refuses(&ada, (Method::PUT, "/devices/NEW"), json!({}), unknown).await;
        let (status, answer) = ada
            .call(Method::DELETE, "/devices/X", Some(json!({})))
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(answer["flows"].is_array(), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_device_without_tokens_encrypts() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        let (_, _) = ann.call(Method::PUT, "/devices/BRIDGE", json!({})).await;
        let acting = ann.and("device_id=BRIDGE");
        let device = Device::named(&named(server, "@irc_ann:here"), "BRIDGE", 1);
        let upload =
            json!({ "device_keys": device.keys(), "one_time_keys": device.one_time(&["a", "b"]) });
        // Which device it is has to be said.
        let missing = (400, "M_MISSING_PARAM");
        ann.refused(Method::POST, "/keys/upload", upload.clone(), missing)
            .await;
        let counts = acting.ok(Method::POST, "/keys/upload", upload).await;
        assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 2);
        let asked = json!({ "device_keys": { "@irc_ann:here": [] } });
        let told = ada.ok(Method::POST, "/keys/query", asked).await;
        let keys = &told["device_keys"]["@irc_ann:here"]["BRIDGE"]["keys"];
        assert_eq!(keys["ed25519:BRIDGE"], device.signer.public());
        let wish =
            json!({ "one_time_keys": { "@irc_ann:here": { "BRIDGE": "signed_curve25519" } } });
        let claimed = ada.ok(Method::POST, "/keys/claim", wish).await;
        assert_ne!(
            claimed["one_time_keys"]["@irc_ann:here"]["BRIDGE"],
            Value::Null
        );

        let messages = json!({ "messages": { "@irc_ann:here": { "BRIDGE": { "n": 1 } } } });
        ada.ok(Method::PUT, "/sendToDevice/x.y/1", messages).await;
        let sync = acting.read("/sync").await;
        assert_eq!(sync["to_device"]["events"][0]["content"], json!({ "n": 1 }));
        assert_eq!(sync["device_one_time_keys_count"]["signed_curve25519"], 1);
    })
    .await;
}

#[tokio::test]
async fn services_replace_cross_signing_keys() {
    story(&[IRC], async |server| {
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        for seed in [3, 4] {
            let master = Signer::cross_signing("@irc_ann:here", seed);
            let body = json!({ "master_key": master.as_key("master") });
            ann.ok(Method::POST, "/keys/device_signing/upload", body)
                .await;
            let asked = json!({ "device_keys": { "@irc_ann:here": [] } });
            let told = ann.ok(Method::POST, "/keys/query", asked).await;
            let keys = &told["master_keys"]["@irc_ann:here"]["keys"];
            assert_eq!(keys[&master.name], master.public(), "{told}");
        }
        // A person proves that it is them.
        let ada = server.register("ada").await;
        let body =
            |seed| json!({ "master_key": Signer::cross_signing(&ada.id, seed).as_key("master") });
        ada.ok(Method::POST, "/keys/device_signing/upload", body(5))
            .await;
        let (status, _) = ada
            .call(Method::POST, "/keys/device_signing/upload", Some(body(6)))
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    })
    .await;
}

#[tokio::test]
async fn what_else_an_account_is_is_its_owners() {
    story(&[IRC, PUPPETS], async |server| {
        let ada = server.register("ada").await;
        let puppet = Acting::of(server, "puppets-token").as_user(&ada.id);
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        let forbidden = (403, "M_FORBIDDEN");
        let password = json!({ "new_password": "another good password" });
        for acting in [&puppet, &ann, &irc] {
            acting
                .refused(
                    Method::POST,
                    "/account/password",
                    password.clone(),
                    forbidden,
                )
                .await;
        }
        let path = "/_matrix/client/v1/login/get_token";
        let path = format!("{path}?user_id={}", esc(&ada.id));
        let body = Some(json!({}));
        let (status, _) = server
            .request(Method::POST, &path, Some("puppets-token"), body)
            .await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        // A user that is the service's alone it may do away with, but not its own, and nobody else.
        for acting in [&puppet, &irc] {
            acting
                .refused(Method::POST, "/account/deactivate", json!({}), forbidden)
                .await;
        }
        ann.ok(Method::POST, "/account/deactivate", json!({})).await;
        let account = server
            .store
            .account(user_id!("@irc_ann:here"))
            .await
            .unwrap();
        assert!(account.unwrap().deactivated);
        ada.read("/account/whoami").await;
        irc.read("/account/whoami").await;
    })
    .await;
}
