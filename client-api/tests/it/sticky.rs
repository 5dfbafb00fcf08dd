//! Sticky events (MSC4354): whoever is in the room, or comes into it, gets them while they are so.

use std::time::Duration;

use http::Method;
use rhizome_storage::{Clock, Options, testing::TestDatabase};
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, events, filter, ids, next, story, timeline},
    sliding::client::{self as sliding, Client},
    stream,
};

const PARAM: &str = "org.matrix.msc4354.sticky_duration_ms";
const KEY: &str = "msc4354_sticky";
const TTL: &str = "msc4354_sticky_duration_ttl_ms";
/// The extension of sliding sync.
pub const EXTENSION: &str = "org.matrix.msc4354.sticky_events";

async fn try_stick(user: &User, room: &str, txn: &str, duration: &str) -> (u16, Value) {
    let path = format!(
        "/rooms/{}/send/m.rtc.member/{txn}?{PARAM}={duration}",
        esc(room)
    );
    let body = json!({ "msc4354_sticky_key": "PHONE", "n": txn });
    let (status, answer) = user.call(Method::PUT, &path, Some(body)).await;
    (status.as_u16(), answer)
}

/// Sends a sticky event; gives its id.
pub async fn stick(user: &User, room: &str, txn: &str, duration: u32) -> String {
    let (status, answer) = try_stick(user, room, txn, &duration.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["event_id"].as_str().unwrap().to_owned()
}

/// The ids of what an answer has in a room's section of sticky events.
pub fn stuck(sync: &Value, room: &str) -> Vec<String> {
    ids(&events(sync, &["rooms", "join", room, KEY, "events"]))
}

/// The ids of what an answer of sliding sync has of a room's sticky events.
pub fn beside(answer: &Value, room: &str) -> Vec<String> {
    let told = &answer["extensions"][EXTENSION];
    ids(&events(told, &["rooms", room, "events"]))
}

/// A server whose clock the test moves, on each database.
pub async fn with_clock<F, R>(tell: F)
where
    F: Fn(Server, Clock) -> R,
    R: Future<Output = ()>,
{
    for database in TestDatabase::both().await {
        let clock = Clock::manual(1_700_000_000_000);
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = rhizome_storage::Store::open(options).await.unwrap();
        tell(Server::new(store.clone()), clock).await;
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn a_sticky_event_says_for_how_long_and_comes_beside_the_timeline() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&bob.sync(None, "").await);
        let sticky = stick(&alice, &room, "1", 300_000).await;
        // Within the timeline it is nothing beside it.
        let news = bob.sync(Some(&since), "").await;
        assert_eq!(timeline(&news, &room), std::slice::from_ref(&sticky));
        assert!(news["rooms"]["join"][&room].get(KEY).is_none());
        let told = events(&news, &["rooms", "join", &room, "timeline", "events"]);
        assert_eq!(told[0][KEY], json!({ "duration_ms": 300_000 }));
        let ttl = told[0]["unsigned"][TTL].as_i64().unwrap();
        assert!((1..=300_000).contains(&ttl), "{ttl}");

        // Of more than the timeline has, it is beside it, once.
        for n in 0..3 {
            alice.say(&room, &n.to_string()).await;
        }
        let few = filter(&json!({ "room": { "timeline": { "limit": 2 } } }));
        let news = bob.sync(Some(&since), &few).await;
        assert_eq!(timeline(&news, &room).len(), 2);
        assert_eq!(stuck(&news, &room), std::slice::from_ref(&sticky));
        let told = events(&news, &["rooms", "join", &room, KEY, "events"]);
        assert_eq!(told[0]["content"]["n"], "1");
        assert_eq!(told[0]["unsigned"]["membership"], "join");
        assert!(told[0]["unsigned"][TTL].as_i64().unwrap() <= 300_000);
        let later = bob.sync(Some(&next(&news)), &few).await;
        assert!(later.get("rooms").is_none(), "{later}");
        // So it is where the filter keeps it out of the timeline, and for who begins.
        let other = filter(&json!({ "room": { "timeline": { "types": ["m.room.message"] } } }));
        let news = bob.sync(Some(&since), &other).await;
        assert_eq!(stuck(&news, &room), std::slice::from_ref(&sticky));
        let whole = bob.sync(None, &few).await;
        assert_eq!(stuck(&whole, &room), std::slice::from_ref(&sticky));
        // A redaction takes it away.
        let path = format!("/rooms/{}/redact/{}/r1", esc(&room), esc(&sticky));
        alice.ok(Method::PUT, &path, json!({})).await;
        let whole = bob.sync(None, &few).await;
        assert!(stuck(&whole, &room).is_empty());
        let versions = server.request(Method::GET, "/_matrix/client/versions", None, None);
        assert_eq!(
            versions.await.1["unstable_features"]["org.matrix.msc4354"],
            true
        );
    })
    .await;
}

/// Whoever comes into the room gets what is sticky, whatever else of its history they may see.
#[tokio::test]
async fn who_joins_gets_what_is_sticky() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let hidden = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } }]);
        let room = json!({ "preset": "public_chat", "initial_state": hidden });
        let room = alice.create(room).await;
        let plain = alice.say(&room, "before").await;
        let sticky = stick(&alice, &room, "1", 3_600_000).await;
        let since = next(&bob.sync(None, "").await);
        bob.join(&room).await;
        let news = bob.sync(Some(&since), "").await;
        assert_eq!(stuck(&news, &room), std::slice::from_ref(&sticky));
        assert!(!timeline(&news, &room).contains(&plain));
        let whole = bob.sync(None, "").await;
        assert_eq!(stuck(&whole, &room), [sticky]);
        assert!(bob.sync(Some(&next(&news)), "").await.get("rooms").is_none());
        bob.leave(&room).await;
        let gone = bob.sync(Some(&next(&news)), "").await;
        assert!(gone["rooms"]["leave"][&room].get(KEY).is_none());
    })
    .await;
}

/// Who floods a room hides nobody, and fills no answer.
#[tokio::test]
async fn who_joins_gets_the_newest_of_everybody() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (carol, dora) = (
            server.register("carol").await,
            server.register("dora").await,
        );
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut sent = vec![stick(&bob, &room, "1", 3_600_000).await];
        let mut flood = Vec::new();
        for n in 0..25 {
            flood.push(stick(&alice, &room, &n.to_string(), 3_600_000).await);
        }
        sent.extend(flood.split_off(5));
        let since = next(&carol.sync(None, "").await);
        carol.join(&room).await;
        let few = filter(&json!({ "room": { "timeline": { "limit": 1 } } }));
        let news = carol.sync(Some(&since), &few).await;
        assert_eq!(stuck(&news, &room), sent);

        // Large ones: as many as fit, and Bob's.
        for n in 0..20 {
            let path = format!(
                "/rooms/{}/send/m.rtc.member/large{n}?{PARAM}=3600000",
                esc(&room)
            );
            let body = json!({ "text": "x".repeat(60_000) });
            alice.ok(Method::PUT, &path, body).await;
        }
        let since = next(&dora.sync(None, "").await);
        dora.join(&room).await;
        let told = stuck(&dora.sync(Some(&since), &few).await, &room);
        assert_eq!(told.len(), 18);
        assert_eq!(told[0], sent[0]);
    })
    .await;
}

#[tokio::test]
async fn a_state_event_may_be_sticky_and_say_the_same_again() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let path = format!(
            "/rooms/{}/state/org.example.call/x?{PARAM}=60000",
            esc(&room)
        );
        let mut sent = Vec::new();
        for _ in 0..2 {
            let told = alice.ok(Method::PUT, &path, json!({ "a": 1 })).await;
            sent.push(told["event_id"].as_str().unwrap().to_owned());
        }
        assert_ne!(sent[0], sent[1]);
        let few = filter(&json!({ "room": { "timeline": { "limit": 1 } } }));
        alice.say(&room, "x").await;
        assert_eq!(stuck(&alice.sync(None, &few).await, &room), sent);
    })
    .await;
}

#[tokio::test]
async fn stickiness_ends() {
    with_clock(|server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let start = next(&bob.sync(None, "").await);
        let short = stick(&alice, &room, "1", 60_000).await;
        let long = stick(&alice, &room, "2", 120_000).await;
        let zero = stick(&alice, &room, "3", 0).await;
        alice.say(&room, "x").await;
        let few = filter(&json!({ "room": { "timeline": { "limit": 1 } } }));
        clock.advance(Duration::from_secs(59));
        let news = bob.sync(Some(&start), &few).await;
        assert_eq!(stuck(&news, &room), [short.clone(), long.clone()]);
        let told = events(&news, &["rooms", "join", &room, KEY, "events"]);
        assert_eq!(told[0]["unsigned"][TTL], 1_000);
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            stuck(&bob.sync(Some(&start), &few).await, &room),
            std::slice::from_ref(&long)
        );
        assert_eq!(
            stuck(&bob.sync(None, &few).await, &room),
            std::slice::from_ref(&long)
        );
        clock.advance(Duration::from_mins(1));
        assert!(stuck(&bob.sync(Some(&start), &few).await, &room).is_empty());
        let late = alice
            .read(&format!("/rooms/{}/event/{}", esc(&room), esc(&zero)))
            .await;
        assert_eq!(late[KEY]["duration_ms"], 0);
        assert!(late["unsigned"].get(TTL).is_none());
    })
    .await;
}

#[tokio::test]
async fn only_so_many_are_sticky_at_a_time_and_each_comes_once() {
    with_clock(|server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let start = next(&bob.sync(None, "").await);
        for duration in ["3600001", "-1", "x", "", "1.5", "99999999999999999999"] {
            let (status, answer) = try_stick(&alice, &room, "bad", duration).await;
            assert_eq!(
                (status, &answer["errcode"]),
                (400, &json!("M_INVALID_PARAM")),
                "{duration}"
            );
        }
        let mut sent = Vec::new();
        for n in 0..100 {
            sent.push(stick(&alice, &room, &format!("a{n}"), 60_000).await);
            sent.push(stick(&bob, &room, &format!("b{n}"), 3_600_000).await);
        }
        let (status, answer) = try_stick(&alice, &room, "more", "1000").await;
        assert_eq!(
            (status, &answer["errcode"]),
            (429, &json!("M_LIMIT_EXCEEDED"))
        );
        assert_eq!(answer["retry_after_ms"], 60_000);
        alice.say(&room, "not sticky").await;

        // From the log's memory, from long ago, and from the beginning.
        let few = filter(&json!({ "room": { "timeline": { "limit": 1 } } }));
        for begin in [Some(start), None] {
            let mut told = Vec::new();
            let mut since = begin;
            for _ in 0..3 {
                let news = bob.sync(since.as_deref(), &few).await;
                let some = stuck(&news, &room);
                assert!(some.len() <= 100);
                told.extend(some);
                since = Some(next(&news));
            }
            assert_eq!(told, sent);
            assert!(!since.unwrap().contains("_k"));
        }
        clock.advance(Duration::from_secs(61));
        stick(&alice, &room, "again", 1_000).await;
    })
    .await;
}

/// In sliding sync they come whichever rooms are wanted.
#[tokio::test]
async fn sliding_sync_tells_of_sticky_events() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let first = stick(&alice, &room, "1", 300_000).await;
        let wanted = json!({ "extensions": { EXTENSION: { "enabled": true } } });
        let stuck = |answer: &Value| beside(answer, &room);
        let mut client = Client::of(&bob);
        let begun = client.sync(&wanted).await;
        assert_eq!(stuck(&begun), std::slice::from_ref(&first));
        let told = &begun["extensions"][EXTENSION]["rooms"][&room]["events"][0];
        assert!(told["unsigned"][TTL].as_i64().unwrap() > 0);
        assert!(stuck(&client.sync(&wanted).await).is_empty());
        let polling = client.poll(&wanted).await;
        let second = stick(&alice, &room, "2", 300_000).await;
        assert_eq!(
            stuck(&polling.await.unwrap()),
            std::slice::from_ref(&second)
        );

        // With a token of its own, a new connection goes on from there.
        let since = &begun["extensions"][EXTENSION]["next_batch"];
        let on = json!({ "extensions": { EXTENSION: { "enabled": true, "since": since } } });
        let mut client = Client::named(&bob, "other");
        let told = client.sync(&on).await;
        assert_eq!(stuck(&told), std::slice::from_ref(&second));
        // What the timeline shows isn't repeated.
        let mut both = sliding::first(1);
        both["extensions"] = wanted["extensions"].clone();
        let told = Client::named(&bob, "third").sync(&both).await;
        assert_eq!(sliding::timeline(&told, &room), [second]);
        assert_eq!(stuck(&told), [first]);
    })
    .await;
}

/// Sliding sync goes on where an answer stopped, by the position alone; a socket without being woken.
#[tokio::test]
async fn who_was_away_gets_all_of_many_without_a_token_for_them() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = stream::listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let start = next(&bob.sync(None, "").await);
        let wanted = json!({ "extensions": { EXTENSION: { "enabled": true } } });
        let mut away = Client::named(&bob, "away");
        away.sync(&wanted).await;
        let mut sent = Vec::new();
        for n in 0..65 {
            sent.push(stick(&alice, &room, &format!("a{n}"), 3_600_000).await);
            sent.push(stick(&bob, &room, &format!("b{n}"), 3_600_000).await);
        }
        alice.say(&room, "not sticky").await;

        for mut client in [away, Client::of(&bob)] {
            let mut told = beside(&client.sync(&wanted).await, &room);
            assert_eq!(told.len(), 100);
            // What the connection says nothing of is what the position before says: the same again.
            let before = client.clone();
            told.extend(beside(&client.sync(&wanted).await, &room));
            assert_eq!(told, sent);
            assert_eq!(
                beside(&before.clone().sync(&wanted).await, &room),
                sent[100..]
            );
            assert!(beside(&client.sync(&wanted).await, &room).is_empty());
        }

        let few = filter(&json!({ "room": { "timeline": { "limit": 1 } } }));
        let mut socket = stream::connect(address, &bob, Some(&format!("{start}{few}"))).await;
        let mut told = Vec::new();
        while told.len() < sent.len() {
            told.extend(stuck(&stream::frame(&mut socket, "sync").await, &room));
        }
        assert_eq!(told, sent);
    })
    .await;
}
