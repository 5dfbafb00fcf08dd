//! What comes beside rooms.

use http::Method;
use serde_json::{Value, json};

use super::client::{Client, first, rooms};
use crate::{
    harness::{User, esc, story},
    to_device::{device_of, send},
};

fn with(mut body: Value, extensions: Value) -> Value {
    body["extensions"] = extensions;
    body
}

/// The rooms of an extension.
fn told(answer: &Value, kind: &str) -> Vec<String> {
    let rooms = answer["extensions"][kind]["rooms"].as_object();
    let rooms = rooms.map(|rooms| rooms.keys().cloned().collect());
    rooms.unwrap_or_default()
}

fn typing_path(room: &str, user: &User) -> String {
    format!("/rooms/{}/typing/{}", esc(room), esc(&user.id))
}

#[tokio::test]
async fn messages_to_the_device_come_until_their_token_is_shown() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let phone = device_of(&bob).await;
        let number = |n: u64| json!({ &bob.id: { &phone: { "n": n } } });
        send(&ada, "0", number(0)).await;
        let body = |since: Option<&Value>, limit: u64| {
            let mut wanted = json!({ "enabled": true, "limit": limit });
            if let Some(since) = since {
                wanted["since"] = since.clone();
            }
            json!({ "extensions": { "to_device": wanted } })
        };
        let numbers = |answer: &Value| -> Vec<u64> {
            let events = answer["extensions"]["to_device"]["events"]
                .as_array()
                .unwrap();
            events
                .iter()
                .map(|event| event["content"]["n"].as_u64().unwrap())
                .collect()
        };
        let next = |answer: &Value| answer["extensions"]["to_device"]["next_batch"].clone();
        let mut client = Client::named(&bob, "encryption");
        let answer = client.sync(&body(None, 100)).await;
        assert_eq!(numbers(&answer), [0]);
        // Not shown: it comes again, also where the connection goes on.
        assert_eq!(numbers(&client.sync(&body(None, 100)).await), [0]);
        let token = next(&answer);
        assert_eq!(
            numbers(&client.sync(&body(Some(&token), 100)).await),
            [0_u64; 0]
        );
        let polling = client.poll(&body(Some(&token), 100)).await;
        send(&ada, "1", number(1)).await;
        let answer = polling.await.unwrap();
        assert_eq!(numbers(&answer), [1]);
        // As many as are wanted at once, and the others at once.
        for n in 2..5 {
            send(&ada, &n.to_string(), number(n)).await;
        }
        let answer = client.sync(&body(Some(&next(&answer)), 2)).await;
        assert_eq!(numbers(&answer), [2, 3]);
        let answer = client.wait(&body(Some(&next(&answer)), 2), 170_000).await;
        assert_eq!(numbers(&answer), [4]);
        // A connection that begins has the token of the one before it.
        send(&ada, "5", number(5)).await;
        let mut begins = Client::named(&bob, "encryption");
        assert_eq!(
            numbers(&begins.sync(&body(Some(&next(&answer)), 100)).await),
            [5]
        );
        assert_eq!(
            numbers(&begins.sync(&body(None, 100)).await),
            [5],
            "4 was acknowledged"
        );
    })
    .await;
}

#[tokio::test]
async fn devices_and_keys_are_told_for_encryption() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        bob.join(&room).await;
        let body = json!({ "extensions": { "e2ee": { "enabled": true } } });
        let mut client = Client::of(&bob);
        let answer = client.sync(&body).await;
        let told = &answer["extensions"]["e2ee"];
        assert!(
            told["device_one_time_keys_count"].is_object() && told.get("device_lists").is_none(),
            "{told}"
        );
        assert_eq!(told["device_unused_fallback_key_types"], json!([]));
        let polling = client.poll(&body).await;
        ada.another_device().await;
        let answer = polling.await.unwrap();
        assert_eq!(
            answer["extensions"]["e2ee"]["device_lists"],
            json!({ "changed": [ada.id], "left": [] })
        );
        client.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        ada.leave(&room).await;
        let answer = client.sync(&body).await;
        assert_eq!(
            answer["extensions"]["e2ee"]["device_lists"],
            json!({ "changed": [], "left": [ada.id] })
        );
    })
    .await;
}

#[tokio::test]
async fn account_data_comes_whole_at_first_and_then_as_it_changes() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let (old, new) = (ada.create_public().await, ada.create_public().await);
        let set = async |path: &str, content: Value| {
            let path = format!("/user/{}/{path}", esc(&ada.id));
            ada.ok(Method::PUT, &path, content).await;
        };
        let of_room = |room: &str| format!("rooms/{}/account_data/m.tag", esc(room));
        set("account_data/org.example", json!({ "n": 1 })).await;
        set(&of_room(&old), json!({ "tags": { "a": {} } })).await;
        set(&of_room(&new), json!({ "tags": { "b": {} } })).await;
        let kinds = |answer: &Value| -> Vec<String> {
            let global = answer["extensions"]["account_data"]["global"].as_array();
            let kinds = global.into_iter().flatten();
            kinds
                .map(|event| event["type"].as_str().unwrap().to_owned())
                .collect()
        };
        let of_rooms = |answer: &Value| answer["extensions"]["account_data"]["rooms"].clone();
        let wanted = json!({ "account_data": { "enabled": true } });
        let mut client = Client::of(&ada);
        let answer = client.sync(&with(first(1), wanted.clone())).await;
        let mut global = kinds(&answer);
        global.sort();
        assert_eq!(global, ["m.push_rules", "org.example"]);
        let tag = |name: &str| json!([{ "type": "m.tag", "content": { "tags": { name: {} } } }]);
        assert_eq!(of_rooms(&answer), json!({ &new: tag("b") }));
        let answer = client.sync(&with(first(2), wanted.clone())).await;
        assert_eq!(
            (kinds(&answer).len(), of_rooms(&answer)),
            (0, json!({ &old: tag("a") }))
        );
        // A change of nothing but account data tells of no room.
        let polling = client.poll(&with(first(2), wanted.clone())).await;
        set(&of_room(&old), json!({ "tags": { "c": {} } })).await;
        let answer = polling.await.unwrap();
        assert_eq!(
            (of_rooms(&answer), rooms(&answer).len()),
            (json!({ &old: tag("c") }), 0)
        );
        client.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        set("account_data/org.example", json!({ "n": 2 })).await;
        assert_eq!(
            kinds(&client.sync(&with(first(2), wanted.clone())).await),
            ["org.example"]
        );
        // What changed outside of the window comes with its room.
        ada.say(&new, "up").await;
        client.sync(&with(first(1), wanted.clone())).await;
        set(&of_room(&old), json!({ "tags": { "d": {} } })).await;
        assert_eq!(
            of_rooms(&client.sync(&with(first(1), wanted.clone())).await),
            Value::Null
        );
        assert_eq!(
            of_rooms(&client.sync(&with(first(2), wanted)).await),
            json!({ &old: tag("d") })
        );
    })
    .await;
}

#[tokio::test]
async fn receipts_and_typing_come_for_the_rooms_that_they_are_wanted_of() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (one, two) = (ada.create_public().await, ada.create_public().await);
        bob.join(&one).await;
        bob.join(&two).await;
        let said = ada.say(&one, "hello").await;
        let read = |room: &str, kind: &str, event: &str| {
            format!("/rooms/{}/receipt/{kind}/{}", esc(room), esc(event))
        };
        bob.ok(
            Method::POST,
            &read(&one, "m.read.private", &said),
            json!({}),
        )
        .await;
        let nothing: Vec<String> = Vec::new();
        let all = json!({ "receipts": { "enabled": true }, "typing": { "enabled": true } });
        let mut client = Client::of(&ada);
        let answer = client.sync(&with(first(5), all.clone())).await;
        assert_eq!(
            (told(&answer, "receipts"), told(&answer, "typing")),
            (nothing.clone(), nothing.clone())
        );
        bob.ok(Method::POST, &read(&one, "m.read", &said), json!({}))
            .await;
        let answer = client.sync(&with(first(5), all.clone())).await;
        assert_eq!(
            (told(&answer, "receipts"), rooms(&answer).len()),
            (vec![one.clone()], 0)
        );
        let receipts = &answer["extensions"]["receipts"]["rooms"][&one];
        assert!(
            receipts["content"][&said]["m.read"][&bob.id]["ts"].is_u64(),
            "{receipts}"
        );
        let polling = client.poll(&with(first(5), all.clone())).await;
        bob.ok(
            Method::PUT,
            &typing_path(&two, &bob),
            json!({ "typing": true, "timeout": 60_000 }),
        )
        .await;
        let answer = polling.await.unwrap();
        let typing = &answer["extensions"]["typing"]["rooms"][&two];
        assert_eq!(typing["content"], json!({ "user_ids": [bob.id] }));
        // Rooms that are told as a whole bring both.
        let answer = Client::named(&ada, "begins")
            .sync(&with(first(5), all))
            .await;
        assert_eq!(
            (told(&answer, "receipts"), told(&answer, "typing")),
            (vec![one.clone()], vec![two.clone()])
        );
    })
    .await;
}

#[tokio::test]
async fn an_extension_is_of_the_lists_and_rooms_that_it_names() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let two = ada.create_public().await;
        bob.join(&two).await;
        let one = ada.create_public().await;
        let typing = json!({ "typing": true, "timeout": 60_000 });
        bob.ok(Method::PUT, &typing_path(&two, &bob), typing).await;
        // Lists and rooms by name.
        let scoped = |lists: Value, rooms: Value| {
            let mut body = first(1);
            let wanted = json!({ "timeline_limit": 0, "required_state": [] });
            body["room_subscriptions"] = json!({ &two: wanted, &one: wanted });
            with(
                body,
                json!({ "typing": { "enabled": true, "lists": lists, "rooms": rooms } }),
            )
        };
        for (lists, rooms, expected) in [
            (json!([]), json!([]), vec![]),
            (json!([]), json!(["*"]), vec![two.clone()]),
            (json!([]), json!([two]), vec![two.clone()]),
            (json!([]), json!([one]), vec![]),
            (json!(["other"]), json!([]), vec![]),
            (Value::Null, Value::Null, vec![two.clone()]),
        ] {
            let answer = Client::named(&ada, "scoped")
                .sync(&scoped(lists.clone(), rooms.clone()))
                .await;
            assert_eq!(told(&answer, "typing"), expected, "{lists} {rooms}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_ignored_is_not_heard_of() {
    story(|server| async move {
        let (ada, eve) = (server.register("ada").await, server.register("eve").await);
        let room = ada.create_public().await;
        eve.join(&room).await;
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&ada.id));
        ada.ok(
            Method::PUT,
            &path,
            json!({ "ignored_users": { &eve.id: {} } }),
        )
        .await;
        eve.create(json!({ "invite": [ada.id] })).await;
        let mut client = Client::of(&ada);
        let body = with(first(5), json!({ "typing": { "enabled": true } }));
        assert_eq!(rooms(&client.sync(&body).await), [&room]);
        eve.say(&room, "hear me").await;
        eve.ok(
            Method::PUT,
            &typing_path(&room, &eve),
            json!({ "typing": true, "timeout": 60_000 }),
        )
        .await;
        let answer = client.sync(&body).await;
        assert!(!answer.to_string().contains("hear me"), "{answer}");
        assert_ne!(
            answer["extensions"]["typing"]["rooms"][&room]["content"]["user_ids"],
            json!([eve.id])
        );
    })
    .await;
}

#[tokio::test]
async fn an_invite_is_told_when_its_sender_is_ignored_no_more() {
    story(|server| async move {
        let (ada, eve) = (server.register("ada").await, server.register("eve").await);
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&ada.id));
        let ignore = async |users: Value| {
            ada.ok(Method::PUT, &path, json!({ "ignored_users": users }))
                .await;
        };
        ignore(json!({ &eve.id: {} })).await;
        let mut client = Client::of(&ada);
        client.sync(&first(5)).await;
        let invite = eve.create(json!({ "invite": [ada.id] })).await;
        for _ in 0..2 {
            assert_eq!(client.sync(&first(5)).await["rooms"], json!({}));
        }
        ignore(json!({})).await;
        let answer = client.sync(&first(5)).await;
        assert_eq!(rooms(&answer), [&invite]);
        assert!(answer["rooms"][&invite]["invite_state"].is_array());
        assert_eq!(client.sync(&first(5)).await["rooms"], json!({}));
        // The same of one that comes after they were told of the room.
        ada.leave(&invite).await;
        client.sync(&first(5)).await;
        ignore(json!({ &eve.id: {} })).await;
        eve.invite(&invite, &ada).await;
        for _ in 0..2 {
            assert_eq!(client.sync(&first(5)).await["rooms"], json!({}));
        }
        ignore(json!({})).await;
        let answer = client.sync(&first(5)).await;
        assert_eq!(rooms(&answer), [&invite]);
    })
    .await;
}
