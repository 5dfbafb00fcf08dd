//! Events whose prevs nobody gives.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use ruma::{EventId, OwnedEventId, RoomVersionId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    inbound::{forge, newest},
    world::{each, eventually, json_of},
};

/// What a server answers about missing events, and what it has been asked.
#[derive(Clone, Default)]
struct Peer {
    /// To `get_missing_events`.
    missing: Arc<Mutex<Vec<Value>>>,
    /// To `event`, by id.
    events: Arc<Mutex<Vec<(OwnedEventId, Value)>>>,
    /// To `state_ids`: the ids of a state.
    state: Vec<OwnedEventId>,
    /// What was asked for, and at which event, in order.
    asked: Arc<Mutex<Vec<(&'static str, OwnedEventId)>>>,
}

#[derive(Deserialize)]
struct Latest {
    latest_events: Vec<OwnedEventId>,
}

#[derive(Deserialize)]
struct At {
    event_id: OwnedEventId,
}

impl Peer {
    /// In front of a real server: these requests go no further.
    fn before(&self, server: Router) -> Router {
        Router::new()
            .route(
                "/_matrix/federation/v1/get_missing_events/{room}",
                post(|State(peer): State<Peer>, Json(body): Json<Latest>| async move {
                    let events = peer.missing.lock().unwrap().clone();
                    for id in body.latest_events {
                            peer.ask("missing", id);
                        }
                    Json(json!({ "events": events }))
                }),
            )
            .route(
                "/_matrix/federation/v1/state_ids/{room}",
                get(|State(peer): State<Peer>, Query(at): Query<At>| async move {
                    peer.ask("state", at.event_id);
                    Json(json!({ "pdu_ids": peer.state, "auth_chain_ids": peer.state }))
                }),
            )
            .route(
                "/_matrix/federation/v1/event/{event}",
                get(|State(peer): State<Peer>, Path(id): Path<OwnedEventId>| async move {
                    let events = peer.events.lock().unwrap();
                    match events.iter().find(|(known, _)| *known == id) {
                        Some((_, pdu)) => Ok(Json(
                            json!({ "origin": "a.example", "origin_server_ts": 1, "pdus": [pdu] }),
                        )),
                        None => Err(StatusCode::NOT_FOUND),
                    }
                }),
            )
            .with_state(self.clone())
            .fallback_service(server)
    }

    fn ask(&self, what: &'static str, at: OwnedEventId) {
        self.asked.lock().unwrap().push((what, at));
    }

    fn was_asked(&self, what: &str, at: &EventId) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|(kind, id)| *kind == what && id == at)
    }
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
        let peer = Peer {
            state: a.state(&room).await.into_values().collect(),
            ..Peer::default()
        };
        world.network.attach(&a.name, peer.before(a.fed.router()));

        let base = newest(a, &room).await;
        let say = async |prev: &EventId, text: &str| {
            let content = json!({ "body": text });
            forge(
                a,
                1,
                &alice,
                &room,
                &[prev],
                "m.room.message",
                None,
                content,
            )
            .await
        };
        let bad = say(&base, "bad").await;
        let second = say(bad.event_id(), "second").await;
        let third = say(second.event_id(), "third").await;
        let fourth = say(third.event_id(), "fourth").await;

        // A number that no event may hold.
        let mut malformed = json_of(&bad);
        malformed["content"]["half"] = json!(0.5);
        *peer.missing.lock().unwrap() = vec![malformed];
        a.transaction(b, "second", &[json_of(&second)], &[]).await;
        eventually("what is before the second is asked for", async || {
            peer.was_asked("missing", second.event_id())
        })
        .await;

        *peer.missing.lock().unwrap() = vec![json_of(&second)];
        a.transaction(b, "third", &[json_of(&third)], &[]).await;
        eventually("what is before the third is asked for", async || {
            peer.was_asked("missing", third.event_id())
        })
        .await;

        *peer.missing.lock().unwrap() = vec![json_of(&second), json_of(&third)];
        *peer.events.lock().unwrap() = vec![(second.event_id().to_owned(), json_of(&second))];
        a.transaction(b, "fourth", &[json_of(&fourth)], &[]).await;
        eventually("the room gets on", async || {
            b.heard(&room).await == ["third", "fourth"]
        })
        .await;
        // Nobody was asked for a state before the second, as it was pushed; only where it was fetched.
        let asked = peer.asked.lock().unwrap().clone();
        let third = ("missing", third.event_id().to_owned());
        let before: Vec<_> = asked.iter().take_while(|asked| **asked != third).collect();
        assert!(
            before.iter().all(|(what, _)| *what == "missing"),
            "{asked:?}"
        );
        assert!(peer.was_asked("state", bad.event_id()), "{asked:?}");
        world.network.attach(&a.name, a.fed.router());
    })
    .await;
}
