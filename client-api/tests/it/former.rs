//! What clients asked before there was `/sync`, and what those ask who look at rooms from outside.

use http::{Method, StatusCode};
use rhizome_storage::testing::{eventually, soon};
use serde_json::{Value, json};

use crate::harness::{User, esc, events, ids, next, story};

async fn ignore(user: &User, whom: &User) {
    let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&user.id));
    let list = json!({ "ignored_users": { &whom.id: {} } });
    user.ok(Method::PUT, &path, list).await;
}

/// `/events` from a token on, which needn't wait.
async fn now(user: &User, from: &str, more: &str) -> Value {
    user.read(&format!("/events?from={from}&timeout=0{more}"))
        .await
}

fn end(answer: &Value) -> &str {
    answer["end"].as_str().unwrap()
}

fn chunk(answer: &Value) -> Vec<String> {
    ids(&events(answer, &["chunk"]))
}

/// What an answer of `/initialSync` says of a room.
fn of_room<'a>(answer: &'a Value, room: &str) -> &'a Value {
    let rooms = answer["rooms"].as_array().unwrap().iter();
    let mut found = rooms.filter(|told| told["room_id"] == room);
    found.next().unwrap_or(&Value::Null)
}

#[tokio::test]
async fn all_rooms_are_told_as_they_are() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice
            .create(json!({ "preset": "public_chat", "visibility": "public", "name": "Open" }))
            .await;
        let (left, banned) = (alice.create_public().await, alice.create_public().await);
        let invited = alice.create(json!({ "preset": "private_chat" })).await;
        for room in [&room, &left, &banned] {
            bob.join(room).await;
        }
        alice.invite(&invited, &bob).await;
        bob.leave(&left).await;
        let ban = json!({ "user_id": bob.id });
        let path = format!("/rooms/{}/ban", esc(&banned));
        alice.ok(Method::POST, &path, ban).await;
        let tags = format!(
            "/user/{}/rooms/{}/account_data/m.tag",
            esc(&bob.id),
            esc(&room)
        );
        bob.ok(Method::PUT, &tags, json!({ "tags": { "work": {} } }))
            .await;
        let mut said = Vec::new();
        for n in 0..3 {
            said.push(alice.say(&room, &n.to_string()).await);
        }

        let answer = bob.read("/initialSync?limit=2").await;
        let told = of_room(&answer, &room);
        assert_eq!(told["membership"], "join");
        assert_eq!(told["visibility"], "public");
        assert_eq!(chunk(&told["messages"]), said[1..]);
        assert_eq!(told["account_data"][0]["type"], "m.tag");
        let state = events(told, &["state"]);
        assert!(state.iter().any(|event| event["content"]["name"] == "Open"));
        assert!(state.iter().all(|event| event["room_id"] == *room));
        // Where it began, paging goes on.
        let start = told["messages"]["start"].as_str().unwrap();
        let path = format!("/rooms/{}/messages?dir=b&limit=1&from={start}", esc(&room));
        assert_eq!(chunk(&bob.read(&path).await), said[..1]);
        let invite = of_room(&answer, &invited);
        assert_eq!(invite["membership"], "invite");
        assert_eq!(invite["invite"]["state_key"], bob.id.as_str());
        assert_eq!(of_room(&answer, &left), &Value::Null);

        let answer = bob.read("/initialSync?archived=true").await;
        assert_eq!(of_room(&answer, &left)["membership"], "leave");
        assert_eq!(of_room(&answer, &banned)["membership"], "ban");
        for query in ["limit=x", "limit=-1", "archived=maybe"] {
            let (status, error) = bob.get(&format!("/initialSync?{query}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn news_come_one_after_the_other() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        eve.join(&room).await;
        ignore(&bob, &eve).await;
        let from = end(&bob.read("/initialSync").await).to_owned();
        let nothing = now(&bob, &from, "").await;
        assert!(chunk(&nothing).is_empty(), "{nothing}");

        // More than an answer holds: nothing is left out.
        let mut said = Vec::new();
        for n in 0..130 {
            said.push(alice.say(&room, &n.to_string()).await);
            if n % 40 == 0 {
                eve.say(&room, "unheard").await;
            }
        }
        let first = now(&bob, end(&nothing), "").await;
        assert_eq!(first["start"], nothing["end"]);
        let second = now(&bob, end(&first), "").await;
        let mut heard = chunk(&first);
        heard.extend(chunk(&second));
        assert_eq!(heard, said);
        assert_eq!(first["chunk"][0]["room_id"], room.as_str());

        // What was there when somebody came is no news, what happens to them is.
        let other = alice.create_public().await;
        alice.say(&other, "before").await;
        bob.join(&other).await;
        let news = now(&bob, end(&second), "").await;
        let joined = chunk(&news);
        assert_eq!(joined.len(), 1, "{news}");
        assert_eq!(news["chunk"][0]["content"]["membership"], "join");
        let closed = alice.create(json!({ "preset": "private_chat" })).await;
        alice.invite(&closed, &bob).await;
        let last = alice.say(&other, "while there").await;
        bob.leave(&other).await;
        alice.say(&other, "after").await;
        let news = now(&bob, end(&news), "").await;
        let memberships: Vec<_> = events(&news, &["chunk"])
            .iter()
            .filter_map(|event| event["content"]["membership"].as_str())
            .collect();
        assert_eq!(memberships, ["invite", "leave"], "{news}");
        assert!(chunk(&news).contains(&last));
        assert_eq!(chunk(&news).len(), 3);
        for query in ["from=nonsense", "timeout=x", "room_id=x"] {
            let (status, error) = bob.get(&format!("/events?{query}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_waits_is_told_at_once() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let from = end(&bob.read("/initialSync").await).to_owned();
        let waits = || server.store.counters().now().waits;
        let before = waits();
        let polling = {
            let (bob, path) = (bob.clone(), format!("/events?from={from}&timeout=170000"));
            tokio::spawn(async move { bob.read(&path).await })
        };
        eventually("the poll waits", async || waits() > before).await;
        let said = alice.say(&room, "now").await;
        let news = soon("the news", polling).await.unwrap();
        assert_eq!(chunk(&news), [said]);
    })
    .await;
}

/// Whoever was told by these that messages are there for their device hasn't got them.
#[tokio::test]
async fn messages_to_devices_stay_until_sync_tells_them() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let send = json!({ "messages": { &bob.id: { "*": { "key": 1 } } } });
        alice.ok(Method::PUT, "/sendToDevice/m.test/1", send).await;
        let first = bob.read("/initialSync").await;
        let then = now(&bob, end(&first), "").await;
        now(&bob, end(&then), "").await;
        let told = bob.sync(Some(end(&then)), "").await;
        assert_eq!(events(&told, &["to_device", "events"]).len(), 1, "{told}");
        let again = bob.sync(Some(&next(&told)), "").await;
        assert!(events(&again, &["to_device", "events"]).is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_room_is_looked_at_from_outside() {
    story(|server| async move {
        let (alice, eve) = (server.register("alice").await, server.register("eve").await);
        let open = json!([{ "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": "world_readable" } }]);
        let request = json!({ "preset": "private_chat", "initial_state": open });
        let room = alice.create(request).await;
        let first = alice.say(&room, "first").await;
        let path = format!("/rooms/{}/initialSync", esc(&room));
        let seen = eve.read(&path).await;
        assert_eq!(seen.get("membership"), None);
        assert_eq!(seen["visibility"], "private");
        assert_eq!(chunk(&seen["messages"]).last(), Some(&first));
        assert!(!events(&seen, &["state"]).is_empty());
        assert_eq!(alice.read(&path).await["membership"], "join");

        let at = format!("&room_id={}", esc(&room));
        let from = end(&seen["messages"]).to_owned();
        let polling = {
            let (eve, path) = (
                eve.clone(),
                format!("/events?from={from}&timeout=170000{at}"),
            );
            tokio::spawn(async move { eve.read(&path).await })
        };
        let second = alice.say(&room, "second").await;
        let news = soon("the news", polling).await.unwrap();
        assert_eq!(chunk(&news), [second]);
        // Of all rooms of hers: none.
        assert!(chunk(&now(&eve, &from, "").await).is_empty());
        let hidden = json!({ "history_visibility": "shared" });
        alice
            .set_state(&room, "m.room.history_visibility", "", hidden)
            .await;
        for path in [path, format!("/events?from={from}&timeout=0{at}")] {
            let (status, error) = eve.get(&path).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_is_found_by_its_id_alone() {
    story(|server| async move {
        let (alice, eve) = (server.register("alice").await, server.register("eve").await);
        let room = alice.create_public().await;
        let said = alice.say(&room, "here").await;
        let path = format!("/events/{}", esc(&said));
        let found = alice.read(&path).await;
        assert_eq!(found["event_id"], said.as_str());
        assert_eq!(found["room_id"], room.as_str());
        assert_eq!(eve.get(&path).await.0, StatusCode::NOT_FOUND);
        let (status, _) = alice.get(&format!("/events/{}", esc("$nothing"))).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    })
    .await;
}
