//! Invites of a service's users, also to rooms of other servers.

use http::Method;
use rhizome_storage::testing::{TestDatabase, eventually};
use ruma::server_name;
use serde_json::{Value, json};

use super::{each, irc, open};
use crate::harness::{Server, esc};

/// The membership events of the bridge's user in a room.
fn memberships(events: &[Value]) -> Vec<&str> {
    let own = events
        .iter()
        .filter(|event| event["state_key"] == "@irc_ann:here");
    own.map(|event| event["content"]["membership"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn an_invite_tells_what_the_room_is() {
    each(&[irc], async |world| {
        world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = ada
            .create(json!({ "preset": "private_chat", "name": "Attic" }))
            .await;
        let path = format!("/rooms/{}/invite", esc(&room));
        let body = json!({ "user_id": "@irc_ann:here" });
        ada.ok(Method::POST, &path, body.clone()).await;
        eventually("the invite is told", async || {
            !world.irc().events(&room).is_empty()
        })
        .await;
        let events = world.irc().events(&room);
        assert_eq!(memberships(&events), ["invite"]);
        let state = events[0]["unsigned"]["invite_room_state"]
            .as_array()
            .unwrap();
        let name = state.iter().find(|event| event["type"] == "m.room.name");
        assert_eq!(name.unwrap()["content"]["name"], "Attic");
        // What is said meanwhile is none of its business; that the invite is taken back is.
        ada.say(&room, "among us").await;
        let kick = format!("/rooms/{}/kick", esc(&room));
        ada.ok(Method::POST, &kick, body).await;
        eventually("its end is told", async || {
            world.irc().events(&room).len() == 2
        })
        .await;
        let events = world.irc().events(&room);
        assert_eq!(memberships(&events), ["invite", "leave"]);
        assert!(events[1]["unsigned"].get("invite_room_state").is_none());
    })
    .await;
}

#[tokio::test]
async fn an_invite_from_another_server_is_told_and_its_end() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let theirs = TestDatabase::sqlite();
        let (name, store) = (server_name!("there"), open(&theirs, &world.clock).await);
        let there = Server::named(name, 8, store, &world.network, |_| {});
        let bob = there.register("bob").await;
        let room = bob
            .create(json!({ "preset": "private_chat", "name": "Far away" }))
            .await;
        let path = format!("/rooms/{}/invite", esc(&room));
        let body = json!({ "user_id": "@irc_ann:here" });
        bob.ok(Method::POST, &path, body).await;
        eventually("the invite is told", async || {
            !world.irc().events(&room).is_empty()
        })
        .await;
        let events = world.irc().events(&room);
        assert_eq!(memberships(&events), ["invite"]);
        assert_eq!(events[0]["sender"], "@bob:there");
        assert!(events[0]["event_id"].is_string());
        let state = events[0]["unsigned"]["invite_room_state"]
            .as_array()
            .unwrap();
        let name = state.iter().find(|event| event["type"] == "m.room.name");
        assert_eq!(name.unwrap()["content"]["name"], "Far away");
        let path = format!("/rooms/{}/leave", esc(&room));
        ann.ok(Method::POST, &path, json!({})).await;
        eventually("its end is told", async || {
            world.irc().events(&room).len() == 2
        })
        .await;
        assert_eq!(memberships(&world.irc().events(&room)), ["invite", "leave"]);
        there.store.close().await;
        theirs.remove().await;
    })
    .await;
}
