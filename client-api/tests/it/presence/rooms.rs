//! Presence in rooms and at the ends of sessions.

use crate::harness::{Server, User, next};
use http::Method;
use rhizome_storage::{
    Clock, Store,
    testing::{TestDatabase, eventually},
};
use serde_json::json;
use std::time::Duration;

use super::{is, look, of, options, seen, status_of, story, told};

#[tokio::test]
async fn who_comes_into_a_room_sees_who_is_there_and_is_seen() {
    story(async |server, clock| {
        let [alice, bob, eve] = [
            server.register("alice").await,
            server.register("bob").await,
            server.register("eve").await,
        ];
        let room = alice.create_public().await;
        eve.join(&room).await;
        is(&alice, "online").await;
        is(&bob, "unavailable").await;
        let of_bob = next(&look(&bob, None).await);
        let of_eve = next(&look(&eve, None).await);
        bob.join(&room).await;
        let answer = look(&bob, Some(&of_bob)).await;
        assert_eq!(told(&answer), [of(&alice, "online")]);
        eventually("eve sees bob", async || {
            clock.advance(Duration::from_millis(1));
            told(&look(&eve, Some(&of_eve)).await) == [of(&bob, "unavailable")]
        })
        .await;
        assert_eq!(told(&look(&bob, Some(&next(&answer))).await), []);
    })
    .await;
}

#[tokio::test]
async fn in_large_rooms_nobody_is_seen() {
    story(async |server, _| {
        let mut users = Vec::new();
        for name in ["alice", "bob", "carl", "dora"] {
            users.push(server.register(name).await);
        }
        let [alice, bob, carl, dora] = &users[..] else {
            unreachable!()
        };
        let room = alice.create_public().await;
        bob.join(&room).await;
        carl.join(&room).await;
        is(alice, "online").await;
        is(bob, "online").await;
        let all = [of(alice, "online"), of(bob, "online")];
        assert_eq!(told(&look(carl, None).await), all);
        dora.join(&room).await;
        is(dora, "online").await;
        assert_eq!(told(&look(carl, None).await), []);
        // Two of them by themselves still are.
        let chat = carl.create_public().await;
        dora.join(&chat).await;
        eventually("carl sees dora", async || {
            told(&look(carl, None).await) == [of(dora, "online")]
        })
        .await;
        // Who asks is answered.
        assert_eq!(seen(carl, alice).await, "online");
    })
    .await;
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_presence() {
    story(async |server, _| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let (desk, third) = (alice.another_device().await, alice.another_device().await);
        for device in [&alice, &desk, &third] {
            is(device, "online").await;
        }
        alice.ok(Method::POST, "/logout", json!({})).await;
        assert_eq!(seen(&bob, &alice).await, "online");
        desk.ok(Method::POST, "/logout/all", json!({})).await;
        assert_eq!(seen(&bob, &alice).await, "offline");
    })
    .await;
}

#[tokio::test]
async fn what_was_said_last_outlives_a_restart() {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(1_800_000_000_000);
        let store = Store::open(options(&database, &clock)).await.unwrap();
        let server = Server::new(store.clone());
        let alice = server.register("alice").await;
        for message in [
            json!("first"),
            json!("on \u{0}leave"),
            json!("on \u{0}leave"),
        ] {
            let said = json!({ "presence": "online", "status_msg": message });
            alice.ok(Method::PUT, &status_of(&alice), said).await;
        }
        store.close().await;
        let store = Store::open(options(&database, &clock)).await.unwrap();
        let alice = User {
            server: Server::new(store.clone()),
            ..alice
        };
        let status = alice.read(&status_of(&alice)).await;
        let away = json!({ "presence": "offline", "status_msg": "on \u{0}leave", "currently_active": false });
        assert_eq!(status, away);
        alice.sync(None, "").await;
        let status = alice.read(&status_of(&alice)).await;
        assert_eq!(status["status_msg"], "on \u{0}leave");
        is(&alice, "online").await;
        let user = store
            .known_user(alice.id.as_str().try_into().unwrap())
            .await;
        let message = store.status_message(user.unwrap().unwrap()).await.unwrap();
        assert_eq!(message, None);
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn switched_off_nobody_is_there() {
    crate::harness::story(|server| async move {
        let alice = server.register("alice").await;
        alice.create_public().await;
        is(&alice, "online").await;
        let answer = alice.sync(None, "&set_presence=online").await;
        assert!(answer.get("presence").is_none());
        let off = json!({ "presence": "offline", "currently_active": false });
        assert_eq!(alice.read(&status_of(&alice)).await, off);
    })
    .await;
}
