//! What of presence is sent, and when.

use rhizome_storage::PresenceState::{self, Busy, Offline, Online};
use ruma::device_id;
use serde_json::Value;

use super::*;

async fn says(a: &Us, state: PresenceState) {
    let user = a.store.user_no(alice()).await.unwrap();
    let said = a
        .store
        .set_presence(user, device_id!("D"), state, Some("so".to_owned()));
    said.await.unwrap();
}

/// Who was told to be what, in order.
fn told(peer: &Peer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let updates = peer.edus("m.presence");
    let updates = updates.iter().flat_map(|content| {
        let push = content["push"].as_array().unwrap();
        push.clone()
    });
    updates
        .map(|update| (text(&update["user_id"]), text(&update["presence"])))
        .collect()
}

fn of_alice(states: &[&str]) -> Vec<(String, String)> {
    let told = states
        .iter()
        .map(|state| (alice().to_string(), (*state).to_owned()));
    told.collect()
}

#[tokio::test]
async fn of_several_changes_a_server_gets_the_last_and_now_and_then_that_it_is_still_so() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        a.shared_room().await;
        says(&a, Busy).await;
        let busy = "org.matrix.msc3026.busy";
        eventually("it is told", async || told(&peer) == of_alice(&[busy])).await;
        let update = &peer.edus("m.presence")[0]["push"][0];
        let expected = json!({ "user_id": alice(), "presence": busy, "status_msg": "so",
            "last_active_ago": 0, "currently_active": false });
        assert_eq!(*update, expected);
        // It isn't there for a while; what it missed it gets in one.
        network.cut(them());
        says(&a, Offline).await;
        eventually("it fails", async || a.failures() > 0).await;
        for state in [Online, Offline, Busy, Online] {
            says(&a, state).await;
        }
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        // Half a minute after what she said she is gone, which is the last that there is to tell.
        eventually("it is told", async || {
            told(&peer).last().map(|(_, state)| &**state) == Some("offline")
        })
        .await;
        assert!(told(&peer).len() <= 3, "{:?}", told(&peer));

        let syncs = rhizome_storage::SyncPresence {
            state: PresenceState::Unavailable,
            said: true,
        };
        let user = a.store.user_no(alice()).await.unwrap();
        let there = a.store.syncs(user, device_id!("D"), syncs).await.unwrap();
        let before = told(&peer).len();
        eventually("it is told", async || told(&peer).len() > before).await;
        let before = told(&peer).len();
        clock.advance(Duration::from_mins(26));
        eventually("it is told again", async || told(&peer).len() > before).await;
        assert_eq!(told(&peer)[before..], of_alice(&["unavailable"])[..]);
        drop(there);
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_comes_into_a_room_is_told_of_and_told() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = create(a.fed.rooms(), &public_room()).await.unwrap().room_id;
        says(&a, Online).await;
        a.bob_joins(&room).await;
        // When he can have heard that he is in the room.
        clock.advance(Duration::from_secs(6));
        eventually("it is told", async || told(&peer) == of_alice(&["online"])).await;
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_where_presence_is_off_or_the_room_too_large() {
    scenario(async |database, network, peer, clock| {
        for (enabled, max_room_size) in [(false, 500), (true, 1)] {
            let presence = PresenceOptions {
                enabled,
                max_room_size,
            };
            let a = Us::start_with(&database, &network, &clock, presence).await;
            let room = a.shared_room().await;
            says(&a, Online).await;
            a.say(&room, "hello").await;
            eventually("the message arrives", async || !peer.messages().is_empty()).await;
            a.goes_round(&network, &room).await;
            a.stop().await;
        }
        assert_eq!(told(&peer), []);
    })
    .await;
}
