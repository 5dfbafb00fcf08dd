//! Two servers talk.

use std::time::Duration;

use rhizome::demo::agree;
use serde_json::json;

use crate::harness::{Pair, each_database};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_a_join_and_messages_cross() {
    each_database(|kind| async move {
        let pair = Pair::start(kind).await;
        let ada = pair.north.register("ada").await;
        let bea = pair.south.register("bea").await;
        let room = ada
            .create_room(json!({ "preset": "private_chat" }))
            .await
            .unwrap();
        let since = bea.now().await.unwrap();
        ada.invite(&room, &bea.user_id).await.unwrap();
        let since = bea.see_invite(&since, &room, PATIENCE).await.unwrap();
        bea.join(&room, &[pair.north.name()]).await.unwrap();
        let hello = ada.say(&room, "hello").await.unwrap();
        bea.see(&since, &room, &hello, PATIENCE).await.unwrap();
        let since = ada.now().await.unwrap();
        let answer = bea.say(&room, "hello yourself").await.unwrap();
        ada.see(&since, &room, &answer, PATIENCE).await.unwrap();
        agree([&ada, &bea], &room).await.unwrap();
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_leads_to_a_room_of_another_server() {
    each_database(|kind| async move {
        let pair = Pair::start(kind).await;
        let ada = pair.north.register("ada").await;
        let bea = pair.south.register("bea").await;
        let options = json!({ "preset": "public_chat", "room_alias_name": "garden" });
        let room = ada.create_room(options).await.unwrap();
        let joined = bea
            .join(&format!("#garden:{}", pair.north.name()), &[])
            .await
            .unwrap();
        assert_eq!(joined, room);
        agree([&ada, &bea], &room).await.unwrap();
        // And out again: north learns of it.
        let since = ada.now().await.unwrap();
        bea.leave(&room).await.unwrap();
        let left = |answer: &serde_json::Value| {
            rhizome::demo::person::timeline(answer, &room)
                .any(|e| e["state_key"] == *bea.user_id && e["content"]["membership"] == "leave")
                .then_some(())
        };
        ada.sync_until(&since, PATIENCE, left).await.unwrap();
        pair.stop().await;
    })
    .await;
}
