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
