//! Confirming what one wants to do with an account.

use http::Method;
use rhizome_client_api::ClientConfig;
use serde_json::{Value, json};

use super::{REGISTER, challenged, ok, post, refused, session, story};
use crate::harness::User;

fn password(session: Option<&str>, password: &str) -> Value {
    json!({ "type": "m.login.password", "password": password, "session": session,
        "identifier": { "type": "m.id.user", "user": "ada" } })
}

async fn device(user: &User) -> Value {
    user.read("/account/whoami").await["device_id"].clone()
}

#[tokio::test]
async fn what_is_confirmed_is_what_is_done() {
    story(
        |_| {},
        async |server| {
            let ada = server.register("ada").await;
            let (phone, tablet) = (ada.another_device().await, ada.another_device().await);
            let (phone, tablet) = (device(&phone).await, device(&tablet).await);
            let delete = async |user: &User, devices: Value, auth: Value| {
                let body = json!({ "devices": devices, "auth": auth });
                user.call(Method::POST, "/delete_devices", Some(body)).await
            };
            let plain = json!({ "devices": [phone] });
            let first = ada.call(Method::POST, "/delete_devices", Some(plain)).await;
            let id = session(&first);
            assert_eq!(
                first.1["flows"],
                json!([{ "stages": ["m.login.password"] }])
            );
            let right = password(Some(&id), "a good password");
            // Not another device, nor one more, nor somebody else.
            for devices in [json!([tablet]), json!([phone, tablet]), json!([])] {
                let answer = delete(&ada, devices, right.clone()).await;
                assert_ne!(session(&answer), id);
                challenged(answer, Some("M_UNKNOWN"), &[]);
            }
            let path = format!("/devices/{}", phone.as_str().unwrap());
            let body = json!({ "devices": [phone], "auth": right });
            let answer = ada.call(Method::DELETE, &path, Some(body)).await;
            challenged(answer, Some("M_UNKNOWN"), &[]);
            let bob = server.register("bob").await;
            let answer = delete(&bob, json!([phone]), right.clone()).await;
            challenged(answer, Some("M_UNKNOWN"), &[]);
            // A wrong attempt doesn't end it.
            let wrong = delete(&ada, json!([phone]), password(Some(&id), "guess")).await;
            assert_eq!(session(&wrong), id);
            challenged(wrong, Some("M_FORBIDDEN"), &[]);
            let asked = delete(&ada, json!([phone]), json!({ "session": id })).await;
            challenged(asked, None, &[]);
            let other = delete(
                &ada,
                json!([phone]),
                json!({ "type": "m.login.dummy", "session": id }),
            )
            .await;
            challenged(other, Some("M_FORBIDDEN"), &[]);
            ok(delete(&ada, json!([phone]), right.clone()).await);
            // It serves once.
            let again = delete(&ada, json!([phone]), right).await;
            challenged(again, Some("M_UNKNOWN"), &[]);
            let left = ada.read("/devices").await;
            assert_eq!(left["devices"].as_array().unwrap().len(), 2);
        },
    )
    .await;
}

#[tokio::test]
async fn who_is_meant_is_who_asks() {
    story(
        |_| {},
        async |server| {
            let (ada, bob) = (server.register("ada").await, server.register("bob").await);
            for (identifier, code) in [
                (json!({ "type": "m.id.user", "user": "ada" }), "M_FORBIDDEN"),
                (json!({ "type": "m.id.user", "user": "" }), "M_FORBIDDEN"),
                (
                    json!({ "type": "m.id.user", "user": "@bob:elsewhere" }),
                    "M_FORBIDDEN",
                ),
                (
                    json!({ "type": "m.id.thirdparty", "medium": "email", "address": "a@b" }),
                    "M_FORBIDDEN",
                ),
                (
                    json!({ "type": "m.id.phone", "country": "AT", "phone": "1" }),
                    "M_FORBIDDEN",
                ),
            ] {
                let auth = json!({ "type": "m.login.password", "identifier": identifier,
                "password": "a good password" });
                let body = json!({ "devices": [device(&bob).await], "auth": auth });
                let answer = bob.call(Method::POST, "/delete_devices", Some(body)).await;
                refused(answer, 403, code);
            }
            ada.read("/account/whoami").await;
        },
    )
    .await;
}

#[tokio::test]
async fn guests_confirm_nothing() {
    let settings = |config: &mut ClientConfig| config.guests = true;
    story(settings, async |server| {
        let path = format!("{REGISTER}?kind=guest");
        let guest = ok(post(server, &path, json!({})).await);
        let guest = User {
            server: server.clone(),
            id: guest["user_id"].as_str().unwrap().to_owned(),
            token: guest["access_token"].as_str().unwrap().to_owned(),
        };
        for path in [
            "/delete_devices",
            "/account/deactivate",
            "/account/password",
        ] {
            let body = json!({ "devices": [], "new_password": "x" });
            let answer = guest.call(Method::POST, path, Some(body)).await;
            refused(answer, 403, "M_GUEST_ACCESS_FORBIDDEN");
        }
    })
    .await;
}
