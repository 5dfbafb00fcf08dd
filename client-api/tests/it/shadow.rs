//! Users who are answered as if all were well, and whom nobody hears.

use http::Method;
use rhizome_storage::Block;
use serde_json::json;

use crate::harness::{esc, events, ids, next, story};

#[tokio::test]
async fn who_is_shadow_banned_is_answered_and_not_heard() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        let (hers, elsewhere) = (ada.say(&room, "before").await, bob.create_public().await);
        let block = Block {
            kind: Block::SHADOW.into(),
            what: ada.id.clone(),
            way: String::new(),
            reason: "spam".into(),
            since_ms: 1,
            blocked: true,
        };
        server.store.block(block).await.unwrap();
        let since = next(&bob.sync(None, "").await);

        let said = ada.say(&room, "buy this").await;
        assert!(said.starts_with('$'));
        ada.set_state(&room, "m.room.topic", "", json!({ "topic": "buy" }))
            .await;
        let redact = format!("/rooms/{}/redact/{}/1", esc(&room), esc(&hers));
        ada.ok(Method::PUT, &redact, json!({})).await;
        ada.invite(&room, &carol).await;
        let ban = format!("/rooms/{}/ban", esc(&room));
        ada.ok(Method::POST, &ban, json!({ "user_id": bob.id }))
            .await;
        let name = format!("/profile/{}/displayname", esc(&ada.id));
        ada.ok(Method::PUT, &name, json!({ "displayname": "Buy" }))
            .await;
        let typing = format!("/rooms/{}/typing/{}", esc(&room), esc(&ada.id));
        ada.ok(
            Method::PUT,
            &typing,
            json!({ "typing": true, "timeout": 9_000 }),
        )
        .await;
        let with = json!({ "preset": "private_chat", "invite": [carol.id] });
        ada.create(with).await;

        let told = bob.sync(Some(&since), "").await;
        assert!(told["rooms"]["join"].get(&room).is_none(), "{told}");
        let invited = carol.sync(None, "").await;
        assert!(invited["rooms"].get("invite").is_none(), "{invited}");
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&said));
        assert_eq!(ada.get(&path).await.0, 404);
        // A room in which she isn't is no other than for others.
        let say = format!("/rooms/{}/send/m.room.message/x", esc(&elsewhere));
        let refused = ada
            .call(Method::PUT, &say, Some(json!({ "body": "x" })))
            .await;
        assert_eq!(refused.0, 403);

        let undone = server.store.unblock(Block::SHADOW, &ada.id).await;
        assert!(undone.unwrap());
        let heard = ada.say(&room, "sorry").await;
        let told = bob.sync(Some(&since), "").await;
        let timeline = events(&told, &["rooms", "join", &room, "timeline", "events"]);
        assert_eq!(ids(&timeline), [heard]);
    })
    .await;
}
