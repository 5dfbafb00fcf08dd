//! The number that a gateway is told, where something else than messages and receipts changes it.

use http::Method;
use serde_json::{Value, json};

use super::{World, each, told::two};
use crate::harness::esc;

/// The number in the last of so many that the gateway was told.
async fn number(world: &World, many: usize) -> Value {
    let told = world.gateway.told(many).await.pop().unwrap();
    told["counts"]["unread"].clone()
}

/// "If no rules match an event, the homeserver MUST NOT notify the Push Gateway for that event."
#[tokio::test]
async fn of_an_invite_that_isnt_to_be_told_nothing_is_counted() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        let private = bob.create(json!({ "preset": "private_chat" })).await;
        bob.invite(&private, &ada).await;
        assert_eq!(number(world, 1).await, 1);
        let rule = "/pushrules/global/override/.m.rule.invite_for_me/enabled";
        ada.ok(Method::PUT, rule, json!({ "enabled": false })).await;
        assert_eq!(number(world, 2).await, 0);
        bob.say(&room, "one").await;
        assert_eq!(number(world, 3).await, 1);
        ada.ok(Method::PUT, rule, json!({ "enabled": true })).await;
        assert_eq!(number(world, 4).await, 2);
    })
    .await;
}

/// MSC4155: who is ignored invites, and nobody is told.
#[tokio::test]
async fn of_an_invite_that_is_hidden_nothing_is_told_or_counted() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        let invite = async || {
            let private = bob.create(json!({ "preset": "private_chat" })).await;
            bob.invite(&private, &ada).await;
        };
        invite().await;
        assert_eq!(number(world, 1).await, 1);
        let kind = "org.matrix.msc4155.invite_permission_config";
        let rules = format!("/user/{}/account_data/{kind}", esc(&ada.id));
        let hidden = json!({ "ignored_users": [bob.id] });
        ada.ok(Method::PUT, &rules, hidden).await;
        assert_eq!(number(world, 2).await, 0);
        invite().await;
        let said = bob.say(&room, "one").await;
        assert_eq!(number(world, 3).await, 1);
        let last = world.gateway.told(3).await.pop().unwrap();
        assert_eq!(last["event_id"], json!(said));
        ada.ok(Method::PUT, &rules, json!({})).await;
        assert_eq!(number(world, 4).await, 3);
    })
    .await;
}

/// The number is what `/sync` would say, which then counts again what was read by saying something.
#[tokio::test]
async fn who_takes_back_what_they_said_is_told_what_they_have_not_read() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        bob.say(&room, "soup is ready").await;
        assert_eq!(number(world, 1).await, 1);
        let own = ada.say(&room, "coming").await;
        assert_eq!(number(world, 2).await, 0);
        let path = format!("/rooms/{}/redact/{}/r", esc(&room), esc(&own));
        ada.ok(Method::PUT, &path, json!({})).await;
        assert_eq!(number(world, 3).await, 1);
    })
    .await;
}
