//! Events whose prevs nobody gives.

use std::time::Duration;

use http::StatusCode;
use rhizome_federation::{FederationConfig, testing::Network};
use rhizome_protocol::Membership;
use rhizome_rooms::state;
use rhizome_storage::{Clock, Options, Placement, Status, Store, testing::TestDatabase};
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    inbound::{forge_message, newest},
    mean::{Asked, Mean},
    world::{Server, VERSIONS, each, eventually, json_of, same_state},
};

/// Whether what lies before this event was asked for.
fn is_about(asked: &Asked, id: &EventId) -> bool {
    let ends = asked.json()["latest_events"].clone();
    ends.as_array()
        .is_some_and(|ends| ends.contains(&json!(id)))
}

/// A server pushes an event that builds on a malformed one. No state of the sender's choice is asked for
/// in its place: the event waits. With the one that follows it, it comes as a missing one, with the state before it, as that
/// after the malformed one isn't to be had.
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
        eventually("the room gets on", async || {
            b.heard(&room).await == ["second", "third"]
        })
        .await;
        // Nobody was asked for a state before the second, as it was pushed; only where it was fetched.
        let asked = mean.asked("/_matrix/federation/v1/");
        let until_third = asked
            .iter()
            .take_while(|asked| !is_about(asked, third.event_id()));
        let other = until_third.filter(|asked| asked.target.contains("/state_ids/"));
        assert_eq!(other.count(), 0, "{asked:?}");
        let at = |event: &EventId| format!("event_id={event}");
        assert_eq!(mean.count(&at(second.event_id())), 1, "{asked:?}");
        assert_eq!(mean.count(&at(bad.event_id())), 1, "{asked:?}");
        mean.repents();
    })
    .await;
}

/// The room's first server is gone. Who comes late has history from who came before, who has never had what came
/// before that.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_has_history_though_the_first_server_is_gone() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for version in &VERSIONS {
            world.network.mend(&a.name);
            let room = a.create(&alice, version).await;
            a.say(&alice, &room, "long ago").await;
            b.join(&bob, &room, a).await.unwrap();
            same_state(a, b, &room).await;
            let joined = newest(b, &room).await;
            let heard = b.say(&bob, &room, "heard").await;
            world.network.cut(&a.name);
            c.join(&carol, &room, b).await.unwrap();
            assert!(c.backfill(&room, 100).await, "{version}");
            for id in [&joined, &heard] {
                let event = c.event(id).await.unwrap();
                let is = (event.placement, event.status);
                assert_eq!(is, (Placement::Backfilled, Status::Accepted), "{version}");
            }
            assert_eq!(before(c, &joined).await, before(b, &joined).await);
        }
    })
    .await;
}

/// The state before an event.
async fn before(server: &Server, id: &EventId) -> Vec<OwnedEventId> {
    let event = server.event(id).await.unwrap();
    let state = state::before(server.fed.rooms(), &event).await;
    let state = state.unwrap().unwrap().state;
    let ids = server.store().event_ids(&state).await.unwrap();
    let mut ids: Vec<OwnedEventId> = ids.into_iter().map(|(_, id)| id).collect();
    ids.sort();
    ids
}

/// Where somebody says what was after the prev of an event, nobody is asked for what was before the event.
#[tokio::test(flavor = "multi_thread")]
async fn the_state_after_what_is_missing_is_asked_for_first() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        let base = newest(a, &room).await;
        let state: Vec<_> = a.state(&room).await.into_values().collect();
        let say =
            async |prev: &EventId, text: &str| forge_message(a, &alice, &room, &[prev], text).await;
        let lost = say(&base, "lost").await;
        let second = say(lost.event_id(), "second").await;
        let third = say(second.event_id(), "third").await;
        let mean = Mean::before(&world, 0);
        mean.says(
            "/state_ids/",
            json!({ "pdu_ids": state, "auth_chain_ids": state }),
        );
        let at_second = format!("event_id={}", second.event_id());
        mean.refuses(&at_second, StatusCode::NOT_FOUND, json!({}));
        let one = json!({ "origin": a.name, "origin_server_ts": 1, "pdus": [json_of(&lost)] });
        mean.says("/event/", one);
        let given = json!({ "events": [json_of(&second)] });
        mean.says("/get_missing_events/", given);
        a.transaction(b, "third", &[json_of(&third)], &[]).await;
        eventually("the room gets on", async || {
            b.heard(&room).await == ["second", "third"]
        })
        .await;
        assert_eq!(mean.count(&at_second), 0);
        mean.repents();
    })
    .await;
}

/// What a server hasn't got isn't asked of it at each event that names it, and asked for anew after a while.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_lacks_is_seldom_asked_for() {
    for postgres in [false, true] {
        let databases = TestDatabase::several(postgres, 2).await;
        Box::pin(seldom(&databases)).await;
        for database in databases {
            database.remove().await;
        }
    }
}

async fn seldom(databases: &[TestDatabase]) {
    const HOUR: Duration = Duration::from_hours(1);
    let (network, clock) = (Network::default(), Clock::manual(1_700_000_000_000));
    let config = FederationConfig {
        retry_min: HOUR,
        retry_max: HOUR,
        ..Server::config()
    };
    let mut servers = Vec::new();
    for (index, database) in databases.iter().enumerate() {
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        servers.push(Server::with(&network, store, index, config.clone()));
    }
    let [a, b] = &mut servers[..] else {
        panic!("two servers")
    };
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.create(&alice, &RoomVersionId::V11).await;
    b.join(&bob, &room, a).await.unwrap();
    b.run();
    let mean = Mean::in_front_of(&network, a);
    mean.says("/get_missing_events/", json!({ "events": [] }));
    let nowhere: OwnedEventId = format!("${}", "A".repeat(43)).try_into().unwrap();
    for (nth, text) in ["one", "two"].into_iter().enumerate() {
        let event = forge_message(a, &alice, &room, &[&nowhere], text).await;
        a.transaction(b, text, &[json_of(&event)], &[]).await;
        eventually("it is tried", async || tried(b, &room, 1).await == nth + 1).await;
        assert_eq!(mean.count("/get_missing_events/"), 1, "{text}");
    }
    clock.advance(HOUR);
    eventually("both are tried again", async || {
        tried(b, &room, 2).await == 2
    })
    .await;
    assert_eq!(mean.count("/get_missing_events/"), 2);
    mean.repents();
    for server in servers {
        server.end().await;
    }
}

/// A member names what another has said and we don't have. That one knows nothing of the member's event, and of what it has said
/// itself it is asked as ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_an_event_may_have_what_is_before_it() {
    const HOUR: Duration = Duration::from_hours(1);
    let network = Network::default();
    let config = FederationConfig {
        retry_min: HOUR,
        retry_max: HOUR,
        ..Server::config()
    };
    let databases = [(); 3].map(|()| TestDatabase::sqlite());
    let mut servers = Vec::new();
    for (index, database) in databases.iter().enumerate() {
        let store = database.open().await;
        servers.push(Server::with(&network, store, index, config.clone()));
    }
    let [a, b, c] = &mut servers[..] else {
        panic!("three servers")
    };
    let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
    let room = a.create(&alice, &RoomVersionId::V11).await;
    c.join(&carol, &room, a).await.unwrap();
    a.run();
    b.join(&bob, &room, a).await.unwrap();
    eventually("c knows of bob", async || {
        c.membership(&room, &bob).await == Some(Membership::Join)
    })
    .await;
    let first = c.say(&carol, &room, "first").await;
    let second = c.say(&carol, &room, "second").await;
    b.run();

    let mean = Mean::in_front_of(&network, a);
    mean.says("/get_missing_events/", json!({ "events": [] }));
    let named = forge_message(a, &alice, &room, &[&first], "named").await;
    a.transaction(b, "named", &[json_of(&named)], &[]).await;
    eventually("it is tried", async || tried(b, &room, 1).await == 1).await;
    let requests = network.requests();
    let mut of_c = requests.iter().filter(|(to, _)| *to == c.name);
    assert!(of_c.any(|(_, target)| target.contains("/get_missing_events/")));

    let second = c.event(&second).await.unwrap();
    c.transaction(b, "second", &[json_of(&second.pdu)], &[])
        .await;
    eventually("what c says arrives", async || {
        b.heard(&room).await.contains(&"second".to_owned())
    })
    .await;
    mean.repents();
    for server in servers {
        server.end().await;
    }
}

/// How many of a room's events that wait were tried so often.
async fn tried(server: &Server, room: &RoomId, times: i64) -> usize {
    let waiting = server.store().inbox_waiting(room, 0, 50, 50).await.unwrap();
    let tried = waiting.iter().filter(|event| event.attempts >= times);
    tried.count()
}
