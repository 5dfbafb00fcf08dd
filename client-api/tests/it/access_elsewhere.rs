//! Who may see what, by the ways of reading that aren't `/sync`'s and `/messages`': they give the answer that those give.

use http::{Method, StatusCode};
use rhizome_storage::{Store, testing::each_database};
use serde_json::{Value, json};

use crate::access::{READERS, STAGES, Told, may_read, may_see};
use crate::e2ee::several::several;
use crate::harness::{Server, User, esc, events, ids, story};
use crate::spaces::{get, put, rooms, space};

/// The status by which a room is refused, or an event in it.
const REFUSED: [StatusCode; 2] = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];

fn chunk(answer: &Value) -> Vec<&Value> {
    events(answer, &["chunk"])
}

/// Each event by its id alone, and the nearest one to when it was sent.
async fn look_up(reader: &User, told: &Told, times: &[i64], visible: &[String], who: &str) {
    for (id, ts) in told.all().into_iter().zip(times) {
        let (status, _) = reader.get(&format!("/events/{}", esc(id))).await;
        assert_eq!(status.is_success(), visible.contains(id), "{id}: {who}");
        for dir in ["f", "b"] {
            let path = told.path(&format!("timestamp_to_event?ts={ts}&dir={dir}"));
            let (status, nearest) = get(reader, &path).await;
            if !status.is_success() {
                assert!(REFUSED.contains(&status), "{nearest}: {who}");
                assert!(!visible.contains(id), "moment: {who}");
                continue;
            }
            // What is named can be read; and nothing is nearer than what was sent then.
            let named = nearest["event_id"].as_str().unwrap();
            reader
                .read(&told.path(&format!("event/{}", esc(named))))
                .await;
            if visible.contains(id) {
                assert_eq!(nearest["origin_server_ts"], *ts, "moment: {who}");
            }
        }
    }
}

async fn look_in(
    reader: &User,
    told: &Told,
    from: &str,
    (readable, visible): (bool, &[String]),
    who: &str,
) {
    let (status, seen) = reader.get(&told.path("initialSync")).await;
    assert_eq!(status.is_success(), readable, "initialSync: {who}");
    let shown = told.among(&events(&seen, &["messages", "chunk"]));
    assert!(visible.ends_with(&shown), "initialSync: {who}: {shown:?}");
    if readable {
        assert_eq!(shown.is_empty(), visible.is_empty(), "initialSync: {who}");
    }

    let path = format!("/events?timeout=0&from={from}&room_id={}", esc(&told.room));
    let (status, news) = reader.get(&path).await;
    assert_eq!(status.is_success(), readable, "events: {who}");
    assert_eq!(told.among(&chunk(&news)), visible, "events: {who}");
    // Of all rooms: those that they are in, or from which they have gone since.
    let news = reader.read(&format!("/events?timeout=0&from={from}")).await;
    let shown = told.among(&chunk(&news));
    assert!(
        shown.iter().all(|id| visible.contains(id)),
        "all events: {who}"
    );
    if who.contains("J in ") {
        assert_eq!(shown.last(), visible.last(), "all events: {who}");
    }
}

#[tokio::test]
async fn other_ways_of_reading_give_the_same_answer() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let mut readers = Vec::new();
        for (name, _) in READERS {
            readers.push(server.register(name).await);
        }
        for visibility in ["world_readable", "shared", "invited", "joined"] {
            let from = alice.read("/initialSync?limit=0").await["end"].clone();
            let from = from.as_str().unwrap();
            let told = Told::of(&alice, &readers, visibility).await;
            let mut times = Vec::new();
            for id in told.all() {
                let event = alice.read(&told.path(&format!("event/{}", esc(id)))).await;
                times.push(event["origin_server_ts"].as_i64().unwrap());
            }
            for (reader, (name, at)) in readers.iter().zip(READERS) {
                let who = format!("{name} {at} in {visibility}");
                let readable = may_read(visibility, at);
                let stages =
                    (0..STAGES).filter(|stage| readable && may_see(visibility, at, *stage));
                let visible: Vec<String> = stages
                    .flat_map(|stage| [told.topics[stage].clone(), told.said[stage].clone()])
                    .collect();
                look_up(reader, &told, &times, &visible, &who).await;
                look_in(reader, &told, from, (readable, &visible), &who).await;
            }
        }
    })
    .await;
}

/// Whoever isn't in a room, by what they are otherwise: a guest, one who knocks. They read what everybody may.
#[tokio::test]
async fn who_is_outside_reads_what_everybody_may() {
    each_database(async |store: Store| {
        let server = Server::with(store, |config| config.guests = true);
        let alice = server.register("alice").await;
        let knocker = server.register("knocker").await;
        let path = "/_matrix/client/v3/register?kind=guest";
        let (_, answer) = server.request(Method::POST, path, None, Some(json!({}))).await;
        let guest = User {
            server: server.clone(),
            id: answer["user_id"].as_str().unwrap().to_owned(),
            token: answer["access_token"].as_str().unwrap().to_owned(),
        };
        for visibility in ["world_readable", "shared", "invited", "joined"] {
            let state = json!([
                { "type": "m.room.history_visibility", "state_key": "",
                    "content": { "history_visibility": visibility } },
                { "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } },
            ]);
            let request = json!({ "preset": "private_chat", "initial_state": state });
            let room = alice.create(request).await;
            let said = alice.say(&room, "inside").await;
            let knock = format!("/knock/{}", esc(&room));
            knocker.ok(Method::POST, &knock, json!({})).await;
            let open = visibility == "world_readable";
            let of_room = |what: &str| format!("/rooms/{}/{what}", esc(&room));
            for reader in [&guest, &knocker] {
                for path in [
                    of_room("initialSync"),
                    of_room("state"),
                    of_room("messages?dir=b"),
                    of_room(&format!("event/{}", esc(&said))),
                    of_room(&format!("context/{}", esc(&said))),
                    format!("/events?timeout=0&room_id={}", esc(&room)),
                ] {
                    let (status, answer) = reader.get(&path).await;
                    assert_eq!(status.is_success(), open, "{visibility} {path}: {answer}");
                }
            }
            let moment = format!("/rooms/{}/timestamp_to_event?ts=0&dir=f", esc(&room));
            assert_eq!(get(&knocker, &moment).await.0.is_success(), open);
            let (status, _) = knocker.get(&format!("/events/{}", esc(&said))).await;
            assert_eq!(status.is_success(), open);
            // What the room is, who knocks is told.
            let summary = format!("/room_summary/{}", esc(&room));
            assert_eq!(get(&knocker, &summary).await.1["membership"], "knock");
            assert_eq!(get(&guest, &summary).await.0, StatusCode::OK);
        }
    })
    .await;
}

/// Users of another server that isn't in a room read nothing of it, and are told what it is.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_elsewhere_is_told_what_a_room_is() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let hall = space(&alice, json!({ "room_version": "11" })).await;
        let room = alice
            .create(json!({ "preset": "public_chat", "room_version": "11" }))
            .await;
        put(&alice, &hall, &room, json!({})).await;
        let said = alice.say(&room, "inside").await;
        for path in [
            format!("/rooms/{}/initialSync", esc(&room)),
            format!("/events?timeout=0&room_id={}", esc(&room)),
            format!("/events/{}", esc(&said)),
        ] {
            let (status, error) = bob.get(&path).await;
            assert!(REFUSED.contains(&status), "{path}: {error}");
        }
        let moment = format!("/rooms/{}/timestamp_to_event?ts=0&dir=f", esc(&room));
        assert_eq!(get(&bob, &moment).await.0, StatusCode::FORBIDDEN);
        let (status, page) = get(&bob, &format!("/rooms/{}/hierarchy", esc(&hall))).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert_eq!(rooms(&page), [&hall, &room]);
    })
    .await;
}

/// What those say whom the reader ignores isn't told by any of them; what they change is.
#[tokio::test]
async fn who_is_ignored_is_not_heard() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&bob.id));
        let list = json!({ "ignored_users": { &alice.id: {} } });
        bob.ok(Method::PUT, &path, list).await;
        let from = bob.read("/initialSync").await["end"].clone();
        let from = from.as_str().unwrap();
        alice.say(&room, "unheard").await;
        let name = json!({ "name": "Changed" });
        let changed = alice.set_state(&room, "m.room.name", "", name).await;
        for more in [String::new(), format!("&room_id={}", esc(&room))] {
            let news = bob
                .read(&format!("/events?timeout=0&from={from}{more}"))
                .await;
            assert_eq!(ids(&chunk(&news)), [&*changed], "{news}");
        }
        let seen = bob
            .read(&format!("/rooms/{}/initialSync", esc(&room)))
            .await;
        let shown = ids(&events(&seen, &["messages", "chunk"]));
        assert_eq!(shown.last(), Some(&changed));
        let kinds = events(&seen, &["messages", "chunk"]);
        assert!(kinds.iter().all(|event| event["type"] != "m.room.message"));
    })
    .await;
}
