//! Threads by `m.relationship` (MSC2836), here and with what another server has of them.

use http::{Method, StatusCode};
use rhizome_federation::testing::Network;
use rhizome_storage::testing::{TestDatabase, each_database};
use ruma::server_name;
use serde_json::{Value, json};

use super::redact;
use crate::harness::{Server, User, esc, ids, story};

async fn answer(user: &User, room: &str, to: &str) -> String {
    let content = json!({"msgtype": "m.text", "body": "b",
        "m.relationship": {"rel_type": "m.reference", "event_id": to}});
    user.send(room, "m.room.message", content).await
}

async fn ask(user: &User, question: Value) -> (StatusCode, Value) {
    let path = "/_matrix/client/unstable/event_relationships";
    let (server, token) = (&user.server, Some(&*user.token));
    server
        .request(Method::POST, path, token, Some(question))
        .await
}

/// The ids of an answer that isn't cut short.
async fn thread(user: &User, question: Value) -> Vec<String> {
    let (status, found) = ask(user, question).await;
    assert_eq!(status, StatusCode::OK, "{found}");
    assert_eq!(found["limited"], false, "{found}");
    ids(&found["events"]
        .as_array()
        .unwrap()
        .iter()
        .collect::<Vec<_>>())
}

fn counts(answer: &Value, at: usize) -> (Value, String) {
    let unsigned = &answer["events"][at]["unsigned"];
    let hash = unsigned["children_hash"].as_str().unwrap().to_owned();
    (unsigned["children"].clone(), hash)
}

#[tokio::test]
async fn a_thread_is_walked_both_ways() {
    story(|server| async move {
        let (alice, eve) = (server.register("alice").await, server.register("eve").await);
        let room = alice.create(json!({"preset": "private_chat"})).await;
        let a = alice.say(&room, "a").await;
        let b = answer(&alice, &room, &a).await;
        let c = answer(&alice, &room, &a).await;
        let d = answer(&alice, &room, &c).await;
        let down = json!({"event_id": a, "recent_first": false});
        let all = [&a, &b, &c, &d].map(Clone::clone);
        assert_eq!(thread(&alice, down.clone()).await, all);
        let flat = json!({"event_id": a, "recent_first": false, "max_depth": 1});
        assert_eq!(thread(&alice, flat).await, all[..3]);
        let up = json!({"event_id": d, "direction": "up"});
        assert_eq!(thread(&alice, up).await, [&d, &c, &a].map(Clone::clone));
        let (_, cut) = ask(&alice, json!({"event_id": a, "limit": 2})).await;
        assert_eq!(
            (&cut["limited"], cut["events"].as_array().unwrap().len()),
            (&json!(true), 2)
        );
        let (counted, hash) = counts(&cut, 0);
        assert_eq!(counted, json!({"m.reference": 2}));
        // What is redacted stays where it was.
        redact(&alice, &room, &c).await;
        assert_eq!(thread(&alice, down).await, all);
        let (_, again) = ask(&alice, json!({"event_id": a})).await;
        assert_eq!(counts(&again, 0).1, hash);

        for (user, question, status) in [
            (&eve, json!({"event_id": a}), 404),
            (&alice, json!({"event_id": "$nothing"}), 404),
            (
                &alice,
                json!({"event_id": "$nothing", "room_id": room}),
                404,
            ),
            (
                &alice,
                json!({"event_id": "$nothing", "room_id": "!nowhere:here"}),
                404,
            ),
            (&alice, json!({"event_id": a, "batch": "x"}), 400),
            (&alice, json!({"event_id": a, "direction": "left"}), 400),
            (&alice, json!({}), 400),
        ] {
            assert_eq!(ask(user, question.clone()).await.0, status, "{question}");
        }
        // Only what is there can be named.
        let elsewhere = alice.create_public().await;
        for (room, to) in [(&room, "$nothing"), (&elsewhere, &*a)] {
            let content = json!({"m.relationship": {"rel_type": "m.reference", "event_id": to}});
            let path = format!("/rooms/{}/send/m.room.message/{}", esc(room), esc(to));
            let (status, _) = alice.call(Method::PUT, &path, Some(content)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{to}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_left_is_not_told_how_many_came_later() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let a = alice.say(&room, "a").await;
        let path = |what: &str| format!("/rooms/{}/{what}", esc(&room));
        bob.ok(Method::POST, &path("join"), json!({})).await;
        answer(&alice, &room, &a).await;
        bob.ok(Method::POST, &path("leave"), json!({})).await;
        answer(&alice, &room, &a).await;
        let question = json!({"event_id": a});
        let (_, found) = ask(&bob, question.clone()).await;
        assert_eq!(counts(&found, 0).0, json!({"m.reference": 1}));
        assert_eq!(found["events"].as_array().unwrap().len(), 2);
        let (_, found) = ask(&alice, question).await;
        assert_eq!(counts(&found, 0).0, json!({"m.reference": 2}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_another_server_gives() {
    each_database(async |store| {
        let elsewhere = TestDatabase::sqlite();
        let far = elsewhere.open().await;
        let network = Network::default();
        let here = Server::on(store, &network, |_| {});
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let room = bob.create_public().await;
        let a = bob.say(&room, "a").await;
        let b = answer(&bob, &room, &a).await;
        let c = answer(&bob, &room, &b).await;
        let d = answer(&bob, &room, &b).await;
        let join = format!("/join/{}?via=there", esc(&room));
        ada.ok(Method::POST, &join, json!({})).await;
        let asked = || {
            let requests = network.requests().into_iter();
            requests
                .filter(|(_, path)| path.contains("event_relationships"))
                .count()
        };

        let question = json!({"event_id": d, "room_id": room, "include_parent": true});
        let (status, found) = ask(&ada, question).await;
        assert_eq!(status, StatusCode::OK, "{found}");
        let events: Vec<&Value> = found["events"].as_array().unwrap().iter().collect();
        assert_eq!(ids(&events), [&d, &b].map(Clone::clone));
        let (_, whole) = ask(&bob, json!({"event_id": b})).await;
        assert_eq!(counts(&found, 1), counts(&whole, 0));
        assert_eq!(counts(&found, 1).0, json!({"m.reference": 2}));

        // It knows that there are more.
        let question = json!({"event_id": b, "include_parent": true, "recent_first": false});
        assert_eq!(
            thread(&ada, question.clone()).await,
            [&b, &a, &c, &d].map(Clone::clone)
        );
        // And then it has them, and asks no more.
        let before = asked();
        assert_eq!(
            thread(&ada, question).await,
            [&b, &a, &c, &d].map(Clone::clone)
        );
        assert_eq!(asked(), before);
        network.cut(server_name!("there"));
        let up = json!({"event_id": c, "direction": "up"});
        assert_eq!(thread(&ada, up).await, [&c, &b, &a].map(Clone::clone));
        // Nothing of it is in the room's history before its place is known.
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&b));
        assert_eq!(ada.get(&path).await.0, StatusCode::NOT_FOUND);
        far.close().await;
        elsewhere.remove().await;
    })
    .await;
}

/// Where an event belongs that has no place here is known by its own word alone: who was banned isn't believed.
#[tokio::test(flavor = "multi_thread")]
async fn what_who_was_banned_wrote_is_not_taken_from_others() {
    each_database(async |store| {
        let elsewhere = TestDatabase::sqlite();
        let far = elsewhere.open().await;
        let network = Network::default();
        let here = Server::on(store, &network, |_| {});
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let mal = there.register("mal").await;
        let room = bob.create_public().await;
        let path = |what: &str| format!("/rooms/{}/{what}", esc(&room));
        mal.ok(Method::POST, &path("join"), json!({})).await;
        let a = bob.say(&room, "a").await;
        let b = answer(&mal, &room, &a).await;
        let c = answer(&bob, &room, &a).await;
        let ban = json!({"user_id": mal.id});
        bob.ok(Method::POST, &path("ban"), ban).await;
        let join = format!("/join/{}?via=there", esc(&room));
        ada.ok(Method::POST, &join, json!({})).await;

        let question = json!({"event_id": c, "room_id": room, "include_parent": true});
        assert_eq!(thread(&ada, question).await, [&c, &a].map(Clone::clone));
        let question = json!({"event_id": a, "recent_first": false});
        assert_eq!(
            thread(&bob, question.clone()).await,
            [&a, &b, &c].map(Clone::clone)
        );
        assert_eq!(thread(&ada, question).await, [&a, &c].map(Clone::clone));
        far.close().await;
        elsewhere.remove().await;
    })
    .await;
}

/// What a server may see of a room that was for members only before it came.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_given_what_they_may_see() {
    each_database(async |store| {
        let elsewhere = TestDatabase::sqlite();
        let far = elsewhere.open().await;
        let network = Network::default();
        let here = Server::on(store, &network, |_| {});
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let hidden = json!([{"type": "m.room.history_visibility", "state_key": "",
            "content": {"history_visibility": "joined"}}]);
        let room = bob
            .create(json!({"preset": "public_chat", "initial_state": hidden}))
            .await;
        let a = bob.say(&room, "a").await;
        let question = json!({"event_id": a, "room_id": room});
        assert_eq!(ask(&ada, question.clone()).await.0, StatusCode::NOT_FOUND);
        let join = format!("/join/{}?via=there", esc(&room));
        ada.ok(Method::POST, &join, json!({})).await;
        assert_eq!(ask(&ada, question).await.0, StatusCode::NOT_FOUND);
        far.close().await;
        elsewhere.remove().await;
    })
    .await;
}
