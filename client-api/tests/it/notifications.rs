//! `GET /notifications`: what users were notified of.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    harness::{User, esc, story},
    unread::{message, read, related, rule, two},
};

async fn page(user: &User, query: &str) -> (Vec<Value>, Option<String>) {
    let answer = user.read(&format!("/notifications?{query}")).await;
    let next = answer.get("next_token");
    let next = next.map(|next| next.as_str().unwrap().to_owned());
    (answer["notifications"].as_array().unwrap().clone(), next)
}

/// The ids of all notifications, over pages of two.
async fn all(user: &User, more: &str) -> Vec<String> {
    let (mut ids, mut from) = (Vec::new(), String::new());
    loop {
        let (page, next) = page(user, &format!("limit=2{from}{more}")).await;
        assert!(page.len() <= 2);
        ids.extend(page.iter().map(id));
        let Some(next) = next else {
            return ids;
        };
        from = format!("&from={next}");
    }
}

fn id(notification: &Value) -> String {
    notification["event"]["event_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn who_is_notified_finds_it_newest_first_over_all_rooms() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let other = alice.create_public().await;
        bob.join(&other).await;
        assert_eq!(page(&bob, "").await, (Vec::new(), None));
        let mut sent = Vec::new();
        for n in 0..5 {
            let room = if n % 2 == 0 { &room } else { &other };
            sent.push(alice.say(room, "hi").await);
            bob.say(room, "not to be notified of").await;
        }
        let mention = message("you", json!({ "m.mentions": { "user_ids": [bob.id] } }));
        let mention = alice.send(&room, "m.room.message", mention).await;
        sent.push(mention.clone());
        alice
            .send(&room, "m.reaction", related("m.annotation", &mention))
            .await;
        sent.reverse();
        assert_eq!(all(&bob, "").await, sent);
        assert_eq!(
            all(&bob, "&only=highlight").await,
            std::slice::from_ref(&mention)
        );
        let (first, next) = page(&bob, "limit=1").await;
        assert!(next.is_some());
        let first = &first[0];
        assert_eq!(id(first), mention);
        assert_eq!(first["room_id"], json!(room));
        assert_eq!(first["ts"], first["event"]["origin_server_ts"]);
        assert_eq!(first["event"].get("room_id"), None);
        assert_eq!(first["event"]["content"]["body"], "you");
        let sound = json!({ "set_tweak": "sound", "value": "default" });
        let actions = json!(["notify", sound, { "set_tweak": "highlight" }]);
        assert_eq!(
            (&first["actions"], &first["read"]),
            (&actions, &json!(false))
        );
        // In a room of two every message has a sound.
        let (second, _) = page(&bob, &format!("from={}", next.unwrap())).await;
        assert_eq!(second[0]["actions"], json!(["notify", sound]));
        for from in ["x", "n", "n-1", "s1_2", "n99999999999999999999"] {
            let (status, answer) = bob.get(&format!("/notifications?from={from}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{from}");
            assert_eq!(answer["errcode"], "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_read_in_whatever_way_is_told_as_read() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let root = alice.say(&room, "root").await;
        let say = async |more: Value| {
            alice
                .send(&room, "m.room.message", message("x", more))
                .await
        };
        let threaded = say(related("m.thread", &root)).await;
        let main = say(json!({})).await;
        let unread = async || {
            let (page, _) = page(&bob, "").await;
            let unread = page.iter().filter(|one| one["read"] == false);
            unread.map(id).collect::<Vec<_>>()
        };
        assert_eq!(unread().await, [&*main, &threaded, &root]);
        read(&bob, &room, "m.read", &root, Some("main")).await;
        assert_eq!(unread().await, [&*main, &threaded]);
        read(&bob, &room, "m.read.private", &threaded, Some(&root)).await;
        assert_eq!(unread().await, [&*main]);
        bob.say(&room, "I have read it").await;
        assert_eq!(unread().await, [""; 0]);
        let last = say(json!({})).await;
        assert_eq!(unread().await, [&*last]);
        let (all, _) = page(&bob, "").await;
        assert_eq!(all.len(), 4);
        // More than are known one by one.
        let mut sent = vec![last];
        for _ in 0..80 {
            sent.push(say(json!({})).await);
        }
        let (newest, _) = page(&bob, "limit=100").await;
        assert_eq!(newest.iter().filter(|one| one["read"] == false).count(), 81);
        read(&bob, &room, "m.read", &sent[79], None).await;
        assert_eq!(unread().await, [&*sent[80]]);
    })
    .await;
}

#[tokio::test]
async fn what_isnt_to_be_heard_of_any_more_is_left_out() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let carol = server.register("carol").await;
        carol.join(&room).await;
        alice.say(&room, "before").await;
        let late = server.register("late").await;
        late.join(&room).await;
        let (one, other) = (
            alice.say(&room, "one").await,
            carol.say(&room, "other").await,
        );
        assert_eq!(all(&late, "").await, [&*other, &one]);
        assert_eq!(all(&bob, "").await.len(), 3);
        let redact = format!("/rooms/{}/redact/{}/r", esc(&room), esc(&one));
        alice.ok(Method::PUT, &redact, json!({})).await;
        assert_eq!(all(&late, "").await, [&*other]);
        let list = format!("/user/{}/account_data/m.ignored_user_list", esc(&late.id));
        let carol_alone = json!({ "ignored_users": { "@carol:here": {} } });
        late.ok(Method::PUT, &list, carol_alone).await;
        assert_eq!(all(&late, "").await, [""; 0]);
        late.ok(Method::PUT, &list, json!({ "ignored_users": {} }))
            .await;
        assert_eq!(all(&late, "").await, [&*other]);
        rule(
            &late,
            &format!("room/{}", esc(&room)),
            json!({ "actions": ["dont_notify"] }),
        )
        .await;
        assert_eq!(all(&late, "").await, [""; 0]);
        bob.leave(&room).await;
        assert_eq!(all(&bob, "").await, [""; 0]);
        bob.join(&room).await;
        assert_eq!(all(&bob, "").await, [""; 0]);
        let again = alice.say(&room, "again").await;
        assert_eq!(all(&bob, "").await, [&*again]);
    })
    .await;
}

#[tokio::test]
async fn one_request_looks_at_so_much_and_the_next_goes_on() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let first = alice.say(&room, "first").await;
        for _ in 0..1_050 {
            alice.send(&room, "x.silent", json!({})).await;
        }
        let (nothing, next) = page(&bob, "").await;
        assert_eq!(nothing, Vec::<Value>::new());
        let (found, end) = page(&bob, &format!("from={}", next.unwrap())).await;
        assert_eq!((id(&found[0]), end), (first, None));
    })
    .await;
}
