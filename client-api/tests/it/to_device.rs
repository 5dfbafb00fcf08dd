//! Messages to devices: each comes once and in order, waits for its device, and goes when it is acknowledged.

use http::{Method, StatusCode};
use rhizome_storage::{Dialect, Pos, testing::TestDatabase};
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, events, next, story};

/// Sends messages to devices under a transaction id.
pub async fn send(from: &User, txn: &str, messages: Value) {
    let path = format!("/sendToDevice/m.test/{txn}");
    let body = json!({ "messages": messages });
    from.ok(Method::PUT, &path, body).await;
}

/// A numbered message to one device.
async fn number(from: &User, to: &User, device: &str, n: usize) {
    let messages = json!({ &to.id: { device: { "n": n } } });
    send(from, &format!("n{n}"), messages).await;
}

/// The numbers of the messages that an answer has.
pub fn numbers(sync: &Value) -> Vec<u64> {
    let messages = events(sync, &["to_device", "events"]);
    messages
        .iter()
        .map(|message| message["content"]["n"].as_u64().unwrap())
        .collect()
}

pub async fn device_of(user: &User) -> String {
    let who = user.read("/account/whoami").await;
    who["device_id"].as_str().unwrap().to_owned()
}

/// How many messages wait for a device.
async fn waiting(user: &User, device: &str) -> usize {
    let store = &user.server.store;
    let id = user.id.as_str().try_into().unwrap();
    let no = store.known_user(id).await.unwrap().unwrap();
    let all = store.to_device(no, device.into(), Pos(0), Pos(i64::MAX), 1_000);
    all.await.unwrap().len()
}

#[tokio::test]
async fn a_message_comes_once_to_each_device_that_it_is_for() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let bobs_other = bob.another_device().await;
        let (phone, other) = (device_of(&bob).await, device_of(&bobs_other).await);
        let since = next(&bob.sync(None, "").await);
        let polling = bob.poll(&since).await;
        let messages = json!({
            &bob.id: { &phone: { "n": 1, "half": 0.5 }, "NOBODY": {} },
            "@nobody:here": { "*": {} },
        });
        send(&ada, "one", messages.clone()).await;
        let told = polling.await.unwrap();
        let expected = json!([{
            "type": "m.test", "sender": ada.id, "content": { "n": 1, "half": 0.5 },
        }]);
        assert_eq!(told["to_device"]["events"], expected);
        // The same transaction again does nothing; until it is acknowledged, the message comes again.
        send(&ada, "one", messages).await;
        assert_eq!(numbers(&bob.sync(Some(&since), "").await), [1]);
        assert_eq!(waiting(&bob, &phone).await, 1);
        let later = bob.sync(Some(&next(&told)), "").await;
        assert_eq!(later.get("to_device"), None);
        assert_eq!(waiting(&bob, &phone).await, 0);
        // Nor does it come to whoever begins anew, or from before.
        assert_eq!(bob.sync(None, "").await.get("to_device"), None);
        assert_eq!(numbers(&bob.sync(Some(&since), "").await), [0_u64; 0]);

        send(&ada, "all", json!({ &bob.id: { "*": { "n": 2 } } })).await;
        assert_eq!(numbers(&bob.sync(Some(&next(&later)), "").await), [2]);
        assert_eq!(numbers(&bobs_other.sync(None, "").await), [2]);
        // What waits for a device goes with it.
        bobs_other.ok(Method::POST, "/logout", json!({})).await;
        assert_eq!(waiting(&bob, &other).await, 0);
    })
    .await;
}

#[tokio::test]
async fn many_come_in_order_a_hundred_at_a_time() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let phone = device_of(&bob).await;
        let mut since = next(&bob.sync(None, "").await);
        for n in 0..230 {
            number(&ada, &bob, &phone, n).await;
        }
        let mut got = Vec::new();
        for expected in [100, 100, 30] {
            // There is more: nobody waits.
            let sync = bob.sync(Some(&since), "&timeout=170000").await;
            assert_eq!(numbers(&sync).len(), expected);
            got.extend(numbers(&sync));
            since = next(&sync);
        }
        assert!(got.iter().copied().eq(0..230));
        assert_eq!(waiting(&bob, &phone).await, 30);
        assert_eq!(numbers(&bob.sync(Some(&since), "").await), [0_u64; 0]);
        assert_eq!(waiting(&bob, &phone).await, 0);

        // What comes after a cut answer comes after what it left.
        for n in 0..101 {
            number(&ada, &bob, &phone, 1_000 + n).await;
        }
        let cut = bob.sync(Some(&since), "").await;
        number(&ada, &bob, &phone, 2_000).await;
        assert_eq!(
            numbers(&bob.sync(Some(&next(&cut)), "").await),
            [1_100, 2_000]
        );
    })
    .await;
}

/// An answer for a device that has nothing costs what it did before there were such messages.
#[tokio::test]
async fn nothing_costs_nothing() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let other = bob.another_device().await;
        let other_device = device_of(&other).await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        let mut since = next(&bob.sync(None, "").await);
        since = next(&bob.sync(Some(&since), "").await);
        // One for another device of the user.
        number(&ada, &bob, &other_device, 1).await;
        ada.say(&room, "hello").await;
        let before = server.store.counters().now();
        let sync = bob.sync(Some(&since), "").await;
        assert_eq!(crate::harness::timeline(&sync, &room).len(), 1);
        let cost = server.store.counters().now() - before;
        // On PostgreSQL each answer asks once how far the log is.
        assert!(cost.queries <= 1 && cost.groups == 0, "{cost:?}");
        // Whoever asks again and again with a token that acknowledges writes once.
        let sync = other.sync(None, "").await;
        assert_eq!(numbers(&sync), [1]);
        other.sync(Some(&next(&sync)), "").await;
        let before = server.store.counters().now();
        other.sync(Some(&next(&sync)), "").await;
        assert_eq!((server.store.counters().now() - before).groups, 0);
    })
    .await;
}

/// What has come just now is told from the log's tail, and never what a device has left unread that is gone.
#[tokio::test]
async fn what_has_just_come_is_not_read_again() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let log_in = async || {
            let body = json!({"type": "m.login.password", "password": "a good password",
                "device_id": "TABLET", "identifier": {"type": "m.id.user", "user": bob.id}});
            let path = "/_matrix/client/v3/login";
            let (_, told) = server.request(Method::POST, path, None, Some(body)).await;
            let token = told["access_token"].as_str().unwrap().to_owned();
            User {
                token,
                ..bob.clone()
            }
        };
        let tablet = log_in().await;
        let since = next(&tablet.sync(None, "").await);
        let since = next(&tablet.sync(Some(&since), "").await);
        number(&ada, &bob, "TABLET", 1).await;
        let before = server.store.counters().now();
        let sync = tablet.sync(Some(&since), "").await;
        assert_eq!(numbers(&sync), [1]);
        let cost = server.store.counters().now() - before;
        // On PostgreSQL each answer asks once how far the log is.
        assert!(cost.queries <= 1, "{cost:?}");
        // What is too large for the tail is read, with what came beside it.
        let large = json!({ "n": 2, "text": "x".repeat(5_000) });
        send(&ada, "large", json!({ &bob.id: { "TABLET": large } })).await;
        number(&ada, &bob, "TABLET", 3).await;
        assert_eq!(numbers(&tablet.sync(Some(&since), "").await), [1, 2, 3]);

        let since = next(&sync);
        tablet.sync(Some(&since), "").await;
        tablet.ok(Method::POST, "/logout", json!({})).await;
        let tablet = log_in().await;
        assert_eq!(numbers(&tablet.sync(Some(&since), "").await), [0_u64; 0]);
        number(&ada, &bob, "TABLET", 4).await;
        assert_eq!(numbers(&tablet.sync(Some(&since), "").await), [4]);
    })
    .await;
}

#[tokio::test]
async fn whom_the_user_ignores_is_not_heard() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let phone = device_of(&bob).await;
        let since = next(&bob.sync(None, "").await);
        for n in 0..150 {
            number(&eve, &bob, &phone, n).await;
        }
        number(&ada, &bob, &phone, 7).await;
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&bob.id));
        let ignored = json!({ "ignored_users": { &eve.id: {} } });
        bob.ok(Method::PUT, &path, ignored).await;
        let mut sync = bob.sync(Some(&since), "").await;
        let mut got = numbers(&sync);
        while got.is_empty() {
            sync = bob.sync(Some(&next(&sync)), "&timeout=170000").await;
            got = numbers(&sync);
        }
        assert_eq!(got, [7]);
        bob.sync(Some(&next(&sync)), "").await;
        assert_eq!(waiting(&bob, &phone).await, 0);
    })
    .await;
}

#[tokio::test]
async fn what_waits_survives_a_restart_and_two_processes_agree() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let first = Server::new(store.clone());
        let (ada, bob) = (first.register("ada").await, first.register("bob").await);
        let phone = device_of(&bob).await;
        let since = next(&bob.sync(None, "").await);
        for n in 0..120 {
            number(&ada, &bob, &phone, n).await;
        }
        let cut = bob.sync(Some(&since), "").await;
        store.close().await;

        let store = database.open().await;
        let again = Server::new(store.clone());
        let at = |user: &User, server: &Server| User {
            server: server.clone(),
            ..user.clone()
        };
        let (ada, bob) = (at(&ada, &again), at(&bob, &again));
        let rest = bob.sync(Some(&next(&cut)), "").await;
        assert!(numbers(&rest).into_iter().eq(100..120));
        // Done is done.
        number(&ada, &bob, &phone, 119).await;
        let last = bob.sync(Some(&next(&rest)), "").await;
        assert_eq!(numbers(&last), [0_u64; 0]);

        if store.dialect() == Dialect::Postgres {
            let second = Server::new(database.open().await);
            let bob_there = at(&bob, &second);
            // One sends here, the other there, in turn; the device asks both in turn.
            let mut since = next(&last);
            for n in (200..240).step_by(2) {
                number(&ada, &bob, &phone, n).await;
                number(&at(&ada, &second), &bob, &phone, n + 1).await;
                let asked = if n % 4 == 0 { &bob } else { &bob_there };
                let sync = asked.sync(Some(&since), "").await;
                assert_eq!(numbers(&sync), [n as u64, n as u64 + 1]);
                since = next(&sync);
            }
            bob.sync(Some(&since), "").await;
            assert_eq!(bob_there.sync(None, "").await.get("to_device"), None);
            // The same transaction at both at once is one.
            let both = [at(&ada, &again), at(&ada, &second)];
            let sends = both.iter().map(|ada| number(ada, &bob, &phone, 999));
            futures_util::future::join_all(sends).await;
            assert_eq!(numbers(&bob.sync(Some(&since), "").await), [999]);
            second.store.close().await;
        }
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn what_is_wrong_or_too_much_is_refused() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let phone = device_of(&ada).await;
        let long = "x".repeat(256);
        let put = async |path: &str, body: Value| ada.call(Method::PUT, path, Some(body)).await;
        let path = "/sendToDevice/m.test/t";
        let too_many: serde_json::Map<_, _> =
            (0..10_001).map(|n| (format!("D{n}"), json!({}))).collect();
        for (path, body, status, errcode) in [
            (path, json!({}), 400, "M_BAD_JSON"),
            (path, json!({ "messages": [] }), 400, "M_BAD_JSON"),
            (
                path,
                json!({ "messages": { "ada": {} } }),
                400,
                "M_INVALID_PARAM",
            ),
            (
                path,
                json!({ "messages": { &ada.id: 1 } }),
                400,
                "M_BAD_JSON",
            ),
            (
                path,
                json!({ "messages": { &ada.id: { "D": 1 } } }),
                400,
                "M_BAD_JSON",
            ),
            (
                path,
                json!({ "messages": { &ada.id: { &long: {} } } }),
                400,
                "M_INVALID_PARAM",
            ),
            // It couldn't be signed.
            (
                path,
                json!({ "messages": { "@a:there": { "D": { "n": 0.5 } } } }),
                400,
                "M_BAD_JSON",
            ),
            (
                path,
                json!({ "messages": { &ada.id: { &phone: { "n": "x".repeat(70_000) } } } }),
                413,
                "M_TOO_LARGE",
            ),
            (
                path,
                json!({ "messages": { &ada.id: too_many } }),
                413,
                "M_TOO_LARGE",
            ),
            (
                &format!("/sendToDevice/{long}/t"),
                json!({ "messages": {} }),
                400,
                "M_INVALID_PARAM",
            ),
            (
                &format!("/sendToDevice/m.test/{long}"),
                json!({ "messages": {} }),
                400,
                "M_INVALID_PARAM",
            ),
        ] {
            let (answered, answer) = put(path, body).await;
            assert_eq!(
                (answered.as_u16(), &answer["errcode"]),
                (status, &json!(errcode)),
                "{answer}"
            );
        }
        // Nothing of all that was done.
        assert_eq!(put(path, json!({ "messages": {} })).await.0, StatusCode::OK);
        assert_eq!(ada.sync(None, "").await.get("to_device"), None);
    })
    .await;
}
