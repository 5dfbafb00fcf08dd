//! What other servers may ask and tell, and what bad input gets.

use http::Method;
use rhizome_federation::outbound::Limits;
use rhizome_protocol::{
    Object, Pdu, RoomRules,
    draft::{self, Draft, Place},
};
use rhizome_rooms::{create::plan::Preset, membership::Action};
use rhizome_storage::Status;
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    support::key,
    world::{Server, VERSIONS, each, enc, eventually, json_of, same_state, still},
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

fn errcode(refused: Result<Value, rhizome_federation::MatrixError>) -> (u16, String) {
    let error = refused.unwrap_err();
    (error.status.as_u16(), error.errcode.into_owned())
}

fn forbidden() -> (u16, String) {
    (403, "M_FORBIDDEN".to_owned())
}

fn not_found() -> (u16, String) {
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

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one list of bad events")]
async fn one_bad_event_never_holds_up_the_others() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let prev = newest(b, &room).await;
            let message = async |text: &str| {
                let content = json!({ "body": text });
                forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await
            };
            let good = message("good").await;
            // Signed with another key than the server's.
            let content = json!({ "body": "forged" });
            let forged = forge(b, 9, &bob, &room, &[&prev], "m.room.message", None, content).await;
            // Somebody else's event.
            let content = json!({ "body": "stolen" });
            let stolen = forge(
                b,
                2,
                &alice,
                &room,
                &[&prev],
                "m.room.message",
                None,
                content,
            )
            .await;
            // Content changed after signing: taken, but redacted.
            let changed = message("original").await;
            let mut changed_json = json_of(&changed);
            changed_json["content"]["body"] = "changed".into();
            // Not allowed: bob has no power.
            let content = json!({ "topic": "mine" });
            let refused = forge(
                b,
                2,
                &bob,
                &room,
                &[&prev],
                "m.room.topic",
                Some(""),
                content,
            )
            .await;
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
            let text = forged.content()["body"].as_str().unwrap().to_owned();
            let place = Place {
                prev_events: forged.prev_events().to_vec(),
                auth_events: forged.auth_events().to_vec(),
                depth: forged.depth(),
                origin_server_ts: forged.origin_server_ts(),
                ..Place::default()
            };
            let draft = Draft {
                room_id: Some(room.clone()),
                sender: bob.clone(),
                kind: "m.room.message".to_owned(),
                state_key: None,
                content: json!({ "body": text }).as_object().unwrap().clone(),
                redacts: None,
            };
            let genuine = draft::build(forged.rules(), &draft, &place, &b.name, &key(2)).unwrap();
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
async fn take(server: &Server, event: &Pdu) {
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

#[tokio::test(flavor = "multi_thread")]
async fn the_state_at_a_fork_and_what_events_rest_on() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let base = newest(a, &room).await;
            let topic = async |text: &str| {
                let content = json!({ "topic": text });
                let event = forge(
                    a,
                    1,
                    &alice,
                    &room,
                    &[&base],
                    "m.room.topic",
                    Some(""),
                    content,
                )
                .await;
                take(a, &event).await;
                event
            };
            let (one, two) = (topic("one").await, topic("two").await);
            let ends = [one.event_id(), two.event_id()];
            let content = json!({ "body": "both" });
            let merge = forge(a, 1, &alice, &room, &ends, "m.room.message", None, content).await;
            take(a, &merge).await;

            let at = async |id: &EventId| {
                let path = format!(
                    "/_matrix/federation/v1/state_ids/{}?event_id={}",
                    enc(&room),
                    enc(id)
                );
                let ids = b.get(a, &path).await.unwrap();
                let path = path.replace("state_ids", "state");
                let whole = b.get(a, &path).await.unwrap();
                assert_eq!(
                    whole["pdus"].as_array().unwrap().len(),
                    ids["pdu_ids"].as_array().unwrap().len()
                );
                assert_eq!(
                    whole["auth_chain"].as_array().unwrap().len(),
                    ids["auth_chain_ids"].as_array().unwrap().len()
                );
                ids["pdu_ids"].as_array().unwrap().clone()
            };
            // Before each topic there was none; before the merge there is one of the two.
            for end in [&one, &two] {
                let state = at(end.event_id()).await;
                assert!(
                    !state.contains(&json!(one.event_id()))
                        && !state.contains(&json!(two.event_id()))
                );
            }
            let merged = at(merge.event_id()).await;
            let now = a.state(&room).await;
            let winner = &now[&("m.room.topic".to_owned(), String::new())];
            assert!(merged.contains(&json!(winner)));
            assert_eq!(merged.len(), now.len());

            let path = format!(
                "/_matrix/federation/v1/event_auth/{}/{}",
                enc(&room),
                enc(merge.event_id())
            );
            let chain = b.get(a, &path).await.unwrap()["auth_chain"]
                .as_array()
                .unwrap()
                .len();
            assert!(
                chain >= 2,
                "alice's membership and the power levels at least"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_for_servers_in_the_room_as_far_as_they_may_see_it() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        let joined_only = json!({ "history_visibility": "joined" });
        let early = a.say(&alice, &room, "for all").await;
        a.send(&alice, &room, "m.room.history_visibility", Some(""), joined_only).await.unwrap();
        let hidden = a.say(&alice, &room, "for members").await;
        b.join(&bob, &room, a).await.unwrap();
        let late = a.say(&alice, &room, "for bob too").await;

        let event = async |id: &EventId| {
            let path = format!("/_matrix/federation/v1/event/{}", enc(id));
            b.get(a, &path).await.unwrap()["pdus"][0].clone()
        };
        assert_eq!(event(&early).await["content"]["body"], "for all");
        assert_eq!(event(&late).await["content"]["body"], "for bob too");
        // Redacted, so that the graph stays whole.
        assert_eq!(event(&hidden).await["content"], json!({}));

        let path = format!(
            "/_matrix/federation/v1/backfill/{}?v={}&limit=4",
            enc(&room),
            enc(&late)
        );
        let pdus = b.get(a, &path).await.unwrap()["pdus"].clone();
        let pdus = pdus.as_array().unwrap();
        assert_eq!(pdus.len(), 4);
        assert_eq!(pdus[0]["content"]["body"], "for bob too");
        assert_eq!(pdus[1]["type"], "m.room.member");
        assert_eq!(pdus[2]["content"], json!({}));

        let path = format!("/_matrix/federation/v1/get_missing_events/{}", enc(&room));
        let ask = |limit: u32| {
            json!({ "earliest_events": [early], "latest_events": [late], "limit": limit })
        };
        let events = b.request(a, Method::POST, &path, Some(ask(10))).await.unwrap()["events"].clone();
        let kinds: Vec<_> =
            events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["m.room.history_visibility", "m.room.message", "m.room.member"]);
        let events = b.request(a, Method::POST, &path, Some(ask(1))).await.unwrap()["events"].clone();
        assert_eq!(events.as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_unknown_rooms() {
    still(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = a
            .create_with(&alice, &RoomVersionId::V12, Preset::PrivateChat)
            .await;
        a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
        b.join(&bob, &room, a).await.unwrap();
        let event = a.say(&alice, &room, "secret").await;

        let reads = |room: &str| {
            let (room, event) = (enc(room), enc(&event));
            [
                format!("/_matrix/federation/v1/state/{room}?event_id={event}"),
                format!("/_matrix/federation/v1/state_ids/{room}?event_id={event}"),
                format!("/_matrix/federation/v1/event_auth/{room}/{event}"),
                format!("/_matrix/federation/v1/backfill/{room}?v={event}&limit=10"),
            ]
        };
        for path in reads(room.as_str()) {
            assert_eq!(errcode(c.get(a, &path).await), forbidden(), "{path}");
            assert!(b.get(a, &path).await.is_ok(), "{path}");
        }
        for path in reads("!unknown:a.example") {
            assert_eq!(errcode(b.get(a, &path).await), not_found(), "{path}");
        }
        let path = format!("/_matrix/federation/v1/event/{}", enc(&event));
        assert_eq!(errcode(c.get(a, &path).await), forbidden());
        let path = format!("/_matrix/federation/v1/event/{}", enc("$nothing"));
        assert_eq!(errcode(b.get(a, &path).await), not_found());
        let path = format!("/_matrix/federation/v1/get_missing_events/{}", enc(&room));
        let body = json!({ "earliest_events": [], "latest_events": [event] });
        assert_eq!(
            errcode(c.request(a, Method::POST, &path, Some(body)).await),
            forbidden()
        );

        // make_join: versions, invitation, other servers' users, unknown rooms.
        let make = |what: &str, room: &str, user: &UserId, query: &str| {
            format!(
                "/_matrix/federation/v1/make_{what}/{}/{}{query}",
                enc(room),
                enc(user)
            )
        };
        let path = make("join", room.as_str(), &carol, "?ver=12");
        assert_eq!(errcode(c.get(a, &path).await), forbidden());
        let path = make("join", room.as_str(), &carol, "?ver=10&ver=11");
        let refused = c.get(a, &path).await.unwrap_err();
        assert_eq!(refused.errcode, "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(refused.extra["room_version"], "12");
        let path = make("join", room.as_str(), &bob, "?ver=12");
        assert_eq!(errcode(c.get(a, &path).await), forbidden());
        let path = make("join", "!unknown:a.example", &carol, "?ver=12");
        assert_eq!(errcode(c.get(a, &path).await), not_found());
        let path = make("leave", room.as_str(), &carol, "");
        assert_eq!(errcode(c.get(a, &path).await), forbidden());

        // What isn't a join of one's own user is no send_join.
        let prev = newest(b, &room).await;
        let content = json!({ "body": "no join" });
        let event = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
        for version in ["v1", "v2"] {
            let path = format!(
                "/_matrix/federation/{version}/send_join/{}/{}",
                enc(&room),
                enc(event.event_id())
            );
            let refused = b
                .request(a, Method::PUT, &path, Some(json_of(&event)))
                .await;
            assert_eq!(errcode(refused), (400, "M_INVALID_PARAM".to_owned()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_the_acl_denies() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        let prev = newest(b, &room).await;
        let acl = json!({ "allow": ["*"], "deny": ["b.*"] });
        a.send(&alice, &room, "m.room.server_acl", Some(""), acl)
            .await
            .unwrap();

        let event = newest(a, &room).await;
        for path in [
            format!(
                "/_matrix/federation/v1/state_ids/{}?event_id={}",
                enc(&room),
                enc(&event)
            ),
            format!(
                "/_matrix/federation/v1/backfill/{}?v={}&limit=10",
                enc(&room),
                enc(&event)
            ),
            format!(
                "/_matrix/federation/v1/make_join/{}/{}?ver=12",
                enc(&room),
                enc(&bob)
            ),
            format!(
                "/_matrix/federation/v1/make_leave/{}/{}",
                enc(&room),
                enc(&bob)
            ),
        ] {
            assert_eq!(errcode(b.get(a, &path).await), forbidden(), "{path}");
        }
        let content = json!({ "body": "let me in" });
        let event = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
        let typing = json!({
            "edu_type": "m.typing",
            "content": { "room_id": room, "user_id": bob, "typing": true },
        });
        let told = b
            .transaction(a, "denied", &[json_of(&event)], &[typing])
            .await;
        assert!(
            told[event.event_id().as_str()]["error"]
                .as_str()
                .unwrap()
                .contains("ACL")
        );
        assert!(a.event(event.event_id()).await.is_none());
        let no = a.store().room(&room).await.unwrap().unwrap().room;
        assert!(a.store().ephemeral().typing(no).1.is_empty());
        // Others come and go as before.
        c.join(&c.user("carol"), &room, a).await.unwrap();
    })
    .await;
}

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
            let create_id = &a.state(&room).await[&("m.room.create".to_owned(), String::new())];
            let create = json_of(&a.event(create_id).await.unwrap().pdu);
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
                let other =
                    &a.state(&elsewhere).await[&("m.room.create".to_owned(), String::new())];
                let other = json_of(&a.event(other).await.unwrap().pdu);
                let refused = ask(&good, good.event_id(), v, json!([create, other])).await;
                assert_eq!(errcode(refused), (400, "M_INVALID_PARAM".to_owned()));
            }
            // The stripped form is put up with.
            let stripped = json!([{
                "type": "m.room.create", "state_key": "", "sender": alice, "content": {},
            }]);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_older_endpoints_give_the_same_in_their_own_form() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        for (what, membership) in [("join", "join"), ("leave", "leave")] {
            let path = format!(
                "/_matrix/federation/v1/make_{what}/{}/{}?ver=11",
                enc(&room),
                enc(&bob)
            );
            let made = b.get(a, &path).await.unwrap();
            assert_eq!(made["room_version"], "11");
            let mut event: Object = made["event"].as_object().unwrap().clone();
            assert_eq!(event["content"]["membership"], membership);
            event.insert("origin_server_ts".to_owned(), 1_700_000_000_000_i64.into());
            let rules = RoomRules::named("11").unwrap();
            let event = draft::finish(rules, event, &b.name, &key(2)).unwrap();
            let path = format!(
                "/_matrix/federation/v1/send_{what}/{}/{}",
                enc(&room),
                enc(event.event_id())
            );
            let answer = b
                .request(a, Method::PUT, &path, Some(json_of(&event)))
                .await
                .unwrap();
            assert_eq!(answer[0], 200);
            if what == "join" {
                let state = answer[1]["state"].as_array().unwrap();
                assert!(state.iter().any(|event| event["type"] == "m.room.create"));
                assert!(!answer[1]["auth_chain"].as_array().unwrap().is_empty());
            } else {
                assert_eq!(answer[1], json!({}));
            }
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
        // One look at the transactions that were done; the event's group; the answer's group. PostgreSQL's
        // poll for other processes may come in between, so the cheapest counts.
        let (queries, transactions) = costs.iter().min().unwrap();
        assert!(*queries <= 12, "{costs:?}");
        assert_eq!(*transactions, 2, "{costs:?}");
    })
    .await;
}

/// What nobody sends who means well. Each is refused or stored as it is, and the rest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_strings_and_numbers() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
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

            // Strange, but right.
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

            // Wrong: each as the text of an event whose rest is right.
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
