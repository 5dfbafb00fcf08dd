//! Receipts from other servers: only of what is there, and not more than there is a use for.

use rhizome_protocol::Membership;
use rhizome_storage::{DELIVERED, Logged, Receipt};
use ruma::{EventId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::world::{each, eventually};

/// A joined user of the mean server claims to have read threads and events that don't exist, that are
/// others', that are elsewhere; then more threads that do exist than anybody needs to remember.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_receipts_leaves_little() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        let other = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        b.join(&bob, &other, a).await.unwrap();
        let said = a.say(&alice, &room, "read me").await;
        let elsewhere = a.say(&alice, &other, "elsewhere").await;
        let no = a.store().room(&room).await.unwrap().unwrap().room;
        let bobs = async || -> Vec<std::sync::Arc<Logged<Receipt>>> {
            let user = a.store().known_user(&bob).await.unwrap().unwrap();
            a.store().receipts_of(no, user).await.unwrap()
        };
        let receipt = |event: &EventId, thread: Value| {
            json!({ "edu_type": "m.receipt", "content": { room.as_str(): { "m.read": {
                &bob: { "event_ids": [event], "data": { "ts": i64::MAX, "thread_id": thread } } } } } })
        };
        let made_up = |n: usize| EventId::parse(format!("$made_up_{n}")).unwrap();
        let mut junk = vec![
            receipt(&elsewhere, Value::Null),
            receipt(&elsewhere, json!("main")),
            receipt(&elsewhere, json!(elsewhere)),
            receipt(&said, json!(elsewhere)),
            receipt(&said, json!("")),
            receipt(&said, json!("mine")),
        ];
        for n in 0..40 {
            junk.push(receipt(&said, json!(made_up(n))));
            junk.push(receipt(&made_up(n), Value::Null));
        }
        b.transaction(a, "junk", &[], &junk).await;
        assert!(bobs().await.is_empty(), "{:?}", bobs().await);

        b.transaction(a, "fine", &[], &[receipt(&said, Value::Null)]).await;
        let stands = bobs().await;
        assert_eq!((stands.len(), &stands[0].event_id), (1, &said));
        assert!(stands[0].ts <= a.store().clock().now_ms());

        // Threads that do exist, in transactions as large as they may be.
        let mut roots = Vec::new();
        for n in 0..130 {
            roots.push(a.say(&alice, &room, &n.to_string()).await);
        }
        for (n, roots) in roots.chunks(65).enumerate() {
            let read: Vec<_> = roots.iter().map(|root| receipt(root, json!(root))).collect();
            b.transaction(a, &format!("threads {n}"), &[], &read).await;
        }
        assert_eq!(bobs().await.len(), 101);
        // Those that it has already are no news, nor is what lies before them.
        let head = a.store().log().head();
        let again: Vec<_> = roots[65..].iter().map(|root| receipt(root, json!(root))).collect();
        b.transaction(a, "again", &[], &again).await;
        assert_eq!(a.store().log().head(), head);
    })
    .await;
}

/// What has reached devices is told in chats of two, of the whole room.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_taken_in_chats_of_two() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let chat = a.create(&alice, &RoomVersionId::V12).await;
        let large = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &chat, a).await.unwrap();
        b.join(&bob, &large, a).await.unwrap();
        let bea = b.user("bea");
        b.join(&bea, &large, a).await.unwrap();
        eventually("A knows of the third", async || {
            a.membership(&large, &bea).await == Some(Membership::Join)
        })
        .await;
        let said = a.say(&alice, &chat, "hello").await;
        let aloud = a.say(&alice, &large, "hello, all").await;
        let delivered = |room: &RoomId, event: &EventId, thread: Value| {
            json!({ "edu_type": "m.receipt", "content": { room: { DELIVERED: {
                &bob: { "event_ids": [event], "data": { "ts": 1, "thread_id": thread } } } } } })
        };
        let edus = [
            delivered(&large, &aloud, Value::Null),
            delivered(&chat, &said, json!(said)),
            delivered(&chat, &said, json!("main")),
        ];
        b.transaction(a, "junk", &[], &edus).await;
        let user = a.store().known_user(&bob).await.unwrap().unwrap();
        let bobs = async |room: &RoomId| {
            let no = a.store().room(room).await.unwrap().unwrap().room;
            a.store().receipts_of(no, user).await.unwrap()
        };
        assert!(bobs(&large).await.is_empty());
        assert!(bobs(&chat).await.is_empty());
        let good = [
            delivered(&large, &aloud, Value::Null),
            delivered(&chat, &said, Value::Null),
        ];
        b.transaction(a, "good", &[], &good).await;
        assert!(bobs(&large).await.is_empty());
        let stands = bobs(&chat).await;
        assert_eq!((stands.len(), &stands[0].event_id), (1, &said));
    })
    .await;
}
