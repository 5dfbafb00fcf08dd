//! Who is in a room, as `/sync` sums it up.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{User, esc, filter, next, story, timeline};

async fn rename(user: &User, name: &str) {
    let path = format!("/profile/{}/displayname", esc(&user.id));
    user.ok(Method::PUT, &path, json!({ "displayname": name }))
        .await;
}

fn summary<'a>(sync: &'a Value, room: &str) -> &'a Value {
    &sync["rooms"]["join"][room]["summary"]
}

#[tokio::test]
async fn heroes_stand_in_the_order_of_their_coming() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let mut users = Vec::new();
        for n in 0..7 {
            users.push(server.register(&format!("user{n}")).await);
        }
        let room = alice.create(json!({"preset": "public_chat"})).await;
        for (n, user) in users.iter().enumerate().rev() {
            if n == 4 {
                alice.invite(&room, user).await;
            } else {
                user.join(&room).await;
            }
        }
        rename(&users[6], "Came first").await;
        let heroes = |range: std::ops::Range<usize>| {
            let ids = users[range].iter().rev();
            json!(ids.map(|user| user.id.clone()).collect::<Vec<_>>())
        };
        let told = alice.sync(None, "").await;
        assert_eq!(summary(&told, &room)["m.heroes"], heroes(2..7));
        users[6].leave(&room).await;
        let told = alice.sync(Some(&next(&told)), "").await;
        assert_eq!(summary(&told, &room)["m.heroes"], heroes(1..6));
    })
    .await;
}

#[tokio::test]
async fn a_summary_is_told_when_it_has_changed() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut at = next(&alice.sync(None, "").await);
        let told = async |at: &mut String| {
            let sync = alice.sync(Some(at), "").await;
            *at = next(&sync);
            summary(&sync, &room).clone()
        };
        rename(&bob, "Robert").await;
        assert_eq!(told(&mut at).await, Value::Null);
        carol.join(&room).await;
        let counted = told(&mut at).await;
        assert_eq!(counted["m.joined_member_count"], 3);
        assert_eq!(counted["m.heroes"], json!([bob.id, carol.id]));
        // Somebody comes and somebody goes: others stand for the room.
        let dora = server.register("dora").await;
        dora.join(&room).await;
        bob.leave(&room).await;
        let heroes = json!([carol.id, dora.id]);
        assert_eq!(told(&mut at).await["m.heroes"], heroes);

        // Nobody stands for a room that has a name, until it loses it.
        let name = |name: &str| {
            let content = json!({ "name": name });
            alice.set_state(&room, "m.room.name", "", content)
        };
        name("Named").await;
        assert_eq!(told(&mut at).await, Value::Null);
        bob.join(&room).await;
        carol.leave(&room).await;
        assert_eq!(told(&mut at).await, Value::Null);
        name("").await;
        let heroes = json!([dora.id, bob.id]);
        assert_eq!(told(&mut at).await["m.heroes"], heroes);
    })
    .await;
}

#[tokio::test]
async fn a_summary_that_is_what_it_was_wakes_nobody() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let messages = json!({"types": ["m.room.message"]});
        let messages = filter(&json!({"room": {"timeline": messages, "state": messages}}));
        let since = next(&alice.sync(None, &messages).await);
        rename(&bob, "Robert").await;
        let sync = alice.sync(Some(&since), &messages).await;
        assert!(sync.get("rooms").is_none(), "{sync}");

        let poll = {
            let (alice, query) = (alice.clone(), format!("&timeout=60000{messages}"));
            tokio::spawn(async move { alice.sync(Some(&since), &query).await })
        };
        rename(&bob, "Bobby").await;
        let said = bob.say(&room, "news").await;
        let sync = poll.await.unwrap();
        assert_eq!(timeline(&sync, &room), [said]);
        assert_eq!(summary(&sync, &room), &Value::Null);
    })
    .await;
}
