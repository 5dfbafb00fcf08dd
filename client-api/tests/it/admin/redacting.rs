//! What users have said is redacted, as administrators want it.

use http::Method;
use rhizome_client_api::tasks;
use rhizome_storage::{AccountFlag, testing::eventually};
use ruma::UserId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    e2ee::several::several,
    harness::{Server, User, esc, story},
};

/// The server does tasks until the story stops it.
pub fn working(server: &Server) -> CancellationToken {
    let stop = CancellationToken::new();
    let (app, until) = (server.app.clone(), stop.clone());
    tokio::spawn(async move { tasks::run(app, until).await.unwrap() });
    stop
}

/// A user who administers the server.
pub async fn administrator(server: &Server, name: &str) -> User {
    let user = server.register(name).await;
    let id = <&UserId>::try_from(user.id.as_str()).unwrap();
    let no = server.store.user_no(id).await.unwrap();
    let set = server.store.set_account_flag(no, AccountFlag::Admin, true);
    assert!(set.await.unwrap());
    user
}

/// A request for administrators; `path` is what follows `/_synapse/admin`.
pub async fn ask(by: &User, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let path = format!("/_synapse/admin{path}");
    let answer = by.server.request(method, &path, Some(&by.token), body);
    let (status, body) = answer.await;
    (status.as_u16(), body)
}

/// Asks for it, and waits until it is done; gives its status.
async fn redacted(by: &User, user: &str, wish: Value) -> Value {
    let path = format!("/v1/user/{}/redact", esc(user));
    let (status, begun) = ask(by, Method::POST, &path, Some(wish)).await;
    assert_eq!(status, 200, "{begun}");
    let id = begun["redact_id"].as_str().unwrap();
    let path = format!("/v1/user/redact_status/{id}");
    eventually("it is redacted", async || {
        let (status, told) = ask(by, Method::GET, &path, None).await;
        assert_eq!(status, 200, "{told}");
        !["scheduled", "active"].contains(&told["status"].as_str().unwrap())
    })
    .await;
    ask(by, Method::GET, &path, None).await.1
}

async fn stands(reader: &User, room: &str, event: &str) -> bool {
    let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
    reader.read(&path).await["content"].get("body").is_some()
}

#[tokio::test]
async fn so_much_is_redacted_as_is_asked_for() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (here, there) = (bob.create_public().await, bob.create_public().await);
        let mut said = Vec::new();
        for room in [&here, &there] {
            ada.join(room).await;
            for text in ["one", "two", "three"] {
                said.push(ada.say(room, text).await);
            }
        }
        let his = bob.say(&here, "his").await;
        let stop = working(&server);
        // The newest of one room.
        let wish = json!({ "rooms": [here], "limit": 1, "reason": "spam" });
        let told = redacted(&boss, &ada.id, wish).await;
        assert_eq!(
            told,
            json!({ "status": "complete", "failed_redactions": {} })
        );
        let left = async |room: &str, ids: &[String]| {
            let mut left = Vec::new();
            for id in ids {
                left.push(stands(&bob, room, id).await);
            }
            left
        };
        assert_eq!(left(&here, &said[..3]).await, [true, true, false]);
        assert_eq!(left(&there, &said[3..]).await, [true; 3]);
        let path = format!("/rooms/{}/event/{}", esc(&here), esc(&said[2]));
        let because = bob.read(&path).await["unsigned"]["redacted_because"].clone();
        assert_eq!(because["sender"], json!(ada.id));
        assert_eq!(because["content"]["reason"], "spam");
        // Nothing was said before the beginning of time.
        redacted(&boss, &ada.id, json!({ "rooms": [], "before_ts": 5 })).await;
        assert_eq!(left(&there, &said[3..]).await, [true; 3]);
        redacted(&boss, &ada.id, json!({ "rooms": [] })).await;
        assert_eq!(left(&here, &said[..3]).await, [false; 3]);
        assert_eq!(left(&there, &said[3..]).await, [false; 3]);
        assert!(stands(&bob, &here, &his).await);
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn an_administrator_redacts_what_they_have_the_power_to() {
    several(2, async |all| {
        let boss = administrator(all.server(0), "boss").await;
        let eve = all.server(1).register("eve").await;
        let bob = all.server(0).register("bob").await;
        let (own, his) = (boss.create_public().await, bob.create_public().await);
        boss.join(&his).await;
        let mut said = Vec::new();
        for room in [&own, &his] {
            assert!(all.join(&eve, room).await);
            let event = eve.say(room, "spam").await;
            let path = format!("/rooms/{}/event/{}", esc(room), esc(&event));
            eventually("it has come", async || boss.get(&path).await.0.is_success()).await;
            said.push(event);
        }
        let stop = working(all.server(0));
        let told = redacted(&boss, &eve.id, json!({ "rooms": [], "reason": "spam" })).await;
        assert_eq!(told["status"], "complete");
        assert!(!stands(&boss, &own, &said[0]).await);
        // Where they have no power it is said why not.
        assert!(stands(&boss, &his, &said[1]).await);
        let failed = told["failed_redactions"].as_object().unwrap();
        assert_eq!(failed.keys().collect::<Vec<_>>(), [&said[1]]);
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_not_redacted() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let path = format!("/v1/user/{}/redact", esc(&ada.id));
        for (wish, code) in [
            (json!({}), "M_BAD_JSON"),
            (json!({ "rooms": ["nothing"] }), "M_BAD_JSON"),
            (json!({ "rooms": [], "limit": 0 }), "M_INVALID_PARAM"),
            (
                json!({ "rooms": [], "reason": "x".repeat(5_000) }),
                "M_INVALID_PARAM",
            ),
        ] {
            let (status, error) = ask(&boss, Method::POST, &path, Some(wish)).await;
            assert_eq!((status, &error["errcode"]), (400, &json!(code)), "{error}");
        }
        for unknown in ["5", "x", "-1"] {
            let path = format!("/v1/user/redact_status/{unknown}");
            let (status, _) = ask(&boss, Method::GET, &path, None).await;
            assert_eq!(status, 404, "{unknown}");
        }
    })
    .await;
}
