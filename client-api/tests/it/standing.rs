//! Accounts that the operator has locked or suspended, and what administrators learn of users.

use http::Method;
use rhizome_storage::{
    AccountFlag,
    testing::{TestDatabase, eventually, soon},
};
use ruma::UserId;
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, next, story},
    stream::{close_code, connect, frame, listen, message, send},
};

/// A user who administers the server.
async fn administrator(server: &Server, name: &str) -> User {
    let user = server.register(name).await;
    let id = <&UserId>::try_from(user.id.as_str()).unwrap();
    let no = server.store.user_no(id).await.unwrap();
    let set = server.store.set_account_flag(no, AccountFlag::Admin, true);
    assert!(set.await.unwrap());
    user
}

async fn ask(
    by: &User,
    method: Method,
    what: &str,
    whom: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let path = format!("/_matrix/client/v1/admin/{what}/{}", esc(whom));
    let answer = by.server.request(method, &path, Some(&by.token), body);
    let (status, body) = answer.await;
    (status.as_u16(), body)
}

/// Locks (`lock`) or suspends (`suspend`) a user, or takes that back.
async fn set(by: &User, what: &str, whom: &str, on: bool) -> (u16, Value) {
    let field = field(what);
    let answer = ask(by, Method::PUT, what, whom, Some(json!({ field: on }))).await;
    if answer.0 == 200 {
        assert_eq!(answer.1, json!({ field: on }));
        let (_, now) = ask(by, Method::GET, what, whom, None).await;
        assert_eq!(now, json!({ field: on }));
    }
    answer
}

fn field(what: &str) -> &'static str {
    match what {
        "lock" => "locked",
        _ => "suspended",
    }
}

#[track_caller]
fn fails((status, body): (u16, Value), expected: u16, errcode: &str) {
    let got = (status, body["errcode"].as_str().unwrap_or_default());
    assert_eq!(got, (expected, errcode), "{body}");
}

async fn tries(user: &User, method: Method, path: &str, body: Value) -> (u16, Value) {
    let body = Some(body).filter(|body| !body.is_null());
    let (status, body) = user.call(method, path, body).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn only_administrators_lock_and_suspend_and_not_each_other() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let eve = administrator(&server, "eve").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let moderation = "m.account_moderation";
        let can = boss.read("/capabilities").await;
        let wanted = json!({ "lock": true, "suspend": true });
        assert_eq!(can["capabilities"][moderation], wanted);
        let can = ada.read("/capabilities").await;
        assert!(can["capabilities"].get(moderation).is_none());
        for what in ["lock", "suspend"] {
            // Nobody else learns whether there is such a user.
            for whom in [&bob.id, &ada.id, "@nobody:here", "@x:elsewhere"] {
                fails(set(&ada, what, whom, true).await, 403, "M_FORBIDDEN");
                let asked = ask(&ada, Method::GET, what, whom, None).await;
                fails(asked, 403, "M_FORBIDDEN");
            }
            for whom in [&boss.id, &eve.id] {
                fails(set(&boss, what, whom, true).await, 403, "M_FORBIDDEN");
                let asked = ask(&boss, Method::GET, what, whom, None).await;
                fails(asked, 403, "M_FORBIDDEN");
            }
            let unknown = set(&boss, what, "@nobody:here", true).await;
            fails(unknown, 404, "M_NOT_FOUND");
            let elsewhere = set(&boss, what, "@x:elsewhere", true).await;
            fails(elsewhere, 400, "M_INVALID_PARAM");
            let (_, before) = ask(&boss, Method::GET, what, &bob.id, None).await;
            assert_eq!(before, json!({ field(what): false }));
            assert_eq!(set(&boss, what, &bob.id, true).await.0, 200);
            assert_eq!(set(&boss, what, &bob.id, false).await.0, 200);
        }
        bob.read("/account/whoami").await;
    })
    .await;
}

#[tokio::test]
async fn who_is_locked_can_only_log_out() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        let since = next(&ada.sync(None, "").await);
        let waits = || server.store.counters().now().waits;
        let before = waits();
        let path = format!("/sync?timeout=170000&since={since}");
        let waiting = ada.clone();
        let poll = tokio::spawn(async move { waiting.get(&path).await });
        eventually("the poll waits", async || waits() > before).await;
        let before = waits();
        let path = format!("/events?timeout=170000&from={since}");
        let waiting = ada.clone();
        let stream = tokio::spawn(async move { waiting.get(&path).await });
        eventually("the stream waits", async || waits() > before).await;
        let address = listen(&server).await;
        let mut socket = connect(address, &ada, None).await;
        frame(&mut socket, "sync").await;

        assert_eq!(set(&boss, "lock", &ada.id, true).await.0, 200);
        let (status, body) = soon("the stream ends", stream).await.unwrap();
        assert_eq!(
            (status.as_u16(), &body["errcode"]),
            (401, &json!("M_USER_LOCKED"))
        );
        let (status, body) = soon("the poll ends", poll).await.unwrap();
        assert_eq!((status.as_u16(), &body["soft_logout"]), (401, &json!(true)));
        assert_eq!(body["errcode"], "M_USER_LOCKED");
        assert_eq!(close_code(&mut socket).await, 4401);
        let say = format!("/rooms/{}/send/m.room.message/1", esc(&room));
        for (method, path, body) in [
            (Method::GET, "/sync", Value::Null),
            (Method::GET, "/capabilities", Value::Null),
            (Method::PUT, say.as_str(), json!({ "body": "hello" })),
            (Method::POST, "/createRoom", json!({})),
        ] {
            let answer = tries(&ada, method, path, body).await;
            assert_eq!(answer.1["soft_logout"], true);
            fails(answer, 401, "M_USER_LOCKED");
        }
        let login = json!({ "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": "ada" } });
        let answer = tries(&ada, Method::POST, "/login", login.clone()).await;
        assert_eq!(answer.1["soft_logout"], true);
        fails(answer, 401, "M_USER_LOCKED");
        let wrong = json!({ "type": "m.login.password", "password": "a guess",
            "identifier": { "type": "m.id.user", "user": "ada" } });
        let answer = tries(&ada, Method::POST, "/login", wrong).await;
        fails(answer, 403, "M_FORBIDDEN");

        // The session is still there.
        assert_eq!(set(&boss, "lock", &ada.id, false).await.0, 200);
        ada.say(&room, "back").await;
        assert_eq!(set(&boss, "lock", &ada.id, true).await.0, 200);
        ada.ok(Method::POST, "/logout", json!({})).await;
        let gone = tries(&ada, Method::GET, "/sync", Value::Null).await;
        fails(gone, 401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn who_is_suspended_reads_leaves_and_takes_back_what_they_said() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (room, other) = (ada.create_public().await, bob.create_public().await);
        bob.join(&room).await;
        let (mine, his) = (ada.say(&room, "mine").await, bob.say(&room, "his").await);
        let address = listen(&server).await;
        let mut socket = connect(address, &ada, None).await;
        frame(&mut socket, "sync").await;
        assert_eq!(set(&boss, "suspend", &ada.id, true).await.0, 200);

        let in_room = |rest: &str| format!("/rooms/{}/{rest}", esc(&room));
        let me = esc(&ada.id);
        let redact = |event: &str, txn| in_room(&format!("redact/{}/{txn}", esc(event)));
        for (method, path, body) in [
            (
                Method::PUT,
                in_room("send/m.room.message/1"),
                json!({ "body": "x" }),
            ),
            (
                Method::PUT,
                in_room("send/m.room.redaction/1"),
                json!({ "redacts": his }),
            ),
            (
                Method::PUT,
                in_room("state/m.room.topic/"),
                json!({ "topic": "x" }),
            ),
            (Method::PUT, redact(&his, 1), json!({})),
            (
                Method::POST,
                in_room("invite"),
                json!({ "user_id": boss.id }),
            ),
            (Method::POST, in_room("ban"), json!({ "user_id": bob.id })),
            (Method::POST, in_room("kick"), json!({ "user_id": bob.id })),
            (Method::POST, "/createRoom".into(), json!({})),
            (Method::POST, format!("/join/{}", esc(&other)), json!({})),
            (Method::POST, format!("/knock/{}", esc(&other)), json!({})),
            (
                Method::PUT,
                format!("/profile/{me}/displayname"),
                json!({ "displayname": "x" }),
            ),
            (
                Method::PUT,
                in_room(&format!("typing/{me}")),
                json!({ "typing": true, "timeout": 1000 }),
            ),
        ] {
            let answer = tries(&ada, method, &path, body).await;
            assert_eq!(answer.1["errcode"], "M_USER_SUSPENDED", "{path}");
            fails(answer, 403, "M_USER_SUSPENDED");
        }
        send(&mut socket, message(&room, "s1", "by socket")).await;
        let error = frame(&mut socket, "error").await;
        assert_eq!(error["errcode"], "M_USER_SUSPENDED");
        assert_eq!(error["txn_id"], "s1");

        // What they may.
        let heard = bob.say(&room, "still heard").await;
        let sync = ada.sync(None, "").await;
        assert!(sync["rooms"]["join"][&room].to_string().contains(&heard));
        ada.ok(Method::PUT, &redact(&mine, 2), json!({})).await;
        let second = ada.another_device().await;
        let answer = tries(&second, Method::POST, "/createRoom", json!({})).await;
        fails(answer, 403, "M_USER_SUSPENDED");
        second.ok(Method::POST, "/logout", json!({})).await;
        ada.leave(&room).await;

        assert_eq!(set(&boss, "suspend", &ada.id, false).await.0, 200);
        ada.join(&room).await;
        ada.say(&room, "back").await;
    })
    .await;
}

#[tokio::test]
async fn who_is_suspended_says_nothing_by_taking_back() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (room, other) = (ada.create_public().await, ada.create_public().await);
        bob.join(&room).await;
        let mine = ada.say(&room, "mine").await;
        assert_eq!(set(&boss, "suspend", &ada.id, true).await.0, 200);
        let redact = |room: &str, txn| {
            let (room, event) = (esc(room), esc(&mine));
            format!("/rooms/{room}/redact/{event}/{txn}")
        };
        let answer = tries(&ada, Method::PUT, &redact(&other, 1), json!({})).await;
        fails(answer, 403, "M_USER_SUSPENDED");
        let send = format!("/rooms/{}/send/m.room.redaction/2", esc(&room));
        let redaction = json!({ "redacts": mine, "reason": "sorry", "body": "buy this" });
        let sent = ada.ok(Method::PUT, &send, redaction.clone()).await;
        let event = esc(sent["event_id"].as_str().unwrap());
        let event = format!("/rooms/{}/event/{event}", esc(&room));
        let content = bob.read(&event).await["content"].clone();
        assert_eq!(content["reason"], "sorry");
        assert_eq!(content.get("body"), None);
        // The same is answered the same; another one would only have another reason.
        assert_eq!(ada.ok(Method::PUT, &send, redaction).await, sent);
        let answer = tries(&ada, Method::PUT, &redact(&room, 3), json!({})).await;
        fails(answer, 403, "M_USER_SUSPENDED");
    })
    .await;
}

/// Each process has its own caches; what one is told, all keep to.
#[tokio::test]
async fn another_process_hears_of_a_lock() {
    let database = TestDatabase::postgres().await;
    let stores = [database.open().await, database.open().await];
    let [here, there] = stores.clone().map(Server::new);
    let boss = administrator(&here, "boss").await;
    let ada = here.register("ada").await;
    let again = User {
        server: there,
        ..ada.clone()
    };
    again.read("/account/whoami").await;
    assert_eq!(set(&boss, "lock", &ada.id, true).await.0, 200);
    eventually("the other process has heard of it", async || {
        again.get("/account/whoami").await.1["errcode"] == "M_USER_LOCKED"
    })
    .await;
    assert_eq!(set(&boss, "lock", &ada.id, false).await.0, 200);
    eventually("and that it is over", async || {
        again.get("/account/whoami").await.0 == 200
    })
    .await;
    for store in stores {
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test]
async fn who_is_who_is_told_to_themselves_and_administrators() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        ada.another_device().await;
        let path = format!("/admin/whois/{}", esc(&ada.id));
        for user in [&ada, &boss] {
            let found = user.read(&path).await;
            assert_eq!(found["user_id"], ada.id.as_str());
            let devices = found["devices"].as_object().unwrap();
            assert_eq!(devices.len(), 2);
            for device in devices.values() {
                let connection = &device["sessions"][0]["connections"][0];
                assert!(connection["last_seen"].is_i64() && connection["ip"].is_string());
            }
        }
        let answer = tries(&bob, Method::GET, &path, Value::Null).await;
        fails(answer, 403, "M_FORBIDDEN");
        let answer = tries(&boss, Method::GET, "/admin/whois/@nobody:here", Value::Null).await;
        fails(answer, 404, "M_NOT_FOUND");
    })
    .await;
}

/// Nor by asking again for the answer to their registration.
#[tokio::test]
async fn who_is_locked_out_gets_no_session_by_registering_again() {
    story(|server| async move {
        let ask = async |body: &Value| {
            let path = "/_matrix/client/v3/register";
            let asked = server.request(Method::POST, path, None, Some(body.clone()));
            let (status, answer) = asked.await;
            (status.as_u16(), answer)
        };
        let mut body = json!({ "username": "ada", "password": "a good password" });
        let (_, challenge) = ask(&body).await;
        body["auth"] = json!({ "type": "m.login.dummy", "session": challenge["session"] });
        let (status, made) = ask(&body).await;
        assert_eq!(status, 200, "{made}");
        let id = <&UserId>::try_from(made["user_id"].as_str().unwrap()).unwrap();
        let no = server.store.user_no(id).await.unwrap();
        let set = server.store.set_account_flag(no, AccountFlag::Locked, true);
        assert!(set.await.unwrap());
        fails(ask(&body).await, 401, "M_USER_LOCKED");
        assert_eq!(server.store.devices(no).await.unwrap().len(), 1);
        // Only who knows the password is told so.
        body["password"] = "guess".into();
        fails(ask(&body).await, 400, "M_USER_IN_USE");
    })
    .await;
}
