//! Events whose prevs nobody gives.

use http::StatusCode;
use ruma::{EventId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    inbound::{forge_message, newest},
    mean::{Asked, Mean},
    world::{each, eventually, json_of},
};

/// Whether what lies before this event was asked for.
fn is_about(asked: &Asked, id: &EventId) -> bool {
    let ends = asked.json()["latest_events"].clone();
    ends.as_array()
        .is_some_and(|ends| ends.contains(&json!(id)))
}

/// A server pushes an event that builds on a malformed one. No state of the sender's choice is asked for
/// in its place: the event waits. The room gets on with the events that follow.
#[tokio::test(flavor = "multi_thread")]
async fn one_malformed_event_blocks_neither_the_room_nor_opens_it() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        let mean = Mean::before(&world, 0);
        let state: Vec<_> = a.state(&room).await.into_values().collect();
        mean.says(
            "/state_ids/",
            json!({ "pdu_ids": state, "auth_chain_ids": state }),
        );
        let missing =
            |events: &[Value]| mean.says("/get_missing_events/", json!({ "events": events }));
        let asked_before = |id: &EventId| {
            let asked = mean.asked("/get_missing_events/");
            asked.iter().any(|asked| is_about(asked, id))
        };

        let base = newest(a, &room).await;
        let say =
            async |prev: &EventId, text: &str| forge_message(a, &alice, &room, &[prev], text).await;
        let bad = say(&base, "bad").await;
        let second = say(bad.event_id(), "second").await;
        let third = say(second.event_id(), "third").await;
        let fourth = say(third.event_id(), "fourth").await;

        // A number that no event may hold.
        let mut malformed = json_of(&bad);
        malformed["content"]["half"] = json!(0.5);
        missing(&[malformed]);
        mean.refuses("/event/", StatusCode::NOT_FOUND, json!({}));
        a.transaction(b, "second", &[json_of(&second)], &[]).await;
        eventually("what is before the second is asked for", async || {
            asked_before(second.event_id())
        })
        .await;

        missing(&[json_of(&second)]);
        a.transaction(b, "third", &[json_of(&third)], &[]).await;
        eventually("what is before the third is asked for", async || {
            asked_before(third.event_id())
        })
        .await;

        missing(&[json_of(&second), json_of(&third)]);
        let one = json!({ "origin": a.name, "origin_server_ts": 1, "pdus": [json_of(&second)] });
        mean.says(&format!("/event/{}", second.event_id()), one);
        a.transaction(b, "fourth", &[json_of(&fourth)], &[]).await;
        eventually("the room gets on", async || {
            b.heard(&room).await == ["third", "fourth"]
        })
        .await;
        // Nobody was asked for a state before the second, as it was pushed; only where it was fetched.
        let asked = mean.asked("/_matrix/federation/v1/");
        let until_third = asked
            .iter()
            .take_while(|asked| !is_about(asked, third.event_id()));
        let other = until_third.filter(|asked| asked.target.contains("/state_ids/"));
        assert_eq!(other.count(), 0, "{asked:?}");
        let at_bad = format!("event_id={}", bad.event_id());
        assert!(mean.count(&at_bad) > 0, "{asked:?}");
        mean.repents();
    })
    .await;
}
