//! Users who are answered as if all were well, and whom nobody hears.

use http::Method;
use rhizome_storage::Block;
use serde_json::json;

use crate::harness::{User, esc, events, ids, next, story};

async fn ban(user: &User) {
    let block = Block {
        kind: Block::SHADOW.into(),
        what: user.id.clone(),
        way: String::new(),
        reason: "spam".into(),
        since_ms: 1,
        blocked: true,
    };
    user.server.store.block(block).await.unwrap();
}

#[tokio::test]
async fn who_is_shadow_banned_is_answered_and_not_heard() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        let (hers, elsewhere) = (ada.say(&room, "before").await, bob.create_public().await);
        ban(&ada).await;
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

#[tokio::test]
async fn who_is_shadow_banned_finds_no_other_way_to_be_heard() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        bob.join(&room).await;
        ban(&ada).await;
        let since = next(&bob.sync(None, "").await);
        // The same transaction is the same event.
        let say = format!("/rooms/{}/send/m.room.message/again", esc(&room));
        let body = json!({ "msgtype": "m.text", "body": "buy this" });
        let first = ada.ok(Method::PUT, &say, body.clone()).await;
        assert_eq!(ada.ok(Method::PUT, &say, body).await, first);
        assert_ne!(first["event_id"], ada.say(&room, "and this").await);

        let messages = json!({ "messages": { &bob.id: { "*": { "n": 1 } } } });
        ada.ok(Method::PUT, "/sendToDevice/m.test/1", messages)
            .await;
        let presence = format!("/presence/{}/status", esc(&ada.id));
        let says = json!({ "presence": "online", "status_msg": "buy this" });
        ada.ok(Method::PUT, &presence, says).await;
        assert_eq!(bob.read(&presence).await.get("status_msg"), None);
        let told = bob.sync(Some(&since), "").await;
        assert!(told.get("to_device").is_none(), "{told}");

        let alias = format!("/directory/room/{}", esc("#buy:here"));
        ada.ok(Method::PUT, &alias, json!({ "room_id": room }))
            .await;
        assert_eq!(bob.get(&alias).await.0, 404);
        let listed = |room: &str| format!("/directory/list/room/{}", esc(room));
        ada.ok(
            Method::PUT,
            &listed(&room),
            json!({ "visibility": "public" }),
        )
        .await;
        let public = json!({ "visibility": "public", "name": "Buy", "room_alias_name": "buy" });
        let another = ada.create(public).await;
        for room in [&room, &another] {
            assert_eq!(bob.read(&listed(room)).await["visibility"], "private");
        }
        assert_eq!(bob.get(&alias).await.0, 404);
    })
    .await;
}

#[tokio::test]
async fn who_is_shadow_banned_comes_and_goes_without_a_word() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = bob.create_public().await;
        ban(&ada).await;
        let name = format!("/profile/{}/displayname", esc(&ada.id));
        ada.ok(Method::PUT, &name, json!({ "displayname": "Buy" }))
            .await;
        let member = format!("/rooms/{}/state/m.room.member/{}", esc(&room), esc(&ada.id));
        let is = async |membership: &str| {
            let content = bob.read(&member).await;
            assert_eq!(content["membership"], membership);
            for said in ["reason", "displayname"] {
                assert_eq!(content.get(said), None, "{content}");
            }
        };
        let says = json!({ "reason": "buy this" });
        let join = format!("/join/{}", esc(&room));
        ada.ok(Method::POST, &join, says.clone()).await;
        is("join").await;
        let left = json!({ "membership": "leave", "reason": "buy this" });
        ada.ok(Method::PUT, &member, left).await;
        is("leave").await;
        ada.ok(Method::POST, &join, json!({})).await;
        let leave = format!("/rooms/{}/leave", esc(&room));
        ada.ok(Method::POST, &leave, says).await;
        is("leave").await;
    })
    .await;
}
