//! What somebody says whom the reader ignores is told by no way of reading; and what else it may change isn't, either.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    harness::{User, esc, story},
    sliding::client::Client,
};

/// A word that only the ignored one says.
const WORD: &str = "unhearable";

async fn ignore(user: &User, whom: &[&User]) {
    let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&user.id));
    let users = whom.iter().map(|one| (one.id.clone(), json!({})));
    let list: serde_json::Map<String, Value> = users.collect();
    user.ok(Method::PUT, &path, json!({ "ignored_users": list }))
        .await;
}

/// Everything that somebody can say in a room.
async fn says(eve: &User, room: &str, root: &str) -> String {
    let said = eve.say(room, WORD).await;
    let related = |kind: &str| json!({ "rel_type": kind, "event_id": root });
    let text =
        |relation: Value| json!({ "msgtype": "m.text", "body": WORD, "m.relates_to": relation });
    eve.send(room, "m.room.message", text(related("m.thread")))
        .await;
    eve.send(room, "m.room.message", text(related("m.reference")))
        .await;
    let mut reaction = related("m.annotation");
    reaction["key"] = WORD.into();
    let reaction = json!({ "m.relates_to": reaction });
    eve.send(room, "m.reaction", reaction).await;
    let began = eve.say(room, WORD).await;
    let mut thread = text(related("m.thread"));
    thread["m.relates_to"]["event_id"] = began.into();
    eve.send(room, "m.room.message", thread).await;
    let typing = format!("/rooms/{}/typing/{}", esc(room), esc(&eve.id));
    eve.ok(
        Method::PUT,
        &typing,
        json!({ "typing": true, "timeout": 60_000 }),
    )
    .await;
    let receipt = format!("/rooms/{}/receipt/m.read/{}", esc(room), esc(root));
    eve.ok(Method::POST, &receipt, json!({})).await;
    said
}

/// All that a reader can read of a room, by the name of the way.
async fn read(reader: &User, room: &str, root: &str, from: &str) -> Vec<(String, Value)> {
    let (room, root) = (esc(room), esc(root));
    let mut told = Vec::new();
    for path in [
        format!("/v3/rooms/{room}/messages?dir=b&limit=100"),
        format!("/v3/rooms/{room}/messages?dir=f&limit=100"),
        format!("/v3/rooms/{room}/context/{root}?limit=100"),
        format!("/v3/rooms/{room}/event/{root}"),
        format!("/v3/rooms/{room}/initialSync"),
        format!("/v1/rooms/{room}/relations/{root}?recurse=true"),
        format!("/v1/rooms/{room}/relations/{root}/m.thread"),
        format!("/v1/rooms/{room}/threads"),
        format!("/v1/rooms/{room}/threads?include=participated"),
        "/v3/notifications".to_owned(),
        "/v3/initialSync".to_owned(),
        format!("/v3/events?timeout=0&from={from}"),
        format!("/v3/events?timeout=0&from={from}&room_id={room}"),
        "/v3/sync".to_owned(),
        "/v3/sync?use_state_after=true".to_owned(),
    ] {
        let full = format!("/_matrix/client{path}");
        let (server, token) = (&reader.server, Some(reader.token.as_str()));
        let (status, answer) = server.request(Method::GET, &full, token, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        told.push((path, answer));
    }
    let search = json!({ "search_categories": { "room_events": {
        "search_term": WORD, "order_by": "recent",
    } } });
    told.push((
        "/search".to_owned(),
        reader.ok(Method::POST, "/search", search).await,
    ));
    let around = json!({ "search_categories": { "room_events": {
        "search_term": "root", "event_context": { "before_limit": 9, "after_limit": 9 },
    } } });
    told.push((
        "/search around".to_owned(),
        reader.ok(Method::POST, "/search", around).await,
    ));
    let list = json!({
        "lists": { "all": { "ranges": [[0, 9]], "required_state": [], "timeline_limit": 50 } },
        "extensions": {
            "typing": { "enabled": true }, "receipts": { "enabled": true },
            "to_device": { "enabled": true },
        },
    });
    told.push(("sliding".to_owned(), Client::of(reader).sync(&list).await));
    told
}

#[tokio::test]
async fn who_is_ignored_is_told_of_nowhere() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let (bob, eve) = (server.register("bob").await, server.register("eve").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        eve.join(&room).await;
        let from = alice.read("/initialSync?limit=0").await["end"].clone();
        let from = from.as_str().unwrap();
        ignore(&alice, &[&eve]).await;
        let root = bob.say(&room, "root").await;
        let said = says(&eve, &room, &root).await;
        let device = json!({ "messages": { &alice.id: { "*": { "text": WORD } } } });
        eve.ok(Method::PUT, "/sendToDevice/m.text/1", device).await;
        eve.create(json!({ "invite": [alice.id], "name": WORD }))
            .await;
        bob.say(&room, "heard").await;
        // Who indexes what was said does it beside: search finds it for who ignores nobody.
        let heard = async |reader: &User| read(reader, &room, &root, from).await;
        for (way, answer) in heard(&alice).await {
            // What is searched for is said again.
            let mut answer = answer;
            if let Some(found) = answer["search_categories"]["room_events"].as_object_mut() {
                found.remove("highlights");
            }
            let text = answer.to_string();
            assert!(!text.contains(WORD), "{way}: {answer}");
        }
        let sync = alice.sync(None, "").await;
        let ephemeral = &sync["rooms"]["join"][&room]["ephemeral"];
        assert!(!ephemeral.to_string().contains(&eve.id), "{ephemeral}");
        assert!(
            sync["presence"]["events"]
                .to_string()
                .find(&eve.id)
                .is_none(),
            "{sync}"
        );
        let counts = &sync["rooms"]["join"][&room]["unread_notifications"];
        assert_eq!(counts["notification_count"], 2, "bob's: {counts}");
        for path in [
            format!("/rooms/{}/event/{}", esc(&room), esc(&said)),
            format!("/rooms/{}/context/{}", esc(&room), esc(&said)),
            format!("/events/{}", esc(&said)),
        ] {
            assert_eq!(alice.get(&path).await.0, StatusCode::NOT_FOUND, "{path}");
            assert!(bob.read(&path).await.to_string().contains(WORD), "{path}");
        }
        // It can be reported all the same.
        let report = format!("/rooms/{}/report/{}", esc(&room), esc(&said));
        alice.ok(Method::POST, &report, json!({})).await;
        // Bob hears all of it.
        let bobs = heard(&bob).await;
        let hears = bobs
            .iter()
            .filter(|(_, answer)| answer.to_string().contains(WORD));
        assert!(hears.count() >= 10, "{bobs:?}");
    })
    .await;
}
