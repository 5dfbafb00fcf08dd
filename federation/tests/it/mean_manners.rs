//! A mean peer's manners: refusals that mean harm, numbers that nobody may send, endpoints it hasn't got, keys that it
//! forgets, silence.

use std::time::Duration;

use axum::body::Body;
use http::{Method, StatusCode};
use rhizome_federation::{
    FederationConfig,
    membership::{join, knock},
    query::{self, directory},
};
use rhizome_protocol::{Membership, Object, server_keys, sign};
use rhizome_rooms::{create::plan::Preset, membership::Action};
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use ruma::{OwnedServerName, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    mean::{Mean, body_answer, json_answer},
    mean_answers::apart,
    support::key,
    world::{each, enc, eventually, still},
};

/// What other servers' refusals say is told to clients only as far as it is for them.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_other_servers_log_nobody_out() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let mean = Mean::before(&world, 1);
        let room = RoomId::parse("!room:b.example").unwrap();
        let ours = a.create(&alice, &RoomVersionId::V11).await;
        let via = [b.name.clone()];
        let alias = ruma::RoomAliasId::parse("#alias:b.example").unwrap();
        for (status, errcode, told) in [
            (401, "M_UNKNOWN_TOKEN", (502, "M_UNKNOWN")),
            (401, "M_FORBIDDEN", (502, "M_UNKNOWN")),
            (403, "M_UNKNOWN_TOKEN", (403, "M_FORBIDDEN")),
            (403, "M_USER_DEACTIVATED", (403, "M_FORBIDDEN")),
            (403, "M_CONSENT_NOT_GIVEN", (403, "M_FORBIDDEN")),
            (403, "M_RESOURCE_LIMIT_EXCEEDED", (403, "M_FORBIDDEN")),
            (400, "M_MISSING_TOKEN", (502, "M_UNKNOWN")),
            (404, "M_USER_LOCKED", (404, "M_NOT_FOUND")),
            (404, "M_UNRECOGNIZED", (502, "M_UNKNOWN")),
            (404, "ORG_EXAMPLE_ODD", (404, "M_NOT_FOUND")),
            (500, "M_FORBIDDEN", (502, "M_UNKNOWN")),
            (403, "M_FORBIDDEN", (403, "M_FORBIDDEN")),
            (404, "M_NOT_FOUND", (404, "M_NOT_FOUND")),
            (429, "M_LIMIT_EXCEEDED", (429, "M_LIMIT_EXCEEDED")),
            (
                400,
                "M_INCOMPATIBLE_ROOM_VERSION",
                (400, "M_INCOMPATIBLE_ROOM_VERSION"),
            ),
        ] {
            let error = json!({ "errcode": errcode, "error": "why", "soft_logout": false,
                "consent_uri": "https://mean.example/", "admin_contact": "mailto:mean@mean.example",
                "flows": [], "session": "x", "room_version": "99", "retry_after_ms": u64::MAX });
            mean.repents();
            let status = StatusCode::from_u16(status).unwrap();
            mean.refuses("/_matrix/federation/", status, error);
            let network = ruma::directory::RoomNetwork::Matrix;
            let filter = ruma::directory::Filter::new();
            let invited = a.change(&alice, &ours, &bob, Action::Invite).await;
            let refusals = [
                query::profile(&a.fed, &bob, None).await.map(drop),
                query::alias(&a.fed, &alias).await.map(drop),
                directory::theirs(&a.fed, &b.name, None, None, filter, network)
                    .await
                    .map(drop),
                knock::knock(
                    &a.fed,
                    &a.user("kate"),
                    (&*room).into(),
                    &via,
                    Object::new(),
                )
                .await
                .map(drop),
                join::join(&a.fed, &alice, (&*room).into(), &via, Object::new())
                    .await
                    .map(drop),
                join::join(&a.fed, &alice, (&*alias).into(), &via, Object::new())
                    .await
                    .map(drop),
                invited,
            ];
            for (number, refused) in refusals.into_iter().enumerate() {
                let refused = refused.unwrap_err();
                let short = (refused.status.as_u16(), &*refused.errcode);
                assert_eq!(short, told, "{status} {errcode}, {number}: {refused}");
                let extra = &refused.extra;
                for (name, value) in extra {
                    match &**name {
                        "room_version" => {}
                        "retry_after_ms" => assert!(value.as_u64().unwrap() <= 3_600_000),
                        other => panic!("{other} of {errcode} is passed on"),
                    }
                }
            }
        }
        mean.repents();
    })
    .await;
}

/// The inviter's server is gone, the room's others are there.
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_accepted_although_the_inviter_is_out_of_reach() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for (version, via) in [
            (RoomVersionId::V11, vec![b.name.clone()]),
            (RoomVersionId::V12, vec![]),
            (RoomVersionId::V12, vec![b.name.clone(), c.name.clone()]),
        ] {
            let room = a.create_with(&alice, &version, Preset::PrivateChat).await;
            let levels = json!({ "users": {}, "invite": 0 });
            a.send(&alice, &room, "m.room.power_levels", Some(""), levels)
                .await
                .ok();
            a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
            b.join(&bob, &room, a).await.unwrap();
            b.change(&bob, &room, &carol, Action::Invite).await.unwrap();
            eventually("a knows of the invite", async || {
                a.membership(&room, &carol).await == Some(Membership::Invite)
            })
            .await;
            world.network.cut(&b.name);
            join::join(&c.fed, &carol, (&*room).into(), &via, Object::new())
                .await
                .unwrap();
            assert_eq!(a.membership(&room, &carol).await, Some(Membership::Join));
            world.network.mend(&b.name);
        }
    })
    .await;
}

/// Numbers that canonical JSON doesn't have, in bodies of requests.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_event_may_hold_are_bad_json() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        for number in [json!(0.5), json!(9_007_199_254_740_992_i64), json!(1e300)] {
            let event = |membership: &str, target: &UserId| {
                json!({ "type": "m.room.member", "room_id": room, "sender": bob, "state_key": target,
                    "content": { "membership": membership, "org.example.x": [number] }, "depth": 9,
                    "auth_events": [], "prev_events": [], "origin_server_ts": 1,
                    "hashes": { "sha256": "x" }, "signatures": {} })
            };
            let at = |endpoint: &str| format!("/_matrix/federation/{endpoint}/{}/%24x", enc(&room));
            let invite = json!({ "room_version": "11", "event": event("invite", &alice),
                "invite_room_state": [] });
            for (path, body) in [
                (at("v1/send_join"), event("join", &bob)),
                (at("v2/send_join"), event("join", &bob)),
                (at("v1/send_leave"), event("leave", &bob)),
                (at("v2/send_leave"), event("leave", &bob)),
                (at("v1/send_knock"), event("knock", &bob)),
                (at("v2/invite"), invite),
            ] {
                let refused = b.request(a, Method::PUT, &path, Some(body)).await.unwrap_err();
                let short = (refused.status.as_u16(), &*refused.errcode);
                assert_eq!(short, (400, "M_BAD_JSON"), "{path} {number}: {refused}");
            }
        }
    })
    .await;
}

/// Servers that don't know the second versions of endpoints say so in several ways.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_second_versions_is_asked_by_the_first() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let mean = Mean::before(&world, 0);
        for (status, error) in [
            (404, Value::Null),
            (404, json!({ "errcode": "M_UNRECOGNIZED", "error": "?" })),
            (405, json!({ "errcode": "M_UNRECOGNIZED", "error": "?" })),
            (400, json!({ "errcode": "M_UNRECOGNIZED", "error": "?" })),
        ] {
            for version in [RoomVersionId::V1, RoomVersionId::V11] {
                mean.repents();
                mean.lies("/_matrix/federation/v2/", {
                    let error = error.clone();
                    move |_| {
                        let mut answer = match &error {
                            Value::Null => body_answer(Body::from("<h1>404 page not found</h1>")),
                            error => json_answer(error),
                        };
                        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                        Some(answer)
                    }
                });
                let room = a.create(&alice, &version).await;
                b.join(&bob, &room, a).await.unwrap();
                assert_eq!(a.membership(&room, &bob).await, Some(Membership::Join));
                b.leave(&bob, &room).await.unwrap();
                eventually("bob is gone", async || {
                    a.membership(&room, &bob).await == Some(Membership::Leave)
                })
                .await;
                // An invite is turned down at the door, by `send_leave`.
                let private = a.create_with(&alice, &version, Preset::PrivateChat).await;
                a.change(&alice, &private, &bob, Action::Invite)
                    .await
                    .unwrap();
                b.leave(&bob, &private).await.unwrap();
                assert_eq!(a.membership(&private, &bob).await, Some(Membership::Leave));
            }
            // Who invites falls back as well, as far as v1 can tell of the room.
            let room = b.create(&bob, &RoomVersionId::V2).await;
            b.change(&bob, &room, &alice, Action::Invite).await.unwrap();
            assert_eq!(a.membership(&room, &alice).await, Some(Membership::Invite));
        }
        mean.repents();
    })
    .await;
}

/// A notary goes on to answer for keys that a server has changed since and no longer tells of.
#[tokio::test(flavor = "multi_thread")]
async fn a_notary_keeps_every_key_that_it_has_seen() {
    still(2, async |world| {
        let (a, b) = world.two();
        let database = TestDatabase::sqlite();
        let clock = Clock::manual(1_700_000_000_000);
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let z = apart(&world, store, FederationConfig::default()).await;
        let mean = Mean::before(&world, 1);
        let day = Duration::from_hours(24);
        let tells = |keys: &[&sign::KeyPair], old: &[(String, [u8; 32], i64)]| {
            let until = clock.now_ms() + 24 * 3_600_000;
            let keys = server_keys::build(&b.name, keys, old, until).unwrap();
            mean.says("/_matrix/key/v2/server", Value::Object(keys));
        };
        let (first, second) = (key(2), key(20));
        let name: OwnedServerName = z.server_name().to_owned();
        let ask = async |criteria: Value| -> Vec<Value> {
            let body = json!({ "server_keys": { b.name.as_str(): criteria } }).to_string();
            let answer = a.fed.outbound().call_canonical(
                &name,
                Method::POST,
                "/_matrix/key/v2/query",
                Some(body),
                rhizome_federation::outbound::Limits::default(),
            );
            let answer: Value = serde_json::from_slice(&answer.await.unwrap()).unwrap();
            answer["server_keys"].as_array().unwrap().clone()
        };
        let has = |answers: &[Value], key: &sign::KeyPair| {
            answers.iter().any(|answer| {
                let object = answer.as_object().unwrap();
                let ours = z.signing_key();
                sign::verify_json(object, &name, ours.key_id(), &ours.public()).unwrap();
                let keys = server_keys::verify(object, &b.name).unwrap();
                keys.verify_keys.get(key.key_id()) == Some(&key.public())
            })
        };
        tells(&[&first], &[]);
        assert!(has(&ask(json!({})).await, &first));
        // The key is changed, and the new answer says nothing of the old one.
        clock.advance(2 * day);
        tells(&[&second], &[]);
        let answers = ask(json!({})).await;
        assert!(has(&answers, &second) && has(&answers, &first), "{answers:?}");
        let by_id = |key: &sign::KeyPair, at: i64| {
            json!({ key.key_id(): { "minimum_valid_until_ts": at } })
        };
        let then = clock.now_ms() - 2 * 24 * 3_600_000;
        let answers = ask(by_id(&first, then)).await;
        assert!(has(&answers, &first) && !has(&answers, &second), "{answers:?}");
        let answers = ask(by_id(&second, clock.now_ms())).await;
        assert!(has(&answers, &second) && !has(&answers, &first), "{answers:?}");
        // For a key that isn't there, the server is asked; what it has is the answer.
        clock.advance(day / 2);
        let before = mean.count("/_matrix/key/v2/server");
        ask(json!({ "ed25519:none": {} })).await;
        assert_eq!(mean.count("/_matrix/key/v2/server"), before + 1);
        // The server is gone, and forgot all: what was valid is kept, also over a restart.
        world.network.cut(&b.name);
        clock.advance(30 * day);
        let answers = ask(by_id(&first, then)).await;
        assert!(has(&answers, &first), "{answers:?}");
        assert!(has(&ask(json!({})).await, &second));
        world.network.mend(&b.name);
        // A key that is named as an old one is answered for by the newest answer.
        clock.advance(day);
        tells(&[&second], &[(first.key_id().to_owned(), first.public(), then)]);
        let answers = ask(by_id(&second, clock.now_ms())).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        let answers = ask(by_id(&first, then)).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert!(answers[0]["old_verify_keys"][first.key_id()].is_object());
        z.store().close().await;
    })
    .await;
}
