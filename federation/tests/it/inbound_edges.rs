//! Edges of transactions and of what is signed.

use http::Method;
use rhizome_federation::outbound::Limits;
use rhizome_protocol::Pdu;
use rhizome_rooms::create::plan::Preset;
use ruma::{EventId, OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    inbound::{errcode, forge, newest, take},
    world::{Server, VERSIONS, each, enc, eventually, json_of, same_state, still},
};

#[tokio::test(flavor = "multi_thread")]
async fn typing_and_receipts() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        let said = a.say(&alice, &room, "read me").await;
        let no = a.store().room(&room).await.unwrap().unwrap().room;
        let typing = |user: &UserId, typing: bool| {
            json!({
                "edu_type": "m.typing",
                "content": { "room_id": room, "user_id": user, "typing": typing },
            })
        };
        let receipt = |user: &UserId| {
            json!({ "edu_type": "m.receipt", "content": { room.as_str(): { "m.read": {
                user: { "event_ids": [said], "data": { "ts": 5, "thread_id": "main" } } } } } })
        };
        let edus = [
            json!({ "edu_type": "m.presence", "content": { "push": [] } }),
            json!({ "edu_type": "m.typing", "content": 3 }),
            json!({ "edu_type": "m.receipt", "content": { "!x": null } }),
            json!("nonsense"),
            // Neither of these is b's to tell: another server's user, and one who isn't in the room.
            typing(&alice, true),
            typing(&b.user("bea"), true),
            receipt(&alice),
            typing(&bob, true),
            receipt(&bob),
        ];
        b.transaction(a, "edus", &[], &edus).await;
        assert_eq!(
            a.store().ephemeral().typing(no).1,
            std::slice::from_ref(&bob)
        );
        let of = async |user: &UserId| {
            let user = a.store().known_user(user).await.unwrap().unwrap();
            a.store().receipts_of(no, user).await.unwrap()
        };
        assert!(of(&alice).await.is_empty());
        let receipts = of(&bob).await;
        assert_eq!(receipts.len(), 1);
        assert_eq!((&receipts[0].event_id, receipts[0].ts), (&said, 5));
        assert_eq!(receipts[0].thread.as_deref(), Some("main"));
        b.transaction(a, "more", &[], &[typing(&bob, false)]).await;
        assert!(a.store().ephemeral().typing(no).1.is_empty());

        // And ours go out.
        let no = b.store().room(&room).await.unwrap().unwrap().room;
        rhizome_federation::sender::typing::local(&a.fed, &room, &alice, true).await;
        eventually("b hears alice type", async || {
            b.store().ephemeral().typing(no).1 == [alice.clone()]
        })
        .await;
    })
    .await;
}

async fn create_event(server: &Server, room: &RoomId) -> Value {
    let id = &server.state(room).await[&("m.room.create".to_owned(), String::new())];
    json_of(&server.event(id).await.unwrap().pdu)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_as_an_invite() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create_with(&alice, version, Preset::PrivateChat).await;
            let prev = newest(a, &room).await;
            let member = async |sender: &UserId, target: &UserId, membership: &str, seed: u8| {
                let content = json!({ "membership": membership });
                forge(
                    a,
                    seed,
                    sender,
                    &room,
                    &[&prev],
                    "m.room.member",
                    Some(target.as_str()),
                    content,
                )
                .await
            };
            let create = create_event(a, &room).await;
            let ask = async |event: &Pdu, id: &EventId, version: &str, state: Value| {
                let path = format!("/_matrix/federation/v2/invite/{}/{}", enc(&room), enc(id));
                let body = json!({
                    "room_version": version, "event": json_of(event), "invite_room_state": state,
                });
                a.request(b, Method::PUT, &path, Some(body)).await
            };
            let (v, with_create) = (version.as_str(), json!([create]));
            let good = member(&alice, &bob, "invite", 1).await;
            let bad = [
                member(&alice, &bob, "join", 1).await,
                // Of another server's user; by another server's user; with a wrong key.
                member(&alice, &a.user("ann"), "invite", 1).await,
                member(&bob, &bob, "invite", 1).await,
                member(&alice, &bob, "invite", 7).await,
            ];
            for event in &bad {
                let refused = ask(event, event.event_id(), v, with_create.clone()).await;
                assert_eq!(errcode(refused), (400, "M_INVALID_PARAM".to_owned()));
            }
            let refused = ask(&good, bad[0].event_id(), v, with_create.clone()).await;
            assert_eq!(errcode(refused).0, 400);
            let refused = ask(
                &good,
                good.event_id(),
                "org.example.new",
                with_create.clone(),
            )
            .await
            .unwrap_err();
            assert_eq!(refused.errcode, "M_INCOMPATIBLE_ROOM_VERSION");
            assert_eq!(refused.extra["room_version"], "org.example.new");
            if v == "12" {
                let refused = ask(&good, good.event_id(), v, json!([])).await;
                assert_eq!(errcode(refused), (400, "M_MISSING_PARAM".to_owned()));
                let elsewhere = a.create(&alice, version).await;
                let other = create_event(a, &elsewhere).await;
                let refused = ask(&good, good.event_id(), v, json!([create, other])).await;
                assert_eq!(errcode(refused), (400, "M_INVALID_PARAM".to_owned()));
            }
            let stripped = json!([{
                "type": "m.room.create", "state_key": "", "sender": alice, "content": {},
            }]);
            // The stripped form is put up with.
            ask(&good, good.event_id(), v, stripped).await.unwrap();
            let signed = ask(&good, good.event_id(), v, with_create).await.unwrap();
            // Clients are told when the room was made.
            let (user, room) = (
                b.store().known_user(&bob).await.unwrap().unwrap(),
                b.store().known_room(&room).await.unwrap().unwrap(),
            );
            let kept = b.store().remote_invite(user, room).await.unwrap().unwrap();
            assert!(kept.stripped_state.contains("origin_server_ts"));
            let signatures = signed["event"]["signatures"].as_object().unwrap();
            assert!(signatures.contains_key("a.example") && signatures.contains_key("b.example"));
        }
    })
    .await;
}

/// A room in which Bob may do everything.
async fn of_both(a: &Server, b: &Server, version: &RoomVersionId) -> OwnedRoomId {
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.create(&alice, version).await;
    b.join(&bob, &room, a).await.unwrap();
    let mut levels = json!({ "users": { bob.as_str(): 100 } });
    if version != &RoomVersionId::V12 {
        levels["users"][alice.as_str()] = 100.into();
    }
    a.send(&alice, &room, "m.room.power_levels", Some(""), levels)
        .await
        .unwrap();
    same_state(a, b, &room).await;
    room
}

/// What nobody sends who means well, but is right: it is stored as it is.
#[tokio::test(flavor = "multi_thread")]
async fn strange_texts_are_kept() {
    each(2, async |world| {
        let (a, b) = world.two();
        let bob = b.user("bob");
        for version in &VERSIONS {
            let room = of_both(a, b, version).await;
            let strings = [
                "\u{0}",
                "a\u{0}b",
                "\u{1}0\u{1}",
                "'\"\\$1 --",
                "\u{fffe}\u{10ffff}",
                "🦊",
            ];
            for (n, text) in strings.iter().enumerate() {
                let prev = newest(b, &room).await;
                let content =
                    json!({ "body": text, text.to_owned(): { "n": 9_007_199_254_740_991_i64 } });
                let said =
                    forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
                take(b, &said).await;
                let kind = format!("org.example.{text}");
                let prev = said.event_id().to_owned();
                let content = json!({ "x": text });
                let state = forge(b, 2, &bob, &room, &[&prev], &kind, Some(text), content).await;
                take(b, &state).await;
                let told = b
                    .transaction(
                        a,
                        &format!("{version}\u{0}{n}").replace('\u{0}', "%00"),
                        &[json_of(&said), json_of(&state)],
                        &[],
                    )
                    .await;
                assert_eq!(
                    told,
                    json!({ said.event_id(): {}, state.event_id(): {} }),
                    "{text:?}"
                );
                let stored = a.event(said.event_id()).await.unwrap();
                assert_eq!(stored.pdu.json(), said.json());
                assert_eq!(
                    a.state(&room).await[&(kind, (*text).to_owned())],
                    state.event_id()
                );
            }
            same_state(a, b, &room).await;
        }
    })
    .await;
}

/// Each is refused, as the text of an event whose rest is right, and the rest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_numbers_and_shapes_are_refused_by_themselves() {
    each(2, async |world| {
        let (a, b) = world.two();
        let bob = b.user("bob");
        for version in &VERSIONS {
            let room = of_both(a, b, version).await;
            let prev = newest(b, &room).await;
            let content = json!({ "body": "CONTENT" });
            let bad = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
            let content = json!({ "body": "good" });
            let good = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
            // (Nesting beyond 100 levels, doubled keys and lone surrogates have no canonical form: a body with
            // them can't be signed, and is refused whole before anybody looks at its events.)
            let nested = format!("{}1{}", "[".repeat(90), "]".repeat(90));
            let wrong = [
                bad.json().replace("\"CONTENT\"", &nested),
                bad.json().replace("\"CONTENT\"", "9007199254740993"),
                bad.json().replace("\"CONTENT\"", "1.5"),
                bad.json()
                    .replace("\"CONTENT\"", &format!("\"{}\"", "x".repeat(70_000))),
                bad.json().replace("\"depth\":", "\"depth\":-"),
                bad.json()
                    .replace("\"prev_events\":[", "\"prev_events\":[[\"$x\"],"),
            ];
            for (n, text) in wrong.iter().enumerate() {
                let body = format!(
                    "{{\"origin\":\"b.example\",\"origin_server_ts\":1,\"pdus\":[{text},{}]}}",
                    good.json()
                );
                let body = serde_json::value::RawValue::from_string(body).unwrap();
                let path = format!("/_matrix/federation/v1/send/wrong-{version}-{n}");
                let answer = b
                    .fed
                    .outbound()
                    .call(&a.name, Method::PUT, &path, Some(&body), Limits::default())
                    .await
                    .unwrap();
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!(answer["pdus"][good.event_id().as_str()], json!({}), "{n}");
            }
            let stored = a.event(good.event_id()).await.unwrap();
            assert_eq!(stored.pdu.content()["body"], "good");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_with_one_message_costs() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        let mut prev = newest(b, &room).await;
        let mut costs = Vec::new();
        for n in 0..6 {
            let content = json!({ "body": format!("m{n}") });
            let event = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
            prev = event.event_id().to_owned();
            take(b, &event).await;
            let before = a.store().counters().now();
            b.transaction(a, &format!("t{n}"), &[json_of(&event)], &[])
                .await;
            let after = a.store().counters().now();
            costs.push((
                after.queries - before.queries,
                after.transactions - before.transactions,
            ));
        }
        // One look at the transactions that were done, one at the event, and the group of both it and the answer.
        // PostgreSQL's poll for other processes may come in between, so the cheapest counts.
        let (queries, transactions) = costs.iter().min().unwrap();
        assert!(*queries <= 9, "{costs:?}");
        assert_eq!(*transactions, 1, "{costs:?}");
    })
    .await;
}
