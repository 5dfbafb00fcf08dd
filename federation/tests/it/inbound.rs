//! What other servers may ask and tell, and what bad input gets.

use http::Method;
use rhizome_protocol::{
    Object, Pdu, RoomRules,
    draft::{self, Draft, Place},
};
use rhizome_storage::Status;
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::{Value, json};

use crate::{
    support::key,
    world::{Server, VERSIONS, each, eventually, json_of, same_state, still},
};

/// An event of `server`'s user built by hand upon `prevs`, with the auth events of the server's current state.
#[expect(clippy::too_many_arguments, reason = "an event has so many parts")]
pub async fn forge(
    server: &Server,
    seed: u8,
    sender: &UserId,
    room: &RoomId,
    prevs: &[&EventId],
    kind: &str,
    state_key: Option<&str>,
    content: Value,
) -> Pdu {
    let head = server.store().room(room).await.unwrap().unwrap();
    let rules: &'static RoomRules = head.rules;
    let content: Object = content.as_object().unwrap().clone();
    let state = server.state(room).await;
    let auth_events = rhizome_protocol::auth::auth_keys(rules, kind, sender, state_key, &content)
        .into_iter()
        .filter_map(|key| state.get(&key).cloned())
        .collect();
    let mut depth = 0;
    for prev in prevs {
        if let Some(event) = server.event(prev).await {
            depth = depth.max(event.pdu.depth());
        }
    }
    let place = Place {
        prev_events: prevs.iter().map(|prev| (*prev).to_owned()).collect(),
        auth_events,
        depth: depth + 1,
        origin_server_ts: server.store().clock().now_ms(),
        ..Place::default()
    };
    let draft = Draft {
        room_id: Some(room.to_owned()),
        sender: sender.to_owned(),
        kind: kind.to_owned(),
        state_key: state_key.map(ToOwned::to_owned),
        content,
        redacts: None,
    };
    draft::build(rules, &draft, &place, &server.name, &key(seed)).unwrap()
}

/// A message built by hand upon `prevs`.
pub async fn forge_message(
    server: &Server,
    sender: &UserId,
    room: &RoomId,
    prevs: &[&EventId],
    text: &str,
) -> Pdu {
    let seed = server.name.as_str().as_bytes()[0] - b'a' + 1;
    let (kind, content) = ("m.room.message", json!({ "body": text }));
    forge(server, seed, sender, room, prevs, kind, None, content).await
}

pub async fn newest(server: &Server, room: &RoomId) -> OwnedEventId {
    server
        .store()
        .room(room)
        .await
        .unwrap()
        .unwrap()
        .extremities[0]
        .event_id
        .clone()
}

pub fn errcode(refused: Result<Value, rhizome_federation::MatrixError>) -> (u16, String) {
    let error = refused.unwrap_err();
    (error.status.as_u16(), error.errcode.into_owned())
}

pub fn forbidden() -> (u16, String) {
    (403, "M_FORBIDDEN".to_owned())
}

pub fn not_found() -> (u16, String) {
    (404, "M_NOT_FOUND".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_transaction_gets_the_same_answer_and_no_second_event() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        let prev = newest(b, &room).await;
        let content = json!({ "body": "once" });
        let event = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
        let sent = [json_of(&event)];
        let (first, second) = tokio::join!(
            b.transaction(a, "t1", &sent, &[]),
            b.transaction(a, "t1", &sent, &[])
        );
        assert_eq!(first, json!({ event.event_id(): {} }));
        assert_eq!(first, second);
        // The same transaction id with other content is still the first transaction.
        assert_eq!(b.transaction(a, "t1", &[], &[]).await, first);
        // The same event in another transaction is known.
        assert_eq!(b.transaction(a, "t2", &sent, &[]).await, first);
        assert_eq!(a.heard(&room).await, ["once"]);
    })
    .await;
}

/// A forged event, signed by its server.
fn genuine(forged: &Pdu, server: &ServerName) -> Pdu {
    let place = Place {
        prev_events: forged.prev_events().to_vec(),
        auth_events: forged.auth_events().to_vec(),
        depth: forged.depth(),
        origin_server_ts: forged.origin_server_ts(),
        ..Place::default()
    };
    let draft = Draft {
        room_id: Some(forged.room_id().to_owned()),
        sender: forged.sender().to_owned(),
        kind: forged.kind().to_owned(),
        state_key: None,
        content: forged.content().clone(),
        redacts: None,
    };
    draft::build(forged.rules(), &draft, &place, server, &key(2)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_never_holds_up_the_others() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let prev = newest(b, &room).await;
            let of = async |key: u8, sender: &UserId, text: &str| {
                let content = json!({ "body": text });
                let kind = "m.room.message";
                forge(b, key, sender, &room, &[&prev], kind, None, content).await
            };
            let message = async |text: &str| of(2, &bob, text).await;
            let good = message("good").await;
            // Signed with another key than the server's.
            let forged = of(9, &bob, "forged").await;
            // Somebody else's event.
            let stolen = of(2, &alice, "stolen").await;
            // Content changed after signing: taken, but redacted.
            let changed = message("original").await;
            let mut changed_json = json_of(&changed);
            changed_json["content"]["body"] = "changed".into();
            // Not allowed: bob has no power.
            let content = json!({ "topic": "mine" });
            let kind = "m.room.topic";
            let refused = forge(b, 2, &bob, &room, &[&prev], kind, Some(""), content).await;
            // The sender changed after signing, so it is another event, unsigned.
            let mut other = json_of(&message("other").await);
            other["sender"] = b.user("bea").as_str().into();

            let pdus = [
                json!("not even an object"),
                json!({ "type": "m.room.message" }),
                json!({ "room_id": room, "type": 3, "content": null }),
                json!({ "room_id": "!unknown:b.example", "type": "m.room.message" }),
                json_of(&forged),
                json_of(&stolen),
                changed_json,
                json_of(&refused),
                other,
                json_of(&good),
            ];
            let told = b
                .transaction(a, &format!("bad-{version}"), &pdus, &[])
                .await;
            assert_eq!(told[good.event_id().as_str()], json!({}));
            assert_eq!(told[changed.event_id().as_str()], json!({}));
            for bad in [&forged, &stolen, &refused] {
                assert!(told[bad.event_id().as_str()]["error"].is_string(), "{told}");
            }
            assert_eq!(a.heard(&room).await, ["good"]);
            assert!(a.event(forged.event_id()).await.is_none());
            assert!(a.event(stolen.event_id()).await.is_none());
            assert_eq!(
                a.event(refused.event_id()).await.unwrap().status,
                Status::Rejected
            );
            assert!(
                a.event(changed.event_id())
                    .await
                    .unwrap()
                    .pdu
                    .content()
                    .is_empty()
            );

            // The forged copy was refused for its signature: the genuine event is welcome.
            let genuine = genuine(&forged, &b.name);
            assert_eq!(genuine.event_id(), forged.event_id());
            b.transaction(a, &format!("genuine-{version}"), &[json_of(&genuine)], &[])
                .await;
            assert_eq!(a.heard(&room).await, ["good", "forged"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_transactions_are_refused() {
    still(2, async |world| {
        let (a, b) = world.two();
        let path = "/_matrix/federation/v1/send/large";
        let of = |pdus: usize, edus: usize| {
            json!({
                "origin": b.name, "origin_server_ts": 1,
                "pdus": vec![json!({}); pdus],
                "edus": vec![json!({ "edu_type": "x", "content": {} }); edus],
            })
        };
        for body in [of(51, 0), of(0, 101)] {
            let refused = b.request(a, Method::PUT, path, Some(body)).await;
            assert_eq!(errcode(refused).0, 400);
        }
        b.request(a, Method::PUT, path, Some(of(50, 100)))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_events_are_gathered() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let first = newest(a, &room).await;
            // A chain that a never sends by itself: built by hand from the end that b has.
            let mut chain = Vec::new();
            let mut prev = first;
            for n in 0..5 {
                let content = json!({ "body": format!("m{n}") });
                let event = forge(
                    a,
                    1,
                    &alice,
                    &room,
                    &[&prev],
                    "m.room.message",
                    None,
                    content,
                )
                .await;
                prev = event.event_id().to_owned();
                // a has it, as if it had come from elsewhere, so that it is not in a's outbox.
                take(a, &event).await;
                chain.push(event);
            }
            let last = chain.last().unwrap();
            let told = a
                .transaction(b, &format!("gap-{version}"), &[json_of(last)], &[])
                .await;
            assert_eq!(told, json!({ last.event_id(): {} }), "taken, to be decided");
            eventually("all come", async || {
                b.heard(&room).await == ["m0", "m1", "m2", "m3", "m4"]
            })
            .await;
            let origin = a.name.clone();
            eventually("the inbox is empty", async || {
                b.store().inbox_size(&origin).await.unwrap() == 0
            })
            .await;
        }
    })
    .await;
}

/// Has a server take an event as received.
pub async fn take(server: &Server, event: &Pdu) {
    use rhizome_rooms::receive::{self, Gathered, Received};
    let event = std::sync::Arc::new(event.clone());
    let received = receive::receive(server.fed.rooms(), event, &Gathered::default())
        .await
        .unwrap();
    assert_eq!(received, Received::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_is_bridged_by_the_state_and_filled_later() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let mut prev = newest(a, &room).await;
            let mut last = None;
            for n in 0..220 {
                let event = if n == 10 {
                    let content = json!({ "topic": "changed in the gap" });
                    forge(
                        a,
                        1,
                        &alice,
                        &room,
                        &[&prev],
                        "m.room.topic",
                        Some(""),
                        content,
                    )
                    .await
                } else {
                    let content = json!({ "body": format!("m{n}") });
                    forge(
                        a,
                        1,
                        &alice,
                        &room,
                        &[&prev],
                        "m.room.message",
                        None,
                        content,
                    )
                    .await
                };
                prev = event.event_id().to_owned();
                take(a, &event).await;
                last = Some(event);
            }
            let last = last.unwrap();
            a.transaction(b, &format!("long-{version}"), &[json_of(&last)], &[])
                .await;
            eventually("the last comes", async || {
                b.event(last.event_id()).await.is_some()
            })
            .await;
            same_state(a, b, &room).await;
            assert!(
                b.state(&room)
                    .await
                    .contains_key(&("m.room.topic".into(), String::new()))
            );
            let heard = b.heard(&room).await;
            assert!(heard.len() < 219, "there is a gap");
            // Its far side is history, fetched when somebody pages back.
            let mut pages = 0;
            while b.backfill(&room, 20).await && pages < 20 {
                pages += 1;
            }
            let no = b.store().room(&room).await.unwrap().unwrap().room;
            assert!(
                b.store()
                    .missing_prev_events(no, 10)
                    .await
                    .unwrap()
                    .is_empty()
            );
        }
    })
    .await;
}
