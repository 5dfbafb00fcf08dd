//! Servers that aren't in a room, or have little to do with what they tell of: what they can make us keep, and whom they can
//! make us ask.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::{Method, StatusCode};
use rhizome_protocol::{Object, Pdu, canonical::parse_object, sign, sticky};
use rhizome_rooms::membership::Action;
use ruma::{OwnedEventId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    inbound::{errcode, forbidden, forge, forge_message, newest},
    mean::{Mean, json_answer},
    mean_flood::{GATHERING, nowhere},
    mean_invites,
    support::key,
    world::{Server, World, each, enc, eventually, json_of, still},
};

/// An event with something of it changed, and signed as it is then.
pub fn remade(event: &Pdu, server: &Server, seed: u8, change: impl FnOnce(&mut Object)) -> Pdu {
    let rules = event.rules();
    let mut object = parse_object(event.json().as_bytes()).unwrap();
    object.remove("hashes");
    object.remove("signatures");
    change(&mut object);
    sign::hash_and_sign_pdu(rules, &mut object, &server.name, &key(seed)).unwrap();
    Pdu::parse(rules, object).unwrap()
}

/// Alice was put out of the room. Her server pushes what she said before, most of which has to be asked for; and what builds on
/// nothing, so that a state would have to be told. It would tell anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_gives_when_it_is_asked_is_not_kept() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = b.create(&bob, &RoomVersionId::V11).await;
        a.join(&alice, &room, b).await.unwrap();
        let mut prev = newest(a, &room).await;
        let mut said = Vec::new();
        for n in 0..30 {
            let event = forge_message(a, &alice, &room, &[&prev], &n.to_string()).await;
            prev = event.event_id().to_owned();
            said.push(event);
        }
        let middle = forge_message(a, &alice, &room, &[&nowhere(0)], "upon nothing").await;
        let upon = forge_message(a, &alice, &room, &[middle.event_id()], "upon that").await;
        b.change(&bob, &room, &alice, Action::Kick).await.unwrap();

        let mean = Mean::before(&world, 0);
        let given: Vec<Value> = said[..29].iter().chain([&middle]).map(json_of).collect();
        mean.says("/get_missing_events/", json!({ "events": given }));
        let ids: Vec<OwnedEventId> = (1..150).map(nowhere).collect();
        mean.says(
            "/state_ids/",
            json!({ "pdu_ids": ids, "auth_chain_ids": ids }),
        );
        let aside = ["/state_ids/", "/state/", "/event/", "/event_auth/"];
        for part in &aside[1..] {
            mean.refuses(part, StatusCode::NOT_FOUND, json!({}));
        }
        let pushed = [json_of(&said[29]), json_of(&upon)];
        a.transaction(b, "strange", &pushed, &[]).await;
        eventually("both were tried", async || {
            let waiting = b.store().inbox_waiting(&room, 0, 50, 50).await.unwrap();
            waiting.len() == 2 && waiting.iter().all(|event| event.attempts > 0)
        })
        .await;
        assert!(mean.count("/get_missing_events/") > 0);
        for event in said.iter().chain([&middle, &upon]) {
            assert!(b.event(event.event_id()).await.is_none());
        }
        for part in aside {
            assert_eq!(mean.count(part), 0, "{part}");
        }
        b.say(&bob, &room, "still here").await;
        mean.repents();
    })
    .await;
}

/// An invite "by" a member that comes of a third-party invite needs nobody's signature until the room is asked: so it says
/// nothing of who has made it.
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_nobody_has_signed_is_not_kept() {
    still(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
            let room = b.create(&bob, &version).await;
            a.join(&alice, &room, b).await.unwrap();
            let content = json!({ "membership": "invite",
                "third_party_invite": { "display_name": "c", "signed": {} } });
            let prev = newest(a, &room).await;
            let (kind, state_key) = ("m.room.member", Some(carol.as_str()));
            let invite = forge(a, 1, &alice, &room, &[&prev], kind, state_key, content).await;
            let mut unsigned = json_of(&invite);
            unsigned["signatures"] = json!({});
            let txn = format!("unsigned-{version}");
            let told = c.transaction(b, &txn, &[unsigned], &[]).await;
            let id = invite.event_id();
            assert!(told[id.as_str()]["error"].is_string(), "{version}: {told}");
            assert!(b.event(id).await.is_none(), "{version}");
        }
    })
    .await;
}

/// An event of a user's of `server`, as far as anybody can tell before keys are looked for.
fn junk(room: &RoomId, sender: &UserId, target: &UserId, content: &Value, signer: &str) -> Value {
    json!({ "type": "m.room.member", "room_id": room, "sender": sender, "state_key": target,
        "content": content, "depth": 9, "auth_events": [], "prev_events": [], "origin_server_ts": 1,
        "hashes": { "sha256": "x" }, "signatures": { signer: { "ed25519:k": "A".repeat(86) } } })
}

fn bystander(n: usize) -> String {
    format!("bystander{n}.example")
}

fn asked_of_bystanders(world: &World) -> usize {
    let requests = world.network.requests();
    let of_them = requests
        .iter()
        .filter(|(to, _)| to.as_str().contains("bystander"));
    of_them.count()
}

/// A stranger names ever so many servers that must have signed its events. They have nothing to do with it, and aren't asked
/// for their keys.
#[tokio::test(flavor = "multi_thread")]
async fn bystanders_are_not_asked_for_their_keys() {
    still(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, bea) = (a.user("alice"), b.user("bob"), b.user("bea"));
        let mallory = c.user("mallory");
        let room = b.create(&bob, &RoomVersionId::V11).await;
        a.join(&alice, &room, b).await.unwrap();

        // They let a user in.
        let joins: Vec<Value> = (0..50)
            .map(|n| {
                let by = format!("@x:{}", bystander(n));
                let content =
                    json!({ "membership": "join", "join_authorised_via_users_server": by });
                junk(&room, &mallory, &mallory, &content, &bystander(n))
            })
            .collect();
        c.transaction(b, "joins", &joins, &[]).await;
        assert_eq!(asked_of_bystanders(&world), 0);

        // Where servers choose the ids, they have chosen one.
        let old = b.create(&bob, &RoomVersionId::V1).await;
        let leave = json!({ "membership": "leave" });
        let chosen: Vec<Value> = (0..50)
            .map(|n| {
                let mut event = junk(&old, &mallory, &mallory, &leave, &bystander(n));
                event["event_id"] = json!(format!("$x:{}", bystander(n)));
                event
            })
            .collect();
        c.transaction(b, "chosen", &chosen, &[]).await;
        assert_eq!(asked_of_bystanders(&world), 0);

        // They take back an invite of which only one other server knows.
        let outside = mean_invites::nowhere(c, 1);
        let invite = mean_invites::invite(c, 3, &outside, &bea, "");
        mean_invites::hand_in(c, b, &invite, &json!([]))
            .await
            .unwrap();
        let leaves: Vec<Value> = (0..50)
            .map(|n| {
                let sender = UserId::parse(format!("@x:{}", bystander(n))).unwrap();
                junk(&outside, &sender, &bea, &leave, &bystander(n))
            })
            .collect();
        c.transaction(b, "leaves", &leaves, &[]).await;
        assert_eq!(asked_of_bystanders(&world), 0);

        // At the doors.
        let stranger = UserId::parse(format!("@x:{}", bystander(0))).unwrap();
        for endpoint in ["v2/send_join", "v2/send_leave", "v1/send_knock"] {
            let membership = endpoint.rsplit('_').next().unwrap();
            let content = json!({ "membership": membership });
            let event = junk(&room, &stranger, &stranger, &content, &bystander(0));
            let path = format!("/_matrix/federation/{endpoint}/{}/%24x", enc(&room));
            let refused = c.request(b, Method::PUT, &path, Some(event)).await;
            assert_eq!(errcode(refused), forbidden(), "{endpoint}");
        }
        let content = json!({ "membership": "invite" });
        let event = junk(&room, &stranger, &bea, &content, &bystander(0));
        let body = json!({ "room_version": "11", "event": event, "invite_room_state": [] });
        let path = format!("/_matrix/federation/v2/invite/{}/%24x", enc(&room));
        let refused = c.request(b, Method::PUT, &path, Some(body)).await;
        assert_eq!(errcode(refused), (400, "M_INVALID_PARAM".to_owned()));
        assert_eq!(asked_of_bystanders(&world), 0);
    })
    .await;
}

/// Alice was put out of the room. What her server gives as history before her events names ever so many servers that must have
/// signed it: few of them are asked for their keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_stranger_troubles_few_bystanders() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = b.create(&bob, &RoomVersionId::V11).await;
        a.join(&alice, &room, b).await.unwrap();
        let mut loose = Vec::new();
        for n in 0..20 {
            let event = forge_message(a, &alice, &room, &[&nowhere(n)], "loose").await;
            loose.push(json_of(&event));
        }
        b.change(&bob, &room, &alice, Action::Kick).await.unwrap();

        let mean = Mean::before(&world, 0);
        let (given, of) = (AtomicUsize::new(0), room.clone());
        mean.lies("/get_missing_events/", move |_| {
            let first = given.fetch_add(50, Relaxed);
            let content = json!({ "membership": "join" });
            let events = (first..first + 50).map(|n| {
                let sender = UserId::parse(format!("@x:{}", bystander(n))).unwrap();
                junk(&of, &sender, &sender, &content, &bystander(n))
            });
            Some(json_answer(
                &json!({ "events": events.collect::<Vec<_>>() }),
            ))
        });
        a.transaction(b, "loose", &loose, &[]).await;
        eventually("all were tried", async || {
            let waiting = b.store().inbox_waiting(&room, 0, 50, 50).await.unwrap();
            mean.count("/get_missing_events/") >= 20
                && waiting.iter().all(|event| event.attempts > 0)
        })
        .await;
        // Each answer names fifty more.
        let requests = world.network.requests();
        let names = requests.iter().map(|(to, _)| to.as_str());
        let asked: HashSet<&str> = names.filter(|to| to.contains("bystander")).collect();
        assert!(!asked.is_empty() && asked.len() < 900, "{}", asked.len());
        mean.repents();
    })
    .await;
}

/// A member pushes many sticky events that claim to be from before we came in. The history they are in is asked of others only
/// so often.
#[tokio::test(flavor = "multi_thread")]
async fn sticky_events_from_long_ago_trouble_others_little() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = c.create(&carol, &RoomVersionId::V11).await;
        for n in 0..5 {
            c.say(&carol, &room, &n.to_string()).await;
        }
        a.join(&alice, &room, c).await.unwrap();
        b.join(&bob, &room, c).await.unwrap();

        let (liar, other) = (Mean::before(&world, 0), Mean::before(&world, 2));
        for part in GATHERING.into_iter().chain(["/backfill/"]) {
            liar.refuses(part, StatusCode::NOT_FOUND, json!({}));
        }
        other.refuses("/backfill/", StatusCode::NOT_FOUND, json!({}));
        let mut events = Vec::new();
        for n in 0..250 {
            let event = forge_message(a, &alice, &room, &[&nowhere(n)], "sticky").await;
            let event = remade(&event, a, 1, |event| {
                event.insert(sticky::KEY.to_owned(), json!({ "duration_ms": 3_600_000 }));
            });
            events.push(json_of(&event));
        }
        for (n, events) in events.chunks(50).enumerate() {
            a.transaction(b, &format!("sticky-{n}"), events, &[]).await;
        }
        eventually("each of them was tried", async || {
            liar.count("/get_missing_events/") >= 250
        })
        .await;
        let asked = other.count("/backfill/");
        assert!(asked > 0 && asked < 200, "{asked}");
        liar.repents();
        other.repents();
    })
    .await;
}
