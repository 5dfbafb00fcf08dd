//! Presence: who sees whom, what devices say, and what the time does.

mod rooms;

use std::time::Duration;

use http::{Method, StatusCode};
use rhizome_storage::{
    AccountFlag, Clock, Options, PresenceOptions, Store,
    testing::{TestDatabase, eventually},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Server, User, esc, events, filter, next};

const LARGE: usize = 3;

fn options(database: &TestDatabase, clock: &Clock) -> Options {
    Options {
        clock: clock.clone(),
        presence: PresenceOptions {
            enabled: true,
            max_room_size: LARGE,
        },
        ..database.options()
    }
}

/// Tells a story on either database, with a clock that stands.
async fn story(tell: impl AsyncFn(&Server, &Clock)) {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(1_800_000_000_000);
        let store = Store::open(options(&database, &clock)).await.unwrap();
        tell(&Server::new(store.clone()), &clock).await;
        store.close().await;
        database.remove().await;
    }
}

fn status_of(user: &User) -> String {
    format!("/presence/{}/status", esc(&user.id))
}

async fn is(user: &User, presence: &str) {
    let said = json!({ "presence": presence });
    user.ok(Method::PUT, &status_of(user), said).await;
}

/// What a reader sees of somebody who asks for it.
async fn seen(reader: &User, user: &User) -> String {
    let status = reader.read(&status_of(user)).await;
    status["presence"].as_str().unwrap().to_owned()
}

/// The presences in an answer: who, and what.
fn told(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut told: Vec<_> = events(answer, &["presence", "events"])
        .into_iter()
        .map(|event| {
            assert_eq!(event["type"], "m.presence");
            (text(&event["sender"]), text(&event["content"]["presence"]))
        })
        .collect();
    told.sort();
    told
}

fn of(user: &User, presence: &str) -> (String, String) {
    (user.id.clone(), presence.to_owned())
}

/// `/sync` of somebody who doesn't want to be seen.
async fn look(reader: &User, since: Option<&str>) -> Value {
    reader.sync(since, "&set_presence=offline").await
}

/// A `/sync` that waits, of somebody who doesn't want to be seen.
async fn wait(reader: &User, since: &str) -> JoinHandle<Value> {
    let since = format!("{since}&set_presence=offline");
    reader.poll(&since).await
}

/// Lets the time pass until an answer comes.
async fn comes(poll: JoinHandle<Value>, clock: &Clock) -> Value {
    eventually("the poll is answered", async || {
        clock.advance(Duration::from_secs(1));
        poll.is_finished()
    })
    .await;
    poll.await.unwrap()
}

#[tokio::test]
async fn who_shares_a_room_sees_what_somebody_says_and_nobody_else_does() {
    story(async |server, clock| {
        let [alice, bob, eve] = [
            server.register("alice").await,
            server.register("bob").await,
            server.register("eve").await,
        ];
        let room = alice.create_public().await;
        bob.join(&room).await;
        eve.create_public().await;
        let since = next(&look(&bob, None).await);
        let of_eve = next(&look(&eve, None).await);

        assert_eq!(seen(&bob, &alice).await, "offline");
        let said = json!({ "presence": "online", "status_msg": "at the sea" });
        let poll = wait(&bob, &since).await;
        alice.ok(Method::PUT, &status_of(&alice), said).await;
        let answer = poll.await.unwrap();
        let content = &events(&answer, &["presence", "events"])[0]["content"];
        let expected = json!({ "presence": "online", "status_msg": "at the sea",
            "last_active_ago": 0, "currently_active": true });
        assert_eq!(*content, expected);
        clock.advance(Duration::from_secs(3));
        let status = bob.read(&status_of(&alice)).await;
        assert_eq!(status["last_active_ago"], 3_000);
        assert_eq!(status["status_msg"], "at the sea");
        // Once.
        assert_eq!(told(&look(&bob, Some(&next(&answer))).await), []);
        // She sees it herself, and so does whoever comes with nothing.
        assert_eq!(told(&look(&alice, None).await), [of(&alice, "online")]);
        assert_eq!(told(&look(&bob, None).await), [of(&alice, "online")]);

        assert_eq!(told(&look(&eve, Some(&of_eve)).await), []);
        for path in [
            status_of(&alice),
            "/presence/%40nobody%3Ahere/status".to_owned(),
        ] {
            let (status, error) = eve.get(&path).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
        }
        // Nor does one who has left.
        bob.leave(&room).await;
        is(&alice, "unavailable").await;
        assert_eq!(told(&look(&bob, Some(&since)).await), []);
        assert_eq!(bob.get(&status_of(&alice)).await.0, StatusCode::FORBIDDEN);
    })
    .await;
}

#[tokio::test]
async fn only_what_is_a_presence_of_ones_own_is_taken() {
    story(async |server, _| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let online = json!({ "presence": "online" });
        let (status, _) = bob
            .call(Method::PUT, &status_of(&alice), Some(online))
            .await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        for (said, errcode) in [
            (json!({}), "M_BAD_JSON"),
            (json!({ "presence": 7 }), "M_BAD_JSON"),
            (json!({ "presence": "asleep" }), "M_INVALID_PARAM"),
            (
                json!({ "presence": "online", "status_msg": 7 }),
                "M_BAD_JSON",
            ),
            (
                json!({ "presence": "online", "status_msg": "x".repeat(5_000) }),
                "M_INVALID_PARAM",
            ),
        ] {
            let (status, error) = alice
                .call(Method::PUT, &status_of(&alice), Some(said))
                .await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert_eq!(error["errcode"], errcode);
        }
        assert_eq!(seen(&alice, &alice).await, "offline");
    })
    .await;
}

#[tokio::test]
async fn syncing_says_what_a_device_is_and_of_several_the_highest_counts() {
    story(async |server, clock| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut since = next(&look(&bob, None).await);
        let desk = alice.another_device().await;
        look(&alice, None).await;
        assert_eq!(told(&look(&bob, Some(&since)).await), []);
        for (device, asked, expected) in [
            (&alice, "&set_presence=unavailable", Some("unavailable")),
            (&desk, "", Some("online")),
            (&alice, "&set_presence=unavailable", None),
            (&desk, "&set_presence=unavailable", Some("unavailable")),
            (&alice, "&set_presence=online", Some("online")),
        ] {
            device.sync(None, asked).await;
            let answer = look(&bob, Some(&since)).await;
            let expected: Vec<_> = expected
                .map(|state| of(&alice, state))
                .into_iter()
                .collect();
            assert_eq!(told(&answer), expected, "{asked}");
            since = next(&answer);
        }
        // Who goes is there for half a minute more; who waits, for as long as that.
        let desk_since = next(&desk.sync(None, "").await);
        let waits = desk.poll(&desk_since).await;
        let poll = wait(&bob, &since).await;
        clock.advance(Duration::from_secs(100));
        assert_eq!(seen(&bob, &alice).await, "online");
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        let gone = comes(poll, clock).await;
        assert_eq!(told(&gone), [of(&alice, "offline")]);
    })
    .await;
}

#[tokio::test]
async fn who_does_nothing_is_unavailable_until_they_do_something() {
    story(async |server, clock| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let of_alice = next(&alice.sync(None, "").await);
        let mut waits = alice.poll(&of_alice).await;
        let typing = format!("/rooms/{}/typing/{}", esc(&room), esc(&alice.id));
        for act in ["say", "type"] {
            let since = next(&look(&bob, None).await);
            let poll = wait(&bob, &since).await;
            clock.advance(Duration::from_secs(290));
            assert_eq!(seen(&bob, &alice).await, "online");
            let idle = comes(poll, clock).await;
            assert_eq!(told(&idle), [of(&alice, "unavailable")]);
            match act {
                "say" => drop(alice.say(&room, "still here").await),
                _ => drop(
                    alice
                        .ok(Method::PUT, &typing, json!({ "typing": true }))
                        .await,
                ),
            }
            assert_eq!(seen(&bob, &alice).await, "online");
            // Her own poll has been answered with that.
            let answer = waits.await.unwrap();
            waits = alice
                .poll(&next(&alice.sync(Some(&next(&answer)), "").await))
                .await;
        }
        waits.abort();
    })
    .await;
}

#[tokio::test]
async fn who_is_busy_stays_so_until_they_say_otherwise() {
    story(async |server, _| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let busy = "org.matrix.msc3026.busy";
        let (_, versions) = server
            .request(Method::GET, "/_matrix/client/versions", None, None)
            .await;
        let feature = &versions["unstable_features"]["org.matrix.msc3026.busy_presence"];
        assert_eq!(feature, true);
        for name in ["busy", busy] {
            is(&alice, name).await;
            alice.sync(None, "&set_presence=online").await;
            alice.say(&room, "and yet").await;
            assert_eq!(told(&look(&bob, None).await), [of(&alice, busy)]);
            assert_eq!(seen(&bob, &alice).await, busy);
            is(&alice, "online").await;
            assert_eq!(seen(&bob, &alice).await, "online");
        }
        alice.sync(None, &format!("&set_presence={busy}")).await;
        assert_eq!(seen(&bob, &alice).await, busy);
        alice.sync(None, "").await;
        assert_eq!(seen(&bob, &alice).await, "online");
    })
    .await;
}

#[tokio::test]
async fn a_filter_says_whose_presence_is_wanted_and_how_much() {
    story(async |server, _| {
        let [alice, bob, carl] = [
            server.register("alice").await,
            server.register("bob").await,
            server.register("carl").await,
        ];
        let room = alice.create_public().await;
        bob.join(&room).await;
        carl.join(&room).await;
        let since = next(&look(&alice, None).await);
        is(&bob, "online").await;
        is(&carl, "unavailable").await;
        let (of_bob, of_carl) = (of(&bob, "online"), of(&carl, "unavailable"));
        let ask = async |wanted: Value, since: Option<&str>| {
            let wanted = filter(&json!({ "presence": wanted }));
            alice
                .sync(since, &format!("{wanted}&set_presence=offline"))
                .await
        };
        for since in [None, Some(&*since)] {
            for (wanted, expected) in [
                (json!({}), vec![of_bob.clone(), of_carl.clone()]),
                (json!({ "senders": [bob.id] }), vec![of_bob.clone()]),
                (json!({ "not_senders": [bob.id] }), vec![of_carl.clone()]),
                (
                    json!({ "types": ["m.*"] }),
                    vec![of_bob.clone(), of_carl.clone()],
                ),
                (json!({ "types": [] }), vec![]),
                (json!({ "not_types": ["*"] }), vec![]),
                (json!({ "limit": 0 }), vec![]),
            ] {
                assert_eq!(
                    told(&ask(wanted.clone(), since).await),
                    expected,
                    "{wanted}"
                );
            }
        }
        // What doesn't fit comes next, though at first only the last.
        let first = ask(json!({ "limit": 1 }), None).await;
        assert_eq!(told(&first), std::slice::from_ref(&of_carl));
        let one = ask(json!({ "limit": 1 }), Some(&since)).await;
        assert_eq!(told(&one), [of_bob]);
        let other = ask(json!({ "limit": 1 }), Some(&next(&one))).await;
        assert_eq!(told(&other), [of_carl]);
        let rest = ask(json!({ "limit": 1 }), Some(&next(&other))).await;
        assert_eq!(told(&rest), []);
        assert_eq!(next(&rest).split("_p").count(), 1);
        // Nor is anything told of those whom she ignores.
        let ignored = json!({ "ignored_users": { &*bob.id: {} } });
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&alice.id));
        alice.ok(Method::PUT, &path, ignored).await;
        assert_eq!(told(&look(&alice, None).await), [of(&carl, "unavailable")]);
    })
    .await;
}

#[tokio::test]
async fn who_is_suspended_says_nothing_of_it_while_they_sync() {
    story(async |server, _| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        bob.join(&room).await;
        ada.sync(None, "&set_presence=online").await;
        assert_eq!(seen(&bob, &ada).await, "online");
        let id = ada.id.as_str().try_into().unwrap();
        let no = server.store.user_no(id).await.unwrap();
        let suspended = AccountFlag::Suspended;
        let set = server.store.set_account_flag(no, suspended, true);
        assert!(set.await.unwrap());
        ada.sync(None, "&set_presence=unavailable").await;
        assert_eq!(seen(&bob, &ada).await, "online");
    })
    .await;
}
