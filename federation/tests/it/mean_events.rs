//! Events that aren't what they seem: invites that nobody signed, creates that no room has, numbers and depths
//! that no event should have.

use http::{Request, StatusCode, header};
use rhizome_federation::xmatrix::Signed;
use rhizome_protocol::{
    Object, Pdu,
    canonical::{parse_object, to_canonical_tolerant},
    draft, hash, redact,
    rules::EventIdFormat,
};
use rhizome_rooms::{create::plan::Preset, membership::Action};
use rhizome_storage::Status;
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    inbound::{forge, newest},
    support::key,
    world::{ALL_VERSIONS, Server, VERSIONS, each, json_of, still},
};

// ---- what a script needs

/// A transaction of these texts as they are, properly signed; status and answer.
async fn send_texts(
    from: &Server,
    seed: u8,
    to: &Server,
    txn: &str,
    pdus: &[&str],
) -> (StatusCode, Value) {
    let body = format!(
        "{{\"origin\":\"{}\",\"origin_server_ts\":1,\"pdus\":[{}]}}",
        from.name,
        pdus.join(",")
    );
    let target = format!("/_matrix/federation/v1/send/{txn}");
    let signed = Signed::canonical("PUT", &target, Some(body.clone()));
    let request = Request::put(&target)
        .header(
            header::AUTHORIZATION,
            signed.header(&from.name, &to.name, &key(seed)),
        )
        .header(header::CONTENT_TYPE, "application/json")
        .body(axum::body::Body::from(body))
        .unwrap();
    let response = tower::ServiceExt::oneshot(to.router(), request)
        .await
        .unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// The same event with `text` where its content says `"HERE"`, hashed and signed anew by a server that
/// takes anything for JSON.
fn odd(base: &Pdu, text: &str, server: &Server, seed: u8) -> (OwnedEventId, String) {
    let rules = base.rules();
    let put = |object: &Object| {
        let canonical = to_canonical_tolerant(object).unwrap();
        canonical.replace("\"HERE\"", text)
    };
    let mut object = parse_object(base.json().as_bytes()).unwrap();
    object.remove("hashes");
    object.remove("signatures");
    let content_hash = hash::to_base64(&hash::sha256(put(&object).as_bytes()));
    object.insert("hashes".into(), json!({ "sha256": content_hash }));
    let mut redacted = object.clone();
    redact::redact(rules, &mut redacted);
    let signed = put(&redacted);
    let (key, reference) = (key(seed), hash::sha256(signed.as_bytes()));
    let id = match rules.format.event_id {
        EventIdFormat::Explicit => base.event_id().to_string(),
        EventIdFormat::Hash => format!("${}", hash::to_base64(&reference)),
        EventIdFormat::UrlSafeHash => format!("${}", hash::to_url_base64(&reference)),
    };
    let signature = hash::to_base64(&key.sign(signed.as_bytes()));
    let signatures = json!({ server.name.as_str(): { key.key_id(): signature } });
    object.insert("signatures".into(), signatures);
    (EventId::parse(id).unwrap(), put(&object))
}

pub async fn message(
    server: &Server,
    seed: u8,
    sender: &UserId,
    room: &RoomId,
    body: Value,
) -> Pdu {
    let prev = newest(server, room).await;
    let kind = "m.room.message";
    forge(server, seed, sender, room, &[&prev], kind, None, body).await
}

/// A redaction that is sent whatever our own server has against it.
pub async fn redaction(
    server: &Server,
    seed: u8,
    sender: &UserId,
    room: &RoomId,
    target: &EventId,
) -> Pdu {
    let content = json!({ "redacts": target });
    let prev = newest(server, room).await;
    let kind = "m.room.redaction";
    let event = forge(server, seed, sender, room, &[&prev], kind, None, content).await;
    let rules = event.rules();
    if rules.format.redacts_in_content {
        return event;
    }
    let mut object = parse_object(event.json().as_bytes()).unwrap();
    object.insert("redacts".into(), json!(target));
    object.insert("content".into(), json!({}));
    draft::finish(rules, object, &server.name, &key(seed)).unwrap()
}

/// The state of a room and its ends.
pub async fn standing(server: &Server, room: &RoomId) -> (Value, Vec<OwnedEventId>) {
    let head = server.store().room(room).await.unwrap().unwrap();
    let ends = head.extremities.iter().map(|end| end.event_id.clone());
    let state = format!("{:?}", server.state(room).await);
    (state.into(), ends.collect())
}

// ---- invites

/// An invite "by" Alice that she never made: it says that it comes of a third-party invite, and what says so
/// goes with its content, which isn't what its hash says.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_third_party_invite_is_none() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob, mallory) = (a.user("alice"), b.user("bob"), b.user("mallory"));
        for version in &ALL_VERSIONS {
            let room = a.create_with(&alice, version, Preset::PrivateChat).await;
            a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
            b.join(&bob, &room, a).await.unwrap();
            let before = standing(a, &room).await;
            let prev = newest(b, &room).await;
            for third_party in [json!({}), json!({ "display_name": "m" })] {
                let content = json!({ "membership": "invite" });
                let key = Some(mallory.as_str());
                let kind = "m.room.member";
                let invite = forge(b, 2, &alice, &room, &[&prev], kind, key, content).await;
                let mut forged = json_of(&invite);
                forged["content"]["third_party_invite"] = third_party;
                let told = b
                    .transaction(
                        a,
                        &format!("forged-{version}-{}", forged["content"]),
                        &[forged],
                        &[],
                    )
                    .await;
                assert!(
                    told.as_object()
                        .unwrap()
                        .values()
                        .all(|of| of["error"].is_string()),
                    "{version}: {told}"
                );
            }
            assert_eq!(a.membership(&room, &mallory).await, None, "{version}");
            assert_eq!(standing(a, &room).await, before, "{version}");
            assert!(b.join(&mallory, &room, a).await.is_err(), "{version}");
        }
    })
    .await;
}

// ---- creates

#[tokio::test(flavor = "multi_thread")]
async fn a_room_has_no_second_create_event() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        // In version 12 another create event begins another room.
        for version in VERSIONS
            .iter()
            .filter(|version| **version != RoomVersionId::V12)
        {
            // Of the mean server's making: others can't make create events of it.
            let room = b.create(&bob, version).await;
            a.join(&alice, &room, b).await.unwrap();
            let before = standing(a, &room).await;
            let prev = newest(b, &room).await;
            for (count, (state_key, prevs)) in [
                (None, vec![]),
                (Some("x"), vec![]),
                (Some(""), vec![]),
                (Some(""), vec![&*prev]),
            ]
            .into_iter()
            .enumerate()
            {
                let content = json!({ "creator": bob, "room_version": version });
                let kind = "m.room.create";
                let stray = forge(b, 2, &bob, &room, &prevs, kind, state_key, content).await;
                let txn = format!("create-{version}-{count}");
                let told = b.transaction(a, &txn, &[json_of(&stray)], &[]).await;
                assert!(
                    told[stray.event_id().as_str()]["error"].is_string(),
                    "{version} {state_key:?}: {told}"
                );
                let stored = a.event(stray.event_id()).await;
                assert!(stored.is_none_or(|stored| stored.status == Status::Rejected));
            }
            assert_eq!(standing(a, &room).await, before, "{version}");
        }
    })
    .await;
}

/// Whoever may redact anything may not redact what the room begins with: others could not join any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_event_is_not_redacted() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carl) = (a.user("alice"), b.user("bob"), c.user("carl"));
        for version in &ALL_VERSIONS {
            let room = b.create(&bob, version).await;
            a.join(&alice, &room, b).await.unwrap();
            let key = ("m.room.create".to_owned(), String::new());
            let create = a.state(&room).await[&key].clone();
            let before = a.event(&create).await.unwrap();

            let redaction = redaction(b, 2, &bob, &room, &create).await;
            let txn = format!("redaction-{version}");
            let told = b.transaction(a, &txn, &[json_of(&redaction)], &[]).await;
            assert_eq!(told, json!({ redaction.event_id(): {} }));
            let create = a.event(&create).await.unwrap();
            assert_eq!(create.redacted_by, None, "{version}");
            assert_eq!(create.pdu.content(), before.pdu.content(), "{version}");
            c.join(&carl, &room, a).await.unwrap();
        }
    })
    .await;
}

// ---- odd JSON

/// A message that nests deeper than we read: it comes without its content, and everything else as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_event_costs_nothing_else() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            for depth in [120, 20_000] {
                let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
                let base = message(b, 2, &bob, &room, json!({ "body": "HERE" })).await;
                let (id, deep) = odd(&base, &nested, b, 2);
                let good = message(b, 2, &bob, &room, json!({ "body": "beside it" })).await;
                let txn = format!("deep-{version}-{depth}");
                let (status, answer) = send_texts(b, 2, a, &txn, &[&deep, good.json()]).await;
                assert_eq!(status, StatusCode::OK, "{answer}");
                let told = json!({ id.as_str(): {}, good.event_id(): {} });
                assert_eq!(answer["pdus"], told, "{version}");
                let stored = a.event(&id).await.unwrap();
                assert!(stored.pdu.content().is_empty());
                // The room goes on from there.
                let prevs = [&*id, good.event_id()];
                let content = json!({ "body": "upon it" });
                let kind = "m.room.message";
                let upon = forge(b, 2, &bob, &room, &prevs, kind, None, content).await;
                let told = b
                    .transaction(a, &format!("upon-{txn}"), &[json_of(&upon)], &[])
                    .await;
                assert_eq!(told, json!({ upon.event_id(): {} }));
            }
            assert_eq!(
                a.heard(&room).await,
                ["beside it", "upon it", "beside it", "upon it"]
            );
        }
    })
    .await;
}

/// What is wrong with one event is told of that event, whatever it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_odd_event_is_refused_by_itself() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let good = message(b, 2, &bob, &room, json!({ "body": "good" })).await;
            for (at, text) in [
                "1.5",
                "123456789012345678901234567890",
                "1e400",
                "\"\\ud800\"",
                "{\"a\":1,\"a\":2}",
            ]
            .into_iter()
            .enumerate()
            {
                let base = message(b, 2, &bob, &room, json!({ "body": "HERE", "n": at })).await;
                let strict = base.rules().format.strict_json;
                let (id, event) = odd(&base, text, b, 2);
                let txn = format!("odd-{version}-{at}");
                let (status, answer) = send_texts(b, 2, a, &txn, &[&event, good.json()]).await;
                assert_eq!(status, StatusCode::OK, "{text}: {answer}");
                assert_eq!(answer["pdus"][good.event_id().as_str()], json!({}));
                if at < 2 && strict {
                    assert!(answer["pdus"][id.as_str()]["error"].is_string(), "{answer}");
                }
                assert_eq!(a.event(&id).await.is_some(), at < 2 && !strict, "{text}");
            }
        }
    })
    .await;
}

/// Rooms of versions 1 to 5 have integers of any size, and their digits are part of what is signed.
#[tokio::test(flavor = "multi_thread")]
async fn large_integers_of_old_rooms_stay_what_they_are() {
    const LARGE: &str = "-123456789012345678901234567890";
    still(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carl) = (a.user("alice"), b.user("bob"), c.user("carl"));
        for version in [RoomVersionId::V1, RoomVersionId::V3, RoomVersionId::V5] {
            let room = b.create(&bob, &version).await;
            a.join(&alice, &room, b).await.unwrap();
            let base = message(b, 2, &bob, &room, json!({ "body": "x", "n": ["HERE", 7] })).await;
            let (said, text) = odd(&base, LARGE, b, 2);
            // Power levels: here the digits are in what is signed and in what makes the id.
            let mut levels = {
                let key = ("m.room.power_levels".to_owned(), String::new());
                let event = b.event(&b.state(&room).await[&key]).await.unwrap();
                Value::Object(event.pdu.content().clone())
            };
            levels["users"]["@nobody:b.example"] = json!("HERE");
            let prev = newest(b, &room).await;
            let kind = "m.room.power_levels";
            let base = forge(b, 2, &bob, &room, &[&prev], kind, Some(""), levels).await;
            let (power, levels) = odd(&base, LARGE, b, 2);
            let txn = format!("large-{version}");
            let (_, answer) = send_texts(b, 2, a, &txn, &[&text, &levels]).await;
            let told = json!({ said.as_str(): {}, power.as_str(): {} });
            assert_eq!(answer["pdus"], told, "{version}");
            assert_eq!(&**a.event(&said).await.unwrap().pdu.json(), text);
            assert_eq!(&**a.event(&power).await.unwrap().pdu.json(), levels);
            // Others get it so, too.
            c.join(&carl, &room, a).await.unwrap();
            assert_eq!(&**c.event(&power).await.unwrap().pdu.json(), levels);
            // And redacted it is still the same event.
            let redacted = a.event(&power).await.unwrap().pdu.redacted();
            assert!(redacted.json().contains(LARGE));
            assert_eq!(redacted.reference_hash(), base_hash(&redacted));
        }
    })
    .await;
}

/// What the redacted form's text hashes to.
fn base_hash(pdu: &Pdu) -> Option<[u8; 32]> {
    let (before, after) = pdu.json().split_once("\"signatures\":")?;
    let after = after.split_once("}},")?.1;
    Some(hash::sha256(format!("{before}{after}").as_bytes()))
}
