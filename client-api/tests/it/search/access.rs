//! What a reader doesn't see isn't found.

use http::Method;
use serde_json::json;

use super::{ask, both, edit, fill, finds, found};
use crate::harness::{User, esc};

pub async fn visibility(user: &User, room: &str, visibility: &str) {
    let content = json!({"history_visibility": visibility});
    user.set_state(room, "m.room.history_visibility", "", content)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_there_is_for_the_reader_is_found() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let eve = server.register("eve").await;
        let room = ada.create_public().await;
        visibility(&ada, &room, "joined").await;
        ada.say(&room, "secret before").await;
        bob.join(&room).await;
        let during = ada.say(&room, "secret during").await;
        bob.leave(&room).await;
        let after = ada.say(&room, "secret after").await;
        // What it says since isn't for who has left.
        let edited = edit(&ada, &room, &during, "changed during").await;
        assert_ne!(edited, after);
        if indexed {
            fill(&server.store).await;
        }
        let count = async |user: &User, text: &str| {
            let answer = ask(user, &json!({"search_term": text}), None).await;
            (answer["count"].as_u64().unwrap(), found(&answer).len())
        };
        assert_eq!(count(&ada, "secret").await, (2, 2));
        assert_eq!(count(&ada, "changed").await, (1, 1));
        assert_eq!(
            count(&bob, "secret").await,
            (0, 0),
            "what he saw says something else now"
        );
        assert_eq!(count(&bob, "changed").await, (0, 0));
        assert_eq!(count(&eve, "secret").await, (0, 0));
        bob.join(&room).await;
        let again = ada.say(&room, "secret again").await;
        assert_eq!(finds(&bob, "secret").await, [&*again]);
        bob.leave(&room).await;
        assert_eq!(finds(&bob, "secret").await, [&*again]);
        bob.forget(&room).await;
        assert!(finds(&bob, "secret").await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_rooms_ignored_people_and_other_rooms_are_left_out() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_public().await;
        let other = ada.create_public().await;
        bob.join(&room).await;
        let theirs = bob.say(&room, "apples").await;
        let own = ada.say(&other, "apples").await;
        if indexed {
            fill(&server.store).await;
        }
        let within = async |filter: serde_json::Value| {
            let criteria = json!({"search_term": "apples", "filter": filter, "order_by": "recent"});
            found(&ask(&ada, &criteria, None).await)
        };
        assert_eq!(within(json!({})).await, [&*own, &*theirs]);
        assert_eq!(within(json!({"rooms": [room]})).await, [&*theirs]);
        assert_eq!(within(json!({"not_rooms": [room]})).await, [&*own]);
        assert_eq!(within(json!({"senders": [ada.id]})).await, [&*own]);
        assert!(within(json!({"rooms": ["!nowhere:here"]})).await.is_empty());
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&ada.id));
        let ignored = json!({"ignored_users": {(bob.id): {}}});
        ada.ok(Method::PUT, &path, ignored).await;
        assert_eq!(within(json!({})).await, [&*own]);
        let encryption = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        ada.set_state(&other, "m.room.encryption", "", encryption)
            .await;
        assert!(within(json!({})).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_named_brings_those_that_it_replaced() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let old = ada.create(json!({})).await;
        let before = ada.say(&old, "pears").await;
        let predecessor = json!({"room_id": old, "event_id": before});
        let new =
            json!({"creation_content": {"predecessor": predecessor}, "preset": "public_chat"});
        let new = ada.create(new).await;
        let after = ada.say(&new, "pears").await;
        bob.join(&new).await;
        if indexed {
            fill(&server.store).await;
        }
        let criteria =
            json!({"search_term": "pears", "filter": {"rooms": [new]}, "order_by": "recent"});
        assert_eq!(
            found(&ask(&ada, &criteria, None).await),
            [&*after, &*before]
        );
        assert_eq!(
            found(&ask(&bob, &criteria, None).await),
            [&*after],
            "he never was there"
        );
    })
    .await;
}
