//! What a mean peer answers when we ask it: too much, nothing over and over, nothing at all, refusals that mean
//! harm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures_util::{StreamExt as _, future::join_all, stream};
use http::{Method, StatusCode};
use rhizome_federation::{Federation, FederationConfig, directory, join, knock, query};
use rhizome_protocol::{
    Membership, Object,
    draft::{self, Draft, Place},
    server_keys, sign,
};
use rhizome_rooms::{membership::Action, plan::Preset};
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use ruma::{OwnedServerName, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    inbound::{forge, newest},
    mean::{Mean, body_answer, json_answer},
    support::{key, rooms},
    world::{World, each, enc, eventually, json_of, still},
};

/// Counts the lines of the log of this thread.
struct Lines(Arc<AtomicUsize>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("rhizome") && *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn count_lines() -> (Arc<AtomicUsize>, tracing::subscriber::DefaultGuard) {
    let lines = Arc::new(AtomicUsize::new(0));
    let guard = tracing::subscriber::set_default(Lines(Arc::clone(&lines)));
    (lines, guard)
}

/// How many bytes were taken of a body.
type Taken = Arc<AtomicUsize>;

/// `head`, then about `size` bytes of `element` and commas, then `tail`: in pieces of some KiB, which are counted
/// as they are taken.
fn counted(head: &str, element: &str, size: usize, tail: &str, taken: &Taken) -> Body {
    let many = (8_192 / (element.len() + 1)).max(1);
    let piece = Bytes::from(vec![element; many].join(","));
    let comma = Bytes::from([b",", &piece[..]].concat());
    let pieces = [Bytes::from(head.to_owned()), piece]
        .into_iter()
        .chain(std::iter::repeat_n(comma, size / 8_192))
        .chain([Bytes::from(tail.to_owned())]);
    let taken = Arc::clone(taken);
    let pieces = pieces.map(move |piece| {
        taken.fetch_add(piece.len(), Ordering::Relaxed);
        Ok::<_, std::io::Error>(piece)
    });
    Body::from_stream(stream::iter(pieces))
}

const MIB: usize = 1 << 20;

/// A pushed event names an auth event that nobody has; asked for the auth chain, the peer streams 20 MiB of `{}`.
#[tokio::test]
async fn an_auth_chain_of_nothing_costs_next_to_nothing() {
    let (lines, _guard) = count_lines();
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        eventually("bob is there", async || {
            a.membership(&room, &bob).await == Some(Membership::Join)
        })
        .await;
        let mean = Mean::before(&world, 1);
        let taken = Taken::default();
        let of = Arc::clone(&taken);
        mean.lies("/event_auth/", move |_| {
            let body = counted(r#"{"auth_chain":["#, "{}", 20 * MIB, "]}", &of);
            Some(body_answer(body))
        });
        mean.refuses("/event/", StatusCode::NOT_FOUND, json!({}));
        lines.store(0, Ordering::Relaxed);
        let honest = forge(
            b,
            2,
            &bob,
            &room,
            &[&newest(a, &room).await],
            "m.room.message",
            None,
            json!({ "body": "hello" }),
        )
        .await;
        let mut auth_events = honest.auth_events().to_vec();
        auth_events.push("$nobody-has-this-one".try_into().unwrap());
        let place = Place {
            prev_events: honest.prev_events().to_vec(),
            auth_events,
            depth: honest.depth(),
            origin_server_ts: honest.origin_server_ts(),
            ..Place::default()
        };
        let draft = Draft {
            room_id: Some(room.clone()),
            sender: bob.clone(),
            kind: "m.room.message".to_owned(),
            state_key: None,
            content: honest.content().clone(),
            redacts: None,
        };
        let odd = draft::build(honest.rules(), &draft, &place, &b.name, &key(2)).unwrap();
        b.transaction(a, "odd", &[json_of(&odd)], &[]).await;
        eventually("the auth chain is given up", async || {
            mean.count("/event/$nobody-has-this-one") > 0
        })
        .await;
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken > 0 && taken < MIB, "{taken}");
        let lines = lines.load(Ordering::Relaxed);
        assert!(lines < 50, "{lines}");
        // The room goes on.
        a.say(&alice, &room, "still here").await;
        mean.repents();
    })
    .await;
}

/// `make_join` of the mean peer for any room and user.
fn opens_every_door(mean: &Mean) {
    mean.lies("/make_join/", |asked| {
        let path = asked.target.split('?').next()?;
        let mut parts = path.rsplit('/');
        let (user, room) = (parts.next()?, parts.next()?);
        Some(json_answer(&json!({ "room_version": "11", "event": {
            "type": "m.room.member", "room_id": room, "sender": user, "state_key": user,
            "content": { "membership": "join" }, "depth": 7,
            "auth_events": ["$one"], "prev_events": ["$two"],
        } })))
    });
}

/// Junk of every size as the state of a room: little of it is read, and the log isn't filled with it.
#[tokio::test]
async fn a_room_of_nothing_is_not_read_to_its_end() {
    let (lines, _guard) = count_lines();
    still(2, async |world| {
        let (a, b) = world.two();
        let alice = a.user("alice");
        let mean = Mean::before(&world, 1);
        opens_every_door(&mean);
        let like_an_event = json!({ "type": "m.room.member", "room_id": "!room:b.example",
            "sender": "@bob:b.example", "state_key": "@bob:b.example", "content": {}, "depth": 1,
            "auth_events": [], "prev_events": [], "hashes": { "sha256": "x" }, "signatures": {},
            "origin_server_ts": 1 })
        .to_string();
        for (element, most) in [
            ("{}", MIB),
            ("null", MIB),
            (
                r#""a string of some length, so that only its form tells that this is no event""#,
                MIB,
            ),
            // Each of these has to be looked at, but not all 20 MiB of them.
            (&*like_an_event, 25 * MIB),
        ] {
            let taken = Taken::default();
            let (of, element) = (Arc::clone(&taken), element.to_owned());
            mean.lies("/v2/send_join/", move |_| {
                let head = r#"{"auth_chain":[],"state":["#;
                Some(body_answer(counted(head, &element, 20 * MIB, "]}", &of)))
            });
            lines.store(0, Ordering::Relaxed);
            let room = RoomId::parse("!room:b.example").unwrap();
            let refused = a.join(&alice, &room, b).await.unwrap_err();
            assert!(
                matches!(refused.status.as_u16(), 400 | 403 | 502),
                "{refused}"
            );
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken > 0 && taken < most, "{taken}");
            let lines = lines.load(Ordering::Relaxed);
            assert!(lines < 10, "{lines}");
        }
        // Small answers have small limits, and an error's text isn't read without end either.
        let taken = Taken::default();
        let of = Arc::clone(&taken);
        mean.lies("/make_join/", move |_| {
            let head = r#"{"room_version":"11","event":{"x":["#;
            Some(body_answer(counted(head, "{}", 20 * MIB, "]}}", &of)))
        });
        let of = Arc::clone(&taken);
        mean.lies("/query/profile", move |_| {
            let mut answer = body_answer(counted("[", "{}", 20 * MIB, "]", &of));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            Some(answer)
        });
        let room = RoomId::parse("!room:b.example").unwrap();
        a.join(&alice, &room, b).await.unwrap_err();
        let refused = query::profile(&a.fed, &b.user("bob"), None).await;
        assert_eq!(refused.unwrap_err().status, StatusCode::NOT_FOUND);
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < MIB, "{taken}");
    })
    .await;
}

/// Twelve rooms are joined through a peer that streams and streams: what we hold of it doesn't add up.
#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_peer_is_read_one_large_answer_at_a_time() {
    still(2, async |world| {
        let (a, b) = world.two();
        let mean = Mean::before(&world, 1);
        opens_every_door(&mean);
        let (taken, end) = (Taken::default(), Arc::new(Notify::new()));
        let (of, until) = (Arc::clone(&taken), Arc::clone(&end));
        mean.lies("/v2/send_join/", move |_| {
            let element = format!(r#"{{"padding":"{}"}}"#, "x".repeat(1_000));
            let head = r#"{"auth_chain":[],"state":["#;
            let some = counted(head, &element, 8 * MIB, "", &of).into_data_stream();
            // Then nothing comes, and at last the connection breaks.
            let until = Arc::clone(&until);
            let rest = stream::once(async move {
                until.notified().await;
                Err(axum::Error::new(std::io::Error::other("gone")))
            });
            Some(body_answer(Body::from_stream(some.chain(rest))))
        });
        let joins = join_all((0..12).map(async |number| {
            let alice = a.user("alice");
            let room = RoomId::parse(format!("!room{number}:b.example")).unwrap();
            a.join(&alice, &room, b).await.unwrap_err();
        }));
        let looks = async {
            eventually("all rooms have begun to come", async || {
                mean.count("/v2/send_join/") == 12
            })
            .await;
            // Until no more is taken.
            let (mut before, mut same) = (0, 0);
            while same < 25 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let now = taken.load(Ordering::Relaxed);
                same = if now == before && now > 8 * MIB {
                    same + 1
                } else {
                    0
                };
                before = now;
            }
            assert!(before < (8 + 12 * 2) * MIB, "{before}");
            // Whoever is next in turn comes to the same end.
            loop {
                end.notify_waiters();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = joins => {}
            () = looks => {}
        }
    })
    .await;
}

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

/// A server beside those of the world, with settings of its own.
async fn apart(world: &World, store: Store, config: FederationConfig) -> Federation {
    let rooms = rooms(&store, "z.example", key(26));
    let fed = Federation::in_process(rooms, store, config, &world.network).unwrap();
    world.network.attach(fed.server_name(), fed.router());
    fed
}

/// Silent servers hold up a join for as long as the settings say, however many they are; and who joins the same
/// room meanwhile is told what the room says to that.
#[tokio::test(flavor = "multi_thread")]
async fn silent_servers_hold_up_a_join_for_a_bounded_time() {
    still(2, async |world| {
        let b = world.server(1);
        let mean = Mean::before(&world, 1);
        opens_every_door(&mean);
        mean.is_silent("/send_join/");
        mean.refuses(
            "/make_join/!room:b.example/@bob:z.example",
            StatusCode::FORBIDDEN,
            json!({ "errcode": "M_FORBIDDEN", "error": "not you" }),
        );
        let database = TestDatabase::sqlite();
        let config = FederationConfig {
            join_timeout: Duration::from_secs(3),
            ..FederationConfig::default()
        };
        let z = apart(&world, database.open().await, config).await;
        let room = RoomId::parse("!room:b.example").unwrap();
        let enter = async |user: &str| {
            let user = UserId::parse(user).unwrap();
            let via = [b.name.clone(), world.server(0).name.clone()];
            join::join(&z, &user, (&*room).into(), &via, Object::new()).await
        };
        let over = AtomicBool::new(false);
        let both = async {
            tokio::join!(
                async {
                    let alice = enter("@alice:z.example").await;
                    over.store(true, Ordering::Relaxed);
                    alice
                },
                async {
                    eventually("alice waits", async || mean.count("/send_join/") > 0).await;
                    let bob = enter("@bob:z.example").await;
                    assert!(!over.load(Ordering::Relaxed), "he waited for her");
                    bob
                }
            )
        };
        let (alice, bob) = tokio::time::timeout(Duration::from_mins(1), both)
            .await
            .unwrap();
        assert_eq!(bob.unwrap_err().errcode, "M_FORBIDDEN");
        assert_eq!(alice.unwrap_err().status, StatusCode::GATEWAY_TIMEOUT);
        z.store().close().await;
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
                rhizome_federation::client::Limits::default(),
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
