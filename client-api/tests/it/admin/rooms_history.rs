//! What happened in rooms where an administrator never was.

use serde_json::{Value, json};

use super::{administrator, get, post};
use crate::asking::{START_MS, User, each_server, encoded, text};

fn of_room(room: &str, what: &str) -> String {
    format!("/v1/rooms/{}{what}", encoded(room))
}

/// A room in which nobody sees what was before them.
async fn closed(user: &User) -> String {
    let visibility = json!({
        "type": "m.room.history_visibility", "state_key": "",
        "content": { "history_visibility": "joined" },
    });
    let request = json!({ "preset": "private_chat", "initial_state": [visibility] });
    user.create_room(request).await
}

fn bodies(events: &Value) -> Vec<String> {
    let events = events.as_array().unwrap().iter();
    let said = events.filter(|event| event["type"] == "m.room.message");
    said.map(|event| event["content"]["body"].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[tokio::test]
async fn an_administrator_reads_what_the_server_holds() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let room = closed(&ada).await;
        let mut said = Vec::new();
        for words in ["one", "two", "three"] {
            said.push(ada.say(&room, words).await);
        }
        let path = format!("/rooms/{}/messages?dir=b", encoded(&room));
        boss.get(&path).await.fails(403, "M_FORBIDDEN");

        let page = get(&boss, &of_room(&room, "/messages?dir=b&limit=2"))
            .await
            .ok();
        assert_eq!(bodies(&page["chunk"]), ["three", "two"]);
        // They aren't there.
        assert_eq!(page["chunk"][0]["unsigned"].get("membership"), None);
        let end = text(&page["end"]);
        let next = format!("/messages?dir=b&limit=1&from={end}");
        let page = get(&boss, &of_room(&room, &next)).await.ok();
        assert_eq!(bodies(&page["chunk"]), ["one"]);
        let first = get(&boss, &of_room(&room, "/messages?limit=1")).await.ok();
        assert_eq!(first["chunk"][0]["type"], "m.room.create");
        let filter = encoded(&json!({ "types": ["m.room.message"] }).to_string());
        let some = format!("/messages?limit=100&filter={filter}");
        let some = get(&boss, &of_room(&room, &some)).await.ok();
        assert_eq!(bodies(&some["chunk"]), ["one", "two", "three"]);
        assert_eq!(some["chunk"].as_array().unwrap().len(), 3);

        let around = format!("/context/{}?limit=2", encoded(&said[1]));
        let around = get(&boss, &of_room(&room, &around)).await.ok();
        assert_eq!(around["event"]["content"]["body"], "two");
        assert_eq!(bodies(&around["events_before"]), ["one"]);
        assert_eq!(bodies(&around["events_after"]), ["three"]);
        assert!(!around["state"].as_array().unwrap().is_empty());

        let nearest = format!("/timestamp_to_event?ts={}&dir=b", START_MS + 1_000_000_000);
        let nearest = get(&boss, &of_room(&room, &nearest)).await.ok();
        assert_eq!(nearest["event_id"], json!(said[2]));
        for (what, status, code) in [
            ("/messages?limit=x", 400, "M_INVALID_PARAM"),
            ("/messages?dir=up", 400, "M_INVALID_PARAM"),
            ("/messages?from=nonsense", 400, "M_INVALID_PARAM"),
            ("/messages?filter=%7B", 400, "M_INVALID_PARAM"),
            ("/context/nonsense", 400, "M_INVALID_PARAM"),
            ("/context/%24none", 404, "M_NOT_FOUND"),
            ("/timestamp_to_event", 400, "M_MISSING_PARAM"),
            ("/timestamp_to_event?ts=0&dir=b", 404, "M_NOT_FOUND"),
        ] {
            let answer = get(&boss, &of_room(&room, what)).await;
            answer.fails(status, code);
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_erased_or_redacted_is_no_administrators_either() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        bob.join(&room).await;
        let (erased, redacted) = (bob.say(&room, "gone").await, ada.say(&room, "oh").await);
        let path = format!("/rooms/{}/redact/{}/1", encoded(&room), encoded(&redacted));
        ada.put(&path, json!({})).await.ok();
        let path = format!("/v1/deactivate/{}", encoded(&bob.id));
        post(&boss, &path, json!({ "erase": true })).await.ok();
        let page = get(&boss, &of_room(&room, "/messages?limit=100"))
            .await
            .ok();
        assert_eq!(bodies(&page["chunk"]), ["-", "-"]);
        for event in [erased, redacted] {
            let path = format!("/v1/fetch_event/{}", encoded(&event));
            let event = get(&boss, &path).await.ok();
            assert_eq!(event["event"]["content"], json!({}));
        }
    })
    .await;
}

#[tokio::test]
async fn an_administrator_sees_what_a_space_holds() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let space = json!({ "name": "Space", "creation_content": { "type": "m.space" } });
        let space = ada.create_room(space).await;
        let room = closed(&ada).await;
        for child in [&*room, "!far:elsewhere.test"] {
            let via = json!({ "via": ["elsewhere.test"] });
            ada.set_state(&space, "m.space.child", child, via)
                .await
                .ok();
        }
        let all = get(&boss, &of_room(&space, "/hierarchy")).await.ok();
        let ids = |page: &Value| {
            let rooms = page["rooms"].as_array().unwrap().iter();
            rooms.map(|room| text(&room["room_id"])).collect::<Vec<_>>()
        };
        // Of rooms elsewhere nobody is asked.
        assert_eq!(ids(&all), [space.clone(), room.clone()]);
        assert_eq!(all.get("next_batch"), None);
        let first = get(&boss, &of_room(&space, "/hierarchy?limit=1"))
            .await
            .ok();
        assert_eq!(ids(&first), std::slice::from_ref(&space));
        let next = format!("/hierarchy?from={}", text(&first["next_batch"]));
        let rest = get(&boss, &of_room(&space, &next)).await.ok();
        assert_eq!(ids(&rest), [room]);
        for (what, status, code) in [
            ("/hierarchy?limit=0", 400, "M_INVALID_PARAM"),
            ("/hierarchy?max_depth=-1", 400, "M_INVALID_PARAM"),
            ("/hierarchy?from=x", 400, "M_INVALID_PARAM"),
        ] {
            get(&boss, &of_room(&space, what)).await.fails(status, code);
        }
        let none = of_room("!none:here.test", "/hierarchy");
        get(&boss, &none).await.fails(404, "M_NOT_FOUND");
    })
    .await;
}
