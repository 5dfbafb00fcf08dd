//! Delivery states (docs/delivery.md): what has reached the devices of those who want to say so.

use std::time::Duration;

use http::Method;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use crate::e2ee::several::several;
use crate::harness::{User, esc, events, next, story};
use crate::sliding::client::{Client, first, list, rooms};
use crate::sticky::with_clock;

const DELIVERED: &str = "org.rhizome.delivered";

async fn opt(user: &User, enabled: bool) {
    let path = format!("/user/{}/account_data/org.rhizome.delivery", esc(&user.id));
    user.ok(Method::PUT, &path, json!({ "enabled": enabled }))
        .await;
}

/// At which event a user sees that the other has got everything, if at any.
async fn delivered(viewer: &User, room: &str, whose: &str) -> Option<String> {
    at(&viewer.sync(None, "").await, room, whose)
}

fn at(sync: &Value, room: &str, whose: &str) -> Option<String> {
    let ephemeral = events(sync, &["rooms", "join", room, "ephemeral", "events"]);
    let receipts = ephemeral
        .iter()
        .filter(|event| event["type"] == "m.receipt");
    let mut found = receipts.flat_map(|event| event["content"].as_object().unwrap());
    found
        .find(|(_, kinds)| kinds[DELIVERED].get(whose).is_some())
        .map(|(event, _)| event.clone())
}

async fn comes(viewer: &User, room: &str, whose: &str, event: &str) {
    eventually("it is delivered", async || {
        delivered(viewer, room, whose).await.as_deref() == Some(event)
    })
    .await;
}

/// A device gets what there is, and says so by asking on.
async fn gets(user: &User, since: &str) -> String {
    let at = next(&user.sync(Some(since), "").await);
    next(&user.sync(Some(&at), "").await)
}

async fn chat(alice: &User, bob: &User) -> String {
    let room = alice
        .create(json!({ "is_direct": true, "invite": [bob.id] }))
        .await;
    bob.join(&room).await;
    room
}

#[tokio::test]
async fn what_a_device_has_got_is_told_once_it_asks_on() {
    with_clock(|server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = chat(&alice, &bob).await;
        opt(&bob, true).await;
        let since = next(&bob.sync(None, "").await);
        let first = alice.say(&room, "1").await;
        // It is on its way.
        let news = bob.sync(Some(&since), "").await;
        assert_eq!(delivered(&alice, &room, &bob.id).await, None);
        // Here it is. Bob isn't told what he knows.
        let polling = alice.poll(&next(&alice.sync(None, "").await)).await;
        let since = next(&bob.sync(Some(&next(&news)), "").await);
        assert_eq!(
            at(&polling.await.unwrap(), &room, &bob.id),
            Some(first.clone())
        );
        assert_eq!(delivered(&bob, &room, &bob.id).await, None);
        let quiet = bob.sync(Some(&since), "").await;
        assert!(quiet.get("rooms").is_none(), "{quiet}");

        // What comes within two seconds is told of together.
        let mut since = next(&quiet);
        for n in 2..5 {
            alice.say(&room, &n.to_string()).await;
            since = gets(&bob, &since).await;
        }
        let last = alice.say(&room, "5").await;
        since = gets(&bob, &since).await;
        assert_eq!(delivered(&alice, &room, &bob.id).await, Some(first));
        clock.advance(Duration::from_secs(2));
        comes(&alice, &room, &bob.id, &last).await;
        clock.advance(Duration::from_secs(2));
        // It says nothing of what Bob has read.
        let whole = bob.sync(None, "").await;
        let told = &whole["rooms"]["join"][&room];
        let receipts = &told["ephemeral"]["events"];
        assert!(receipts.as_array().is_none_or(Vec::is_empty), "{receipts}");
        assert_eq!(told["unread_notifications"]["notification_count"], 5);
        // One's own messages need no receipt.
        bob.say(&room, "mine").await;
        let head = server.store.log().head();
        gets(&bob, &since).await;
        assert_eq!(server.store.log().head(), head);
    })
    .await;
}

#[tokio::test]
async fn nobody_tells_unasked_nor_in_larger_rooms() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = chat(&alice, &bob).await;
        let large = chat(&alice, &bob).await;
        alice.invite(&large, &carol).await;
        carol.join(&large).await;
        let since = next(&bob.sync(None, "").await);
        let said = alice.say(&room, "1").await;
        alice.say(&large, "1").await;
        let head = server.store.log().head();
        let since = gets(&bob, &since).await;
        assert_eq!(server.store.log().head(), head);
        // Who opts in tells of the last message; who opts out, of nothing any more.
        opt(&bob, true).await;
        let since = gets(&bob, &since).await;
        comes(&alice, &room, &bob.id, &said).await;
        assert_eq!(delivered(&alice, &large, &bob.id).await, None);
        opt(&bob, false).await;
        alice.say(&room, "2").await;
        let head = server.store.log().head();
        gets(&bob, &since).await;
        assert_eq!(server.store.log().head(), head);
        assert_eq!(delivered(&alice, &room, &bob.id).await, Some(said));
        // No client says it of itself.
        let path = format!("/rooms/{}/receipt/{DELIVERED}/$x", esc(&room));
        let (status, _) = alice.call(Method::POST, &path, Some(json!({}))).await;
        assert_eq!(status.as_u16(), 400);
    })
    .await;
}

/// What two have told each other isn't for who comes later.
#[tokio::test]
async fn who_comes_into_a_chat_later_is_told_nothing() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = chat(&alice, &bob).await;
        opt(&bob, true).await;
        let since = next(&bob.sync(None, "").await);
        let said = alice.say(&room, "1").await;
        gets(&bob, &since).await;
        comes(&alice, &room, &bob.id, &said).await;
        let since = next(&carol.sync(None, "").await);
        alice.invite(&room, &carol).await;
        carol.join(&room).await;
        for since in [None, Some(&*since)] {
            let told = carol.sync(since, "").await;
            assert!(told["rooms"]["join"].get(&room).is_some(), "{told}");
            assert_eq!(at(&told, &room, &bob.id), None);
        }
        assert_eq!(delivered(&alice, &room, &bob.id).await, None);
        // Alone again, they see what there is.
        carol.leave(&room).await;
        assert_eq!(delivered(&alice, &room, &bob.id).await, Some(said));
    })
    .await;
}

/// Whom a user ignores learns nothing of them.
#[tokio::test]
async fn who_is_ignored_is_told_nothing() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = chat(&alice, &bob).await;
        opt(&bob, true).await;
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&bob.id));
        let list = json!({ "ignored_users": { &alice.id: {} } });
        bob.ok(Method::PUT, &path, list).await;
        let since = next(&bob.sync(None, "").await);
        alice.say(&room, "1").await;
        let head = server.store.log().head();
        gets(&bob, &since).await;
        server.unfinished.close();
        server.shutdown.cancel();
        server.unfinished.wait().await;
        assert_eq!(server.store.log().head(), head);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_s_server_hears_of_it() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let room = alice.create_public().await;
        assert!(all.join(&bob, &room).await);
        opt(&bob, true).await;
        let since = next(&bob.sync(None, "").await);
        let said = alice.say(&room, "hello").await;
        eventually("Bob hears", async || {
            gets(&bob, &since).await;
            delivered(&alice, &room, &bob.id).await.as_deref() == Some(&*said)
        })
        .await;
        // After a restart, which forgets how far devices are, the next message is told of as well.
        all.restart(1).await;
        let bob = all.again(&bob);
        let said = alice.say(&room, "again").await;
        eventually("Bob hears again", async || {
            gets(&bob, &since).await;
            delivered(&alice, &room, &bob.id).await.as_deref() == Some(&*said)
        })
        .await;
    })
    .await;
}

/// A connection of sliding sync has the rooms that it was told, and no others.
#[tokio::test]
async fn what_a_connection_of_sliding_sync_was_told_is_delivered() {
    with_clock(|server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let cleo = server.register("cleo").await;
        let (near, far) = (chat(&cleo, &bob).await, chat(&alice, &bob).await);
        opt(&bob, true).await;
        let mut client = Client::of(&bob);
        client.sync(&first(2)).await;
        client.sync(&first(2)).await;
        let below = alice.say(&far, "1").await;
        let above = cleo.say(&near, "2").await;
        // Only the upper one is told; and not before the answer has arrived.
        let lost = client.clone().sync(&first(1)).await;
        assert_eq!(rooms(&lost), [&near]);
        client.sync(&first(1)).await;
        assert_eq!(delivered(&cleo, &near, &bob.id).await, None);
        client.sync(&first(1)).await;
        comes(&cleo, &near, &bob.id, &above).await;
        for _ in 0..2 {
            clock.advance(Duration::from_secs(2));
            client.sync(&first(1)).await;
        }
        assert_eq!(delivered(&alice, &far, &bob.id).await, None);
        // The other comes into the window, with a message from long before.
        clock.advance(Duration::from_secs(2));
        let answer = client.sync(&first(2)).await;
        assert_eq!(rooms(&answer), [&far]);
        assert_eq!(delivered(&alice, &far, &bob.id).await, None);
        client.sync(&first(2)).await;
        comes(&alice, &far, &bob.id, &below).await;
        // What goes on is told of as it comes.
        clock.advance(Duration::from_secs(2));
        let said = alice.say(&far, "3").await;
        client.sync(&first(2)).await;
        client.sync(&first(2)).await;
        comes(&alice, &far, &bob.id, &said).await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_timelines_delivers_nothing() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = chat(&alice, &bob).await;
        opt(&bob, true).await;
        let said = alice.say(&room, "1").await;
        // Alice's message isn't among the newest events.
        bob.say(&room, "mine").await;
        let none = list(1, 0, json!([]));
        let (mut blind, mut short) = (Client::named(&bob, "blind"), Client::named(&bob, "short"));
        let head = server.store.log().head();
        for _ in 0..3 {
            blind.sync(&none).await;
            short.sync(&first(1)).await;
        }
        server.unfinished.close();
        server.unfinished.wait().await;
        server.unfinished.reopen();
        assert_eq!(server.store.log().head(), head);
        let mut whole = Client::named(&bob, "whole");
        for _ in 0..2 {
            whole.sync(&list(1, 5, json!([]))).await;
        }
        comes(&alice, &room, &bob.id, &said).await;
    })
    .await;
}
