//! People of other servers, and what was there before anybody kept what people are called.

use http::Method;
use serde_json::json;

use super::{call_oneself, call_oneself_in, find, finds, following};
use crate::{
    e2ee::several::several,
    harness::{esc, story},
};

/// Each of their names is found by who may see the room in which they have it.
#[tokio::test(flavor = "multi_thread")]
async fn people_of_other_servers_are_found_by_what_they_are_called_in_rooms_one_may_see() {
    several(2, async |servers| {
        let here = servers.server(0).clone();
        let told = async {
            let ada = here.register("ada").await;
            let eve = here.register("eve").await;
            let bob = servers.server(1).register("bob").await;
            let public = ada.create_public().await;
            let private = ada.create(json!({ "invite": [bob.id] })).await;
            assert!(servers.join(&bob, &private).await);
            call_oneself_in(&bob, &private, "Bobby Tables").await;
            find(&ada, "tables", &[(&bob, Some("Bobby Tables"))]).await;
            assert!(finds(&eve, "bob").await.is_empty());
            assert!(servers.join(&bob, &public).await);
            let content = json!({ "membership": "join", "displayname": "Robert" });
            let named = bob
                .set_state(&public, "m.room.member", &bob.id, content)
                .await;
            let official = [(&bob, Some("Robert"))];
            find(&eve, "@bob", &official).await;
            find(&eve, "robert", &official).await;
            find(&ada, "robert", &official).await;
            assert!(finds(&eve, "tables").await.is_empty());
            find(&ada, "tables", &[(&bob, Some("Bobby Tables"))]).await;
            // A name that was redacted is none any more.
            let path = format!("/rooms/{}/redact/{}/t", esc(&public), esc(&named));
            ada.ok(Method::PUT, &path, json!({})).await;
            find(&eve, "robert", &[]).await;
            find(&eve, "bob", &[(&bob, None)]).await;
            bob.leave(&public).await;
            find(&eve, "bob", &[]).await;
            find(&ada, "bobby", &[(&bob, Some("Bobby Tables"))]).await;
        };
        following(&here, told).await;
    })
    .await;
}

/// The members of a room that is there already come with it, and are gone when we are.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_a_room_that_we_come_into_is_found_until_we_leave_it() {
    several(2, async |servers| {
        let here = servers.server(0).clone();
        let told = async {
            let ada = here.register("ada").await;
            let eve = here.register("eve").await;
            let bob = servers.server(1).register("bob").await;
            call_oneself(&bob, "Bob").await;
            let room = bob.create_public().await;
            assert!(servers.join(&ada, &room).await);
            let found = [(&bob, Some("Bob"))];
            find(&ada, "bob", &found).await;
            find(&eve, "bob", &found).await;
            ada.leave(&room).await;
            find(&eve, "bob", &[]).await;
            assert!(servers.join(&eve, &room).await);
            find(&ada, "bob", &found).await;
        };
        following(&here, told).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_and_what_comes_while_nobody_looks_is_taken_later() {
    story(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        call_oneself(&bob, "Before").await;
        let room = bob.create_public().await;
        following(&server, async {
            find(&ada, "before", &[(&bob, Some("Before"))]).await;
        })
        .await;
        call_oneself(&bob, "Meanwhile").await;
        let carl = server.register("carl").await;
        carl.join(&room).await;
        following(&server, async {
            find(&ada, "meanwhile", &[(&bob, Some("Meanwhile"))]).await;
            find(&ada, "carl", &[(&carl, None)]).await;
            assert!(finds(&ada, "before").await.is_empty());
        })
        .await;
    })
    .await;
}
