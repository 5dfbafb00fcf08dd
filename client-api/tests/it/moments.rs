//! The event that is nearest to a moment.

use std::time::Duration;

use http::{Method, StatusCode};
use rhizome_federation::outbound::Limits;
use rhizome_storage::{
    Clock, Options, Store,
    testing::{TestDatabase, forget_times},
};
use serde_json::{Value, json};

use crate::e2ee::several::several;
use crate::harness::{Server, User, esc, events, ids};
use crate::spaces::get;

const START: i64 = 1_800_000_000_000;

/// Tells a story on either database, with a clock that stands.
async fn story(tell: impl AsyncFn(&Server, &Clock)) {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(START);
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        tell(&Server::new(store.clone()), &clock).await;
        store.close().await;
        database.remove().await;
    }
}

async fn ask(user: &User, room: &str, query: &str) -> (StatusCode, Value) {
    get(
        user,
        &format!("/rooms/{}/timestamp_to_event?{query}", esc(room)),
    )
    .await
}

async fn nearest(user: &User, room: &str, ts: i64, dir: &str) -> Option<String> {
    let (status, answer) = ask(user, room, &format!("ts={ts}&dir={dir}")).await;
    match status {
        StatusCode::OK => Some(answer["event_id"].as_str().unwrap().to_owned()),
        StatusCode::NOT_FOUND => {
            assert_eq!(answer["errcode"], "M_NOT_FOUND");
            None
        }
        other => panic!("{other}: {answer}"),
    }
}

#[tokio::test]
async fn a_moment_has_a_nearest_event_on_either_side() {
    story(async |server, clock| {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        clock.advance(Duration::from_secs(10));
        let first = alice.say(&room, "first").await;
        let with_it = alice.say(&room, "in the same moment").await;
        clock.advance(Duration::from_secs(10));
        let last = alice.say(&room, "last").await;
        let (then, end) = (START + 10_000, START + 20_000);
        let look = async |ts, dir| nearest(&alice, &room, ts, dir).await;
        for (ts, dir, expected) in [
            (then - 1, "f", Some(&first)),
            (then, "f", Some(&first)),
            (then + 1, "f", Some(&last)),
            (then, "b", Some(&with_it)),
            (end - 1, "b", Some(&with_it)),
            (end, "b", Some(&last)),
            (end + 5_000, "b", Some(&last)),
            (end, "f", Some(&last)),
            (end + 1, "f", None),
            (START - 1, "b", None),
        ] {
            assert_eq!(look(ts, dir).await.as_ref(), expected, "{ts} {dir}");
        }
        let (_, answer) = ask(&alice, &room, &format!("ts={end}&dir=b")).await;
        assert_eq!(answer["origin_server_ts"], end);
        // Those that were stored before there was an index are found as well.
        forget_times(&server.store).await;
        assert_eq!(look(then, "b").await, Some(with_it));

        for query in ["ts=1", "dir=f", "ts=x&dir=f", "ts=-1&dir=f", "ts=1&dir=up"] {
            let (status, error) = ask(&alice, &room, query).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {error}");
        }
        let eve = server.register("eve").await;
        for room in [&*room, "!nothing:here"] {
            let (status, error) = ask(&eve, room, "ts=1&dir=f").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_reader_may_not_see_is_passed_over() {
    story(async |server, clock| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let hidden = json!([{ "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": "joined" } }]);
        let request = json!({ "preset": "public_chat", "initial_state": hidden });
        let room = alice.create(request).await;
        eve.join(&room).await;
        clock.advance(Duration::from_secs(10));
        // More than are looked at together.
        for n in 0..60 {
            alice.say(&room, &n.to_string()).await;
        }
        clock.advance(Duration::from_secs(10));
        bob.join(&room).await;
        clock.advance(Duration::from_secs(10));
        let ignored = eve.say(&room, "nobody listens").await;
        clock.advance(Duration::from_secs(10));
        let said = alice.say(&room, "for bob").await;
        // What was before the room's history was closed, members see; what was said then, only who was there.
        let (later, before) = (START + 1, START + 19_999);
        for (reader, ts, dir, expected) in [
            (&bob, later, "f", START + 20_000),
            (&bob, before, "b", START),
            (&alice, later, "f", START + 10_000),
            (&alice, before, "b", START + 10_000),
        ] {
            let (_, answer) = ask(reader, &room, &format!("ts={ts}&dir={dir}")).await;
            assert_eq!(answer["origin_server_ts"], expected, "{ts} {dir}");
        }
        let when = START + 25_000;
        assert_eq!(nearest(&bob, &room, when, "f").await, Some(ignored));
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&bob.id));
        let list = json!({ "ignored_users": { &eve.id: {} } });
        bob.ok(Method::PUT, &path, list).await;
        assert_eq!(nearest(&bob, &room, when, "f").await, Some(said));
        // Who has left sees up to there.
        bob.leave(&room).await;
        clock.advance(Duration::from_secs(10));
        alice.say(&room, "without bob").await;
        assert_eq!(nearest(&bob, &room, START + 45_000, "f").await, None);
    })
    .await;
}

async fn sent_at(user: &User, room: &str, event: &str) -> i64 {
    let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
    user.read(&path).await["origin_server_ts"].as_i64().unwrap()
}

/// What came before a server was in the room, it has fetched; then a client pages on from there.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_gap_is_fetched_from_others() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let charlie = all.server(1).register("charlie").await;
        let room = alice.create_public().await;
        let first = alice.say(&room, "first").await;
        let mut said = Vec::new();
        // More than comes at once.
        for n in 0..150 {
            said.push(alice.say(&room, &n.to_string()).await);
        }
        assert!(all.join(&charlie, &room).await);
        let then = sent_at(&alice, &room, &first).await;
        let (_, answer) = ask(&charlie, &room, &format!("ts={then}&dir=b")).await;
        let ours = nearest(&alice, &room, then, "b").await;
        assert_eq!(answer["event_id"].as_str(), ours.as_deref(), "{answer}");
        let found = ours.unwrap();

        let path = format!("/rooms/{}/context/{}?limit=0", esc(&room), esc(&found));
        let around = charlie.read(&path).await;
        let end = around["end"].as_str().unwrap();
        let path = format!("/rooms/{}/messages?dir=f&limit=200&from={end}", esc(&room));
        let page = ids(&events(&charlie.read(&path).await, &["chunk"]));
        assert!(said.iter().all(|id| page.contains(id)), "{page:?}");
        let forward = nearest(&charlie, &room, then, "f").await;
        assert_eq!(forward, nearest(&alice, &room, then, "f").await);
        // Nobody is there to be asked: what is here is told.
        let there = all.name(0).to_owned();
        all.network.cut(&there);
        assert_eq!(nearest(&charlie, &room, 0, "b").await, None);
        assert_eq!(nearest(&charlie, &room, then, "b").await, Some(found));
    })
    .await;
}

/// A server is told of what its users could see, and only if it is in the room.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_told_of_what_it_may_see() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let charlie = all.server(1).register("charlie").await;
        let hidden = json!([{ "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": "joined" } }]);
        let request = json!({ "preset": "public_chat", "initial_state": hidden });
        let room = alice.create(request).await;
        alice.say(&room, "before").await;
        let path = format!("/_matrix/federation/v1/timestamp_to_event/{}", esc(&room));
        let outbound = all.server(1).federation.outbound();
        let ask = async |query: &str| {
            let (path, limits) = (format!("{path}?{query}"), Limits::default());
            let answer = outbound.call(all.name(0), Method::GET, &path, None, limits);
            answer.await.map(|answer| {
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                answer["event_id"].as_str().unwrap().to_owned()
            })
        };
        let refused = ask("ts=0&dir=f").await.unwrap_err();
        assert_eq!(refused.status(), Some(StatusCode::FORBIDDEN));
        assert!(all.join(&charlie, &room).await);
        let said = alice.say(&room, "now").await;
        let when = sent_at(&alice, &room, &said).await;
        assert_eq!(ask(&format!("ts={}&dir=b", when + 1)).await.unwrap(), said);
        let first = ask("ts=0&dir=f").await.unwrap();
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&first));
        let first = alice.read(&path).await;
        assert_eq!(first["type"], "m.room.create", "{first}");
        let none = ask(&format!("ts={}&dir=f", when + 1_000_000)).await;
        assert_eq!(none.unwrap_err().status(), Some(StatusCode::NOT_FOUND));
    })
    .await;
}
