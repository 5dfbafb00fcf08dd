//! What a mean peer answers when we ask it: too much, nothing over and over, nothing at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures_util::{StreamExt as _, future::join_all, stream};
use http::StatusCode;
use rhizome_federation::{Federation, FederationConfig, membership::join, query};
use rhizome_protocol::{
    Object,
    draft::{self, Draft, Place},
};
use rhizome_storage::{
    Store,
    testing::{TestDatabase, soon},
};
use ruma::{RoomId, RoomVersionId, UserId};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    inbound::{forge, forge_message, newest},
    mean::{Mean, body_answer, json_answer},
    support::{key, rooms, watch},
    world::{World, each, eventually, json_of, room_of, still},
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
        let room = room_of(&[(a, &alice), (b, &bob)]).await;
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

/// The state at a gap comes as two large answers of one server, of which one is held at a time.
#[tokio::test(flavor = "multi_thread")]
async fn large_answers_that_follow_one_another_dont_wait_for_each_other() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        let mean = Mean::before(&world, 0);
        let base = newest(a, &room).await;
        let say = async |prev: &ruma::EventId, text: &str| {
            forge_message(a, &alice, &room, &[prev], text).await
        };
        let bad = say(&base, "withheld").await;
        let second = say(bad.event_id(), "second").await;
        let third = say(second.event_id(), "third").await;
        let state = a.state(&room).await;
        let mut events = vec![json_of(&bad)];
        for id in state.values() {
            events.push(json_of(&a.event(id).await.unwrap().pdu));
        }
        let state: Vec<_> = state.into_values().collect();
        let others: Vec<_> = (0..200).map(|n| format!("${n:043}")).collect();
        let padding = "x".repeat(2 * MIB);
        mean.says(
            "/state_ids/",
            json!({ "pdu_ids": state, "auth_chain_ids": others, "padding": padding }),
        );
        mean.says(
            "/state/",
            json!({ "pdus": events, "auth_chain": [], "padding": padding }),
        );
        mean.refuses("/event/", StatusCode::NOT_FOUND, json!({}));
        mean.says(
            "/get_missing_events/",
            json!({ "events": [json_of(&second)] }),
        );
        a.transaction(b, "third", &[json_of(&third)], &[]).await;
        eventually("the third", async || {
            b.heard(&room).await.contains(&"third".to_owned())
        })
        .await;
        assert!(mean.count("/federation/v1/state/") > 0);
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
        let taken = Taken::default();
        let (came, breaks) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (of, at_end, until) = (taken.clone(), came.clone(), breaks.clone());
        mean.lies("/v2/send_join/", move |_| {
            let element = format!(r#"{{"padding":"{}"}}"#, "x".repeat(1_000));
            let head = r#"{"auth_chain":[],"state":["#;
            let some = counted(head, &element, 8 * MIB, "", &of).into_data_stream();
            // Then nothing comes, and at last the connection breaks.
            let (at_end, until) = (at_end.clone(), until.clone());
            let rest = stream::once(async move {
                at_end.fetch_add(1, Ordering::Relaxed);
                until.acquire().await.unwrap().forget();
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
            // One after the other comes to the end of what it gets; the others have little meanwhile.
            for turn in 1..=12 {
                let all = || came.load(Ordering::Relaxed);
                eventually("one is read to its end", async || all() >= turn).await;
                assert_eq!(all(), turn);
                let taken = taken.load(Ordering::Relaxed);
                assert!(taken < (turn * 8 + 12 * 2) * MIB, "{turn}: {taken}");
                breaks.add_permits(1);
            }
        };
        tokio::join!(joins, looks);
    })
    .await;
}

/// A server beside those of the world, with settings of its own.
pub async fn apart(world: &World, store: Store, config: FederationConfig) -> Federation {
    let rooms = rooms(&store, "z.example", key(26));
    let fed = Federation::in_process(rooms, store, config, &world.network).unwrap();
    world
        .network
        .attach(fed.server_name(), watch().over(fed.router()));
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
        let (alice, bob) = soon("both are refused", Box::pin(both)).await;
        assert_eq!(bob.unwrap_err().errcode, "M_FORBIDDEN");
        assert_eq!(alice.unwrap_err().status, StatusCode::GATEWAY_TIMEOUT);
        z.store().close().await;
    })
    .await;
}
