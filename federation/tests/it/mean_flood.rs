//! Servers that send much, keep silent, or have no business here: what they cost, and what others notice.

use std::sync::Arc;

use http::StatusCode;
use rhizome_rooms::{
    membership::Action,
    receive::{self, Gathered, Received},
};
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, UserId};
use serde_json::json;

use crate::{
    inbound::{forge_message, newest},
    mean::Mean,
    world::{Server, World, each, eventually, json_of, room_of, still},
};

/// What is asked of a server when something is missing.
pub const GATHERING: [&str; 5] = [
    "/get_missing_events/",
    "/state_ids/",
    "/state/",
    "/event/",
    "/event_auth/",
];

/// An id that no event has.
pub fn nowhere(n: usize) -> OwnedEventId {
    format!("${n:A>43}").try_into().unwrap()
}

/// Messages upon prevs that nobody has, pushed by `from`.
async fn push_loose(from: &Server, to: &Server, user: &UserId, room: &RoomId, count: usize) {
    let mut events = Vec::new();
    for n in 0..count {
        let prev = nowhere(n);
        events.push(json_of(
            &forge_message(from, user, room, &[&prev], "loose").await,
        ));
    }
    for (n, events) in events.chunks(50).enumerate() {
        let txn = format!("loose {n} in {room}").replace([' ', '!', ':', '.'], "_");
        from.transaction(to, &txn, events, &[]).await;
    }
}

/// Two messages of an honest server, of which only the second is pushed.
async fn push_with_a_gap(from: &Server, to: &Server, user: &UserId, room: &RoomId) {
    let first = forge_message(from, user, room, &[&newest(from, room).await], "first").await;
    let second = forge_message(from, user, room, &[first.event_id()], "second").await;
    for event in [&first, &second] {
        let event = Arc::new(event.clone());
        let received = receive::receive(from.fed.rooms(), event, &Gathered::default()).await;
        assert_eq!(received.unwrap(), Received::Accepted);
    }
    from.transaction(to, "gap", &[json_of(&second)], &[]).await;
}

/// How much of what is missing this server was asked for.
fn gathered_from(world: &World, server: &Server) -> usize {
    let requests = world.network.requests();
    let of_it = requests.iter().filter(|(to, target)| {
        *to == server.name && GATHERING.iter().any(|part| target.contains(part))
    });
    of_it.count()
}

/// A server that takes every question and answers none has events waiting in more rooms than are worked on at a
/// time. The gap of another server is filled all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_keeps_nobody_waiting() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let mut rooms = Vec::new();
        for _ in 0..20 {
            let room = a.create(&alice, &RoomVersionId::V11).await;
            b.join(&bob, &room, a).await.unwrap();
            rooms.push(room);
        }
        let fair = c.create(&carol, &RoomVersionId::V11).await;
        b.join(&bob, &fair, c).await.unwrap();

        let mean = Mean::before(&world, 0);
        for part in GATHERING {
            mean.is_silent(part);
        }
        for room in &rooms {
            push_loose(a, b, &alice, room, 3).await;
        }
        eventually("the silent server is asked", async || {
            mean.count("/get_missing_events/") > 0
        })
        .await;
        push_with_a_gap(c, b, &carol, &fair).await;
        eventually("the fair server's gap is filled", async || {
            b.heard(&fair).await == ["first", "second"]
        })
        .await;
        // It is left alone after some silence, not asked for each of its events; and only what it was asked counts.
        assert!(mean.count("/get_missing_events/") < 20);
        let mut attempts = 0;
        for room in &rooms {
            for event in b.store().inbox_waiting(room, 0, 50, 50).await.unwrap() {
                attempts += event.attempts;
            }
        }
        let asked = i64::try_from(gathered_from(&world, a)).unwrap();
        assert!(
            attempts <= asked,
            "{attempts} attempts with {asked} questions"
        );
    })
    .await;
}

/// A server pushes many events that build on nothing. Others of the room are hardly troubled for them, and the gap
/// of one of those is filled while they wait.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_lacks_isnt_asked_of_all_others() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = room_of(&[(a, &alice), (b, &bob), (c, &carol)]).await;

        let mean = Mean::before(&world, 0);
        for part in GATHERING {
            mean.refuses(part, StatusCode::NOT_FOUND, json!({}));
        }
        push_loose(a, b, &alice, &room, 250).await;
        eventually("each of them was tried", async || {
            mean.count("/get_missing_events/") >= 250
        })
        .await;
        let troubled = gathered_from(&world, c);
        assert!(troubled < 150, "{troubled} requests to a third server");

        push_with_a_gap(c, b, &carol, &room).await;
        eventually("the fair server's gap is filled", async || {
            b.heard(&room).await == ["first", "second"]
        })
        .await;
    })
    .await;
}

/// An event before which a server names a state of many ids that nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn an_odd_event_costs_others_little() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = room_of(&[(a, &alice), (b, &bob), (c, &carol)]).await;

        let prevs: Vec<OwnedEventId> = (0..20).map(nowhere).collect();
        let prevs: Vec<&EventId> = prevs.iter().map(AsRef::as_ref).collect();
        let middle = forge_message(a, &alice, &room, &prevs, "in the middle").await;
        let odd = forge_message(a, &alice, &room, &[middle.event_id()], "odd").await;
        let mean = Mean::before(&world, 0);
        for part in GATHERING {
            mean.refuses(part, StatusCode::NOT_FOUND, json!({}));
        }
        let ids: Vec<OwnedEventId> = (100..190).map(nowhere).collect();
        mean.says(
            "/state_ids/",
            json!({ "pdu_ids": ids, "auth_chain_ids": [] }),
        );
        mean.says(
            "/get_missing_events/",
            json!({ "events": [json_of(&middle)] }),
        );
        a.transaction(b, "odd", &[json_of(&odd)], &[]).await;
        eventually("it was tried", async || {
            b.store()
                .inbox_next_due(b.store().clock().now_ms())
                .await
                .unwrap()
                .is_some()
                && mean.count("/event/") > 0
        })
        .await;
        eventually("it is put off", async || {
            let now = b.store().clock().now_ms();
            let due = b.store().inbox_next_due(now).await.unwrap();
            due.is_some_and(|due| due < now + 60_000)
        })
        .await;
        let troubled = gathered_from(&world, c);
        assert!(troubled < 60, "{troubled} requests to a third server");
    })
    .await;
}

/// Whoever isn't in the room can't make us keep anything: what is refused of theirs, whether the room's past or
/// its present doesn't allow it, is forgotten, and few events of theirs wait.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_for_who_isnt_in_the_room() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = b.create(&bob, &RoomVersionId::V11).await;
        a.join(&alice, &room, b).await.unwrap();
        let in_it = newest(b, &room).await;
        b.change(&bob, &room, &alice, Action::Kick).await.unwrap();
        let kicked = newest(b, &room).await;

        let late = forge_message(a, &alice, &room, &[&in_it], "beside the kick").await;
        let after = forge_message(a, &alice, &room, &[&kicked], "after the kick").await;
        let told = a
            .transaction(b, "refused", &[json_of(&late), json_of(&after)], &[])
            .await;
        for event in [&late, &after] {
            assert!(b.event(event.event_id()).await.is_none(), "{told}");
        }
        assert!(told[after.event_id().as_str()]["error"].is_string());
        assert_eq!(
            b.store().inbound_txn(&a.name, "refused").await.unwrap(),
            None
        );

        // Of others who aren't in it either we hear nothing, and ask nobody for their keys.
        let mut others = json_of(&after);
        others["sender"] = json!("@somebody:nowhere.example");
        others["signatures"] = json!({ "nowhere.example": { "ed25519:k1": "A".repeat(86) } });
        a.transaction(b, "others", &[others], &[]).await;
        let asked = world.network.requests();
        assert!(asked.iter().all(|(to, _)| to != "nowhere.example"));

        push_loose(a, b, &alice, &room, 100).await;
        let waiting = b.store().inbox_size(&a.name).await.unwrap();
        assert!(waiting <= 20, "{waiting} events wait");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_did_nothing_is_forgotten() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        a.transaction(b, "empty", &[], &[]).await;
        let odd = json!({ "room_id": "!nowhere:a.example", "type": "m.room.message" });
        a.transaction(b, "odd", &[odd], &[]).await;
        let typing = json!({ "edu_type": "m.typing", "content": {
            "room_id": room, "user_id": alice, "typing": true } });
        a.transaction(b, "typing", &[], &[typing]).await;
        for txn in ["empty", "odd", "typing"] {
            let kept = b.store().inbound_txn(&a.name, txn).await.unwrap();
            assert_eq!(kept, None, "{txn}");
        }
        let said = forge_message(a, &alice, &room, &[&newest(b, &room).await], "hello").await;
        a.transaction(b, "said", &[json_of(&said)], &[]).await;
        let kept = b.store().inbound_txn(&a.name, "said").await.unwrap();
        assert!(kept.is_some());
    })
    .await;
}
