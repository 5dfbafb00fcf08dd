//! Registration tokens made and looked after by an administrator.

use http::Method;
use rhizome_client_api::{ClientConfig, config::Registration};
use serde_json::{Value, json};

use super::{administrator, ask, delete, get, post, put};
use crate::asking::{START_MS, User, config, each_server, each_server_with};

const ALL: &str = "/v1/registration_tokens";
const NEW: &str = "/v1/registration_tokens/new";

fn one(token: &str) -> String {
    format!("{ALL}/{token}")
}

#[tokio::test]
async fn tokens_are_made_changed_and_deleted() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let now = START_MS;
        assert_eq!(get(&boss, ALL).await.ok()["registration_tokens"], json!([]));
        let made = post(&boss, NEW, Value::Null).await.ok();
        let token = made["token"].as_str().unwrap();
        assert_eq!(token.len(), 16);
        let expected = json!({
            "token": token, "uses_allowed": null, "pending": 0, "completed": 0, "expiry_time": null,
        });
        assert_eq!(made, expected);
        assert_eq!(get(&boss, &one(token)).await.ok(), expected);
        let named =
            json!({ "token": "abcd", "length": 16, "uses_allowed": 2, "expiry_time": now + 1_000 });
        let named = post(&boss, NEW, named).await.ok();
        assert_eq!(named["expiry_time"], now + 1_000);
        post(&boss, NEW, json!({ "token": "abcd" }))
            .await
            .fails(400, "M_INVALID_PARAM");
        let short = post(&boss, NEW, json!({ "length": 3 })).await.ok();
        assert_eq!(short["token"].as_str().unwrap().len(), 3);

        // What isn't said stays; null is without an end.
        let changed = put(&boss, &one("abcd"), json!({ "uses_allowed": 0 })).await;
        let changed = changed.ok();
        assert_eq!(
            (&changed["uses_allowed"], &changed["expiry_time"]),
            (&json!(0), &json!(now + 1_000))
        );
        let none = json!({ "uses_allowed": null, "expiry_time": null });
        let changed = put(&boss, &one("abcd"), none).await.ok();
        assert_eq!(
            (&changed["uses_allowed"], &changed["expiry_time"]),
            (&Value::Null, &Value::Null)
        );

        delete(&boss, &one("abcd"), Value::Null).await.ok();
        for answer in [
            get(&boss, &one("abcd")).await,
            put(&boss, &one("abcd"), json!({})).await,
            delete(&boss, &one("abcd"), Value::Null).await,
        ] {
            answer.fails(404, "M_NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn tokens_are_what_clients_can_send() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let past = START_MS - 1;
        for wrong in [
            json!({ "token": "" }),
            json!({ "token": "a b" }),
            json!({ "token": "ä" }),
            json!({ "token": 5 }),
            json!({ "token": "x".repeat(65) }),
            json!({ "length": 0 }),
            json!({ "length": 65 }),
            json!({ "length": "8" }),
            json!({ "uses_allowed": -1 }),
            json!({ "uses_allowed": 1.5 }),
            json!({ "expiry_time": past }),
            json!({ "expiry_time": "soon" }),
        ] {
            println!("{wrong}");
            post(&boss, NEW, wrong).await.fails(400, "M_INVALID_PARAM");
        }
        post(&boss, NEW, json!([])).await.fails(400, "M_BAD_JSON");
        // Also one that is called as the path at which they are made.
        post(&boss, NEW, json!({ "token": "new" })).await.ok();
        assert_eq!(get(&boss, NEW).await.ok()["token"], "new");
        let used = put(&boss, NEW, json!({ "uses_allowed": 7 })).await.ok();
        assert_eq!(used["uses_allowed"], 7);
        delete(&boss, NEW, Value::Null).await.ok();
        get(&boss, NEW).await.fails(404, "M_NOT_FOUND");
    })
    .await;
}

async fn listed(by: &User, query: &str) -> Vec<String> {
    let list = get(by, &format!("{ALL}{query}")).await.ok();
    let list = list["registration_tokens"].as_array().unwrap();
    let mut names: Vec<_> = list
        .iter()
        .map(|token| token["token"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn with_tokens() -> ClientConfig {
    let mut config = config();
    config.registration = Registration::Token;
    config
}

#[tokio::test]
async fn a_token_is_valid_until_it_is_used_up() {
    each_server_with(with_tokens, async |server| {
        let boss = administrator(&server, "boss").await;
        for (token, uses) in [
            ("many", Value::Null),
            ("once", json!(1)),
            ("never", json!(0)),
        ] {
            let made = post(&boss, NEW, json!({ "token": token, "uses_allowed": uses }));
            made.await.ok();
        }
        let all = listed(&boss, "").await;
        assert_eq!(all, ["many", "never", "once"]);
        assert_eq!(listed(&boss, "?valid=true").await, ["many", "once"]);
        assert_eq!(listed(&boss, "?valid=false").await, ["never"]);
        let path = format!("{ALL}?valid=perhaps");
        get(&boss, &path).await.fails(400, "M_INVALID_PARAM");

        let register = async |name: &str| {
            let path = "/_matrix/client/v3/register";
            let body = json!({ "username": name, "password": "a long secret" });
            let first = server.ask(Method::POST, path, body.clone()).await;
            assert_eq!(first.status, 401, "{}", first.body);
            let session = first.body["session"].clone();
            let mut body = body;
            body["auth"] = json!({
                "type": "m.login.registration_token", "token": "once", "session": session,
            });
            server.ask(Method::POST, path, body).await
        };
        register("ada").await.ok();
        let once = get(&boss, &one("once")).await.ok();
        assert_eq!(
            (&once["completed"], &once["pending"]),
            (&json!(1), &json!(0))
        );
        assert_eq!(listed(&boss, "?valid=true").await, ["many"]);
        assert_eq!(listed(&boss, "?valid=false").await, ["never", "once"]);
        // A page at a time, for who asks for that.
        let first = ask(&boss, Method::GET, &format!("{ALL}?limit=2"), Value::Null)
            .await
            .ok();
        assert_eq!(first["next_token"], 2);
        assert_eq!(listed(&boss, "?from=2&limit=2").await.len(), 1);
    })
    .await;
}
