//! Which edit of an event is told with it.

use serde_json::{Value, json};

use super::{bundle, edit, page, redact, relate, relating};
use crate::{
    harness::{User, story},
    peer::{room_of, story as with_peer},
};

async fn told(user: &User, room: &str, event: &str) -> Option<String> {
    let edit = bundle(user, room, event).await["m.replace"]["event_id"].take();
    edit.as_str().map(ToOwned::to_owned)
}

fn replacing(of: &str) -> Value {
    json!({"rel_type": "m.replace", "event_id": of})
}

#[tokio::test]
async fn the_most_recent_that_holds_is_told() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let original = alice.say(&room, "original").await;
        let first = edit(&alice, &room, &original, "first").await;
        let new = json!({"msgtype": "m.text", "body": "new"});
        // By somebody else; without what is new; of another type; of an edit; encrypted, where the original isn't.
        edit(&bob, &room, &original, "by bob").await;
        relate(&alice, &room, "m.replace", &original).await;
        let bad =
            json!({"body": "b", "m.new_content": "text", "m.relates_to": replacing(&original)});
        alice.send(&room, "m.room.message", bad).await;
        let other = json!({"m.new_content": new, "m.relates_to": replacing(&original)});
        alice.send(&room, "org.test.other", other.clone()).await;
        let of_edit = edit(&alice, &room, &first, "edit of an edit").await;
        let secret = json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "c",
            "session_id": "s", "m.relates_to": replacing(&original)});
        alice.send(&room, "m.room.encrypted", secret).await;
        assert_eq!(told(&bob, &room, &original).await, Some(first.clone()));
        assert_eq!(told(&bob, &room, &first).await, None);
        assert_eq!(page(&bob, &room, &first, "").await.0, [of_edit]);

        let second = edit(&alice, &room, &original, "second").await;
        assert_eq!(told(&bob, &room, &original).await, Some(second.clone()));
        // A redacted edit is none: what was before it is so again.
        redact(&alice, &room, &second).await;
        assert_eq!(told(&bob, &room, &original).await, Some(first));
        // What relates to something itself can be edited, if it isn't an edit.
        let reply = relate(&alice, &room, "m.thread", &original).await;
        let better = edit(&alice, &room, &reply, "better").await;
        assert_eq!(told(&bob, &room, &reply).await, Some(better));
        // What is redacted has no edits; its thread stays.
        redact(&alice, &room, &original).await;
        let left = bundle(&bob, &room, &original).await;
        assert_eq!(left["m.replace"], Value::Null);
        assert_eq!(left["m.thread"]["count"], 1);
    })
    .await;
}

#[tokio::test]
async fn state_has_no_edits_and_is_none() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let topic = alice
            .set_state(&room, "m.room.topic", "", json!({"topic": "t"}))
            .await;
        let content = json!({"m.new_content": {"topic": "new"}, "m.relates_to": replacing(&topic)});
        alice.send(&room, "m.room.topic", content).await;
        relate(&alice, &room, "m.thread", &topic).await;
        assert_eq!(bundle(&alice, &room, &topic).await, Value::Null);
        let said = alice.send(&room, "org.test.kind", json!({})).await;
        let content = json!({"m.new_content": {}, "m.relates_to": replacing(&said)});
        let state = alice
            .set_state(&room, "org.test.kind", "", content.clone())
            .await;
        assert_eq!(told(&alice, &room, &said).await, None);
        assert_eq!(page(&alice, &room, &said, "").await.0, [state]);
        let plain = alice.send(&room, "org.test.kind", content).await;
        assert_eq!(told(&alice, &room, &said).await, Some(plain));
    })
    .await;
}

#[tokio::test]
async fn what_is_encrypted_is_edited_by_what_is() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let secret = |relates_to: Value| {
            json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "c", "session_id": "s",
                "m.relates_to": relates_to})
        };
        let original = alice
            .send(&room, "m.room.encrypted", secret(json!({})))
            .await;
        edit(&alice, &room, &original, "in plain").await;
        assert_eq!(told(&alice, &room, &original).await, None);
        let content = secret(replacing(&original));
        let hidden = alice.send(&room, "m.room.encrypted", content).await;
        assert_eq!(told(&alice, &room, &original).await, Some(hidden));
    })
    .await;
}

/// Which edit is the most recent its time says, and not the order in which they came.
#[tokio::test]
async fn edits_of_another_server_are_told_by_their_time() {
    with_peer(|ada, peer, room| async move {
        let id = room_of(&room);
        let said = peer.say(&id, "said").await;
        peer.push(&said).await;
        let mut content = relating("m.replace", &said);
        content["m.new_content"] = json!({"body": "new"});
        let edit = peer.send(&id, "m.room.message", None, content).await;
        let mut sent = Vec::new();
        for ts in [7_000, 9_000, 8_000, 9_000] {
            // Two of the same time differ by what else they say.
            let kind = if sent.len() == 3 { "m.other" } else { "m.text" };
            let mut content = relating("m.replace", &said);
            content["m.new_content"] = json!({"body": "new"});
            content["msgtype"] = json!(kind);
            let forged = peer.forge_at(&edit, content, ts).await;
            peer.push_json(&forged.0, &forged.1).await;
            sent.push(forged.0);
        }
        // Of those of the same time the one with the larger id.
        let latest = sent[1].clone().max(sent[3].clone());
        assert_eq!(told(&ada, &room, &said).await, Some(latest));
        let (found, _) = page(&ada, &room, &said, "").await;
        assert_eq!(found.len(), 4, "{found:?}");
        peer
    })
    .await;
}
