//! Pushers that were gone, and rules that change: who is to be told is known by memory.

use http::Method;
use serde_json::json;

use super::{World, each, pusher, set};
use rhizome_storage::testing::eventually;

/// Waits until the gateway is told of an event for a key.
async fn is_told(world: &World, key: &str, event: &str) {
    eventually("the gateway is told of it", async || {
        let got = world.gateway.got();
        got.iter()
            .any(|told| told["devices"][0]["pushkey"] == key && told["event_id"] == event)
    })
    .await;
}

#[tokio::test]
async fn who_sets_a_pusher_again_is_told_again() {
    each(async |world| {
        let server = &world.server;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = bob.create_public().await;
        ada.join(&room).await;
        carol.join(&room).await;
        let phone = ada.another_device().await;
        set(&phone, pusher("phone", json!({}))).await;
        set(&carol, pusher("carol", json!({}))).await;
        let first = bob.say(&room, "one").await;
        is_told(world, "phone", &first).await;
        // It goes without a word, and the room is looked at anew.
        phone.ok(Method::POST, "/logout", json!({})).await;
        carol.leave(&room).await;
        carol.join(&room).await;
        let second = bob.say(&room, "two").await;
        is_told(world, "carol", &second).await;
        set(&ada, pusher("tablet", json!({}))).await;
        let third = bob.say(&room, "three").await;
        is_told(world, "tablet", &third).await;
    })
    .await;
}

#[tokio::test]
async fn rules_hold_in_rooms_that_are_known() {
    each(async |world| {
        let server = &world.server;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = bob.create_public().await;
        ada.join(&room).await;
        carol.join(&room).await;
        set(&ada, pusher("ada", json!({}))).await;
        set(&carol, pusher("carol", json!({}))).await;
        let first = bob.say(&room, "one").await;
        is_told(world, "ada", &first).await;
        let enabled = "/pushrules/global/underride/.m.rule.message/enabled";
        ada.ok(Method::PUT, enabled, json!({ "enabled": false }))
            .await;
        let second = bob.say(&room, "two").await;
        is_told(world, "carol", &second).await;
        ada.ok(Method::PUT, enabled, json!({ "enabled": true }))
            .await;
        let third = bob.say(&room, "three").await;
        is_told(world, "ada", &third).await;
        let got = world.gateway.got();
        let wrong = |told: &&serde_json::Value| {
            told["devices"][0]["pushkey"] == "ada" && told["event_id"] == second.as_str()
        };
        assert_eq!(got.iter().filter(wrong).count(), 0);
    })
    .await;
}
