//! The list of a room's threads.

use http::{Method, StatusCode};
use rhizome_federation::testing::Network;
use rhizome_storage::testing::{TestDatabase, each_database};
use ruma::server_name;
use serde_json::{Value, json};

use super::{ask, bundle, get, ignore, page, redact, relate, relating, threads};
use crate::{
    harness::{Server, User, esc, story},
    peer::{room_of, story as with_peer},
};

fn pair(root: &str, latest: &str) -> (String, String) {
    (root.to_owned(), latest.to_owned())
}

#[tokio::test]
async fn threads_come_by_their_latest_event() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let (one, two) = (alice.say(&room, "one").await, bob.say(&room, "two").await);
        alice.say(&room, "no thread").await;
        let first = relate(&alice, &room, "m.thread", &one).await;
        let second = relate(&alice, &room, "m.thread", &two).await;
        let all = async |user: &User| threads(user, &room, "").await;
        let expected = vec![pair(&two, &second), pair(&one, &first)];
        assert_eq!(all(&alice).await, (expected, None));
        let third = relate(&bob, &room, "m.thread", &one).await;
        let expected = vec![pair(&one, &third), pair(&two, &second)];
        assert_eq!(all(&alice).await.0, expected);

        // What is redacted is no activity, nor is it a thread when nothing else is in it.
        redact(&bob, &room, &third).await;
        assert_eq!(
            all(&alice).await.0,
            [pair(&two, &second), pair(&one, &first)]
        );
        redact(&alice, &room, &second).await;
        assert_eq!(all(&alice).await.0, [pair(&one, &first)]);
        let fourth = relate(&bob, &room, "m.thread", &two).await;
        assert_eq!(all(&bob).await.0, [pair(&two, &fourth), pair(&one, &first)]);
        // A redacted root has its thread still.
        redact(&alice, &room, &one).await;
        assert_eq!(all(&bob).await.0, [pair(&two, &fourth), pair(&one, &first)]);

        // Whoever takes part.
        let carl = server.register("carl").await;
        carl.join(&room).await;
        let own = async |user: &User| threads(user, &room, "?include=participated").await.0;
        assert_eq!(own(&carl).await, []);
        assert_eq!(own(&bob).await, [pair(&two, &fourth)]);
        assert_eq!(own(&alice).await, [pair(&one, &first)]);
        let fifth = relate(&carl, &room, "m.thread", &one).await;
        assert_eq!(own(&carl).await, [pair(&one, &fifth)]);
        assert_eq!(all(&carl).await.0.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn they_come_in_pages() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut expected = Vec::new();
        for n in 0..7 {
            let root = alice.say(&room, &n.to_string()).await;
            let latest = relate(&alice, &room, "m.thread", &root).await;
            expected.insert(0, (root, latest));
        }
        // For who ignores somebody they are looked up otherwise.
        for ignored in [vec![], vec!["@nobody:here"], vec![&*bob.id]] {
            ignore(&alice, &ignored).await;
            let (mut found, mut at, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let (chunk, next) = threads(&alice, &room, &format!("?limit=3{at}")).await;
                found.extend(chunk);
                pages += 1;
                let Some(next) = next else { break };
                at = format!("&from={}", esc(&next));
            }
            assert_eq!((found, pages), (expected.clone(), 3), "{ignored:?}");
        }
        // Somebody who isn't heard moves nothing.
        relate(&bob, &room, "m.thread", &expected[6].0).await;
        assert_eq!(threads(&alice, &room, "").await.0, expected);
        assert_eq!(threads(&bob, &room, "?limit=1").await.0[0].0, expected[6].0);
        // Nor does a thread that has nobody else in it.
        let root = alice.say(&room, "root").await;
        let only = relate(&bob, &room, "m.thread", &root).await;
        assert_eq!(threads(&alice, &room, "").await.0, expected);
        assert_eq!(threads(&bob, &room, "?limit=1").await.0, [(root, only)]);

        // Of who is left, up to then.
        alice.leave(&room).await;
        ignore(&alice, &[]).await;
        let before = threads(&alice, &room, "?limit=2").await.0;
        relate(&bob, &room, "m.thread", &expected[3].0).await;
        assert_eq!(threads(&alice, &room, "?limit=2").await.0, before);
    })
    .await;
}

#[tokio::test]
async fn a_root_is_shown_as_it_may_be() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let root = bob.say(&room, "secret").await;
        relate(&alice, &room, "m.thread", &root).await;
        relate(&alice, &room, "m.thread", "$unknown").await;
        ignore(&alice, &[&bob.id]).await;
        let path = format!("/rooms/{}/threads", esc(&room));
        let (_, page) = get(&alice, &path).await;
        assert_eq!(page["chunk"].as_array().unwrap().len(), 1, "{page}");
        let shown = &page["chunk"][0];
        assert_eq!(
            (&shown["event_id"], &shown["content"]),
            (&json!(root), &json!({}))
        );
        assert_eq!(shown["unsigned"]["m.relations"]["m.thread"]["count"], 1);
        let state = relating("m.thread", &root);
        let topic = alice.set_state(&room, "org.test", "", state).await;
        assert_eq!(threads(&bob, &room, "").await.0, [pair(&root, &topic)]);
    })
    .await;
}

/// What hangs off something that relates to something itself is no thread, though another server lets it in.
#[tokio::test]
async fn a_thread_off_a_thread_is_none() {
    with_peer(|ada, peer, room| async move {
        let id = room_of(&room);
        let root = ada.say(&room, "root").await;
        peer.hears(&root).await;
        let content = relating("m.thread", &root);
        let reply = peer.send(&id, "m.room.message", None, content).await;
        let content = relating("m.thread", &reply);
        let nested = peer.send(&id, "m.room.message", None, content).await;
        peer.push(&reply).await;
        peer.push(&nested).await;
        assert_eq!(threads(&ada, &room, "").await.0, [pair(&root, &reply)]);
        assert_eq!(bundle(&ada, &room, &reply).await, Value::Null);
        assert_eq!(page(&ada, &room, &reply, "").await.0, [nested]);
        peer
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_told() {
    story(|server| async move {
        let (alice, eve) = (server.register("alice").await, server.register("eve").await);
        let room = alice.create(json!({"preset": "private_chat"})).await;
        let path = |query: &str| format!("/rooms/{}/threads{query}", esc(&room));
        let (status, answer) = get(&eve, &path("")).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN"))
        );
        let (status, _) = get(&eve, "/rooms/!nowhere:here/threads").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        for query in ["?from=p7", "?limit=0", "?include=some"] {
            let (status, answer) = get(&alice, &path(query)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(answer["errcode"], "M_INVALID_PARAM", "{query}");
        }
        let (status, answer) = get(&alice, &path("?limit=999999")).await;
        assert_eq!((status, answer), (StatusCode::OK, json!({"chunk": []})));
    })
    .await;
}

#[tokio::test]
async fn a_page_costs_the_same_however_many_are_on_it() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        for n in 0..30 {
            let root = alice.say(&room, &n.to_string()).await;
            relate(&bob, &room, "m.thread", &root).await;
        }
        for query in ["", "&include=participated"] {
            // Whom she ignores is known from here on.
            threads(&alice, &room, &format!("?limit=1{query}")).await;
            let mut costs = Vec::new();
            for limit in [2, 30] {
                let before = server.store.counters().now();
                let query = format!("?limit={limit}{query}");
                let (found, _) = threads(&alice, &room, &query).await;
                costs.push((server.store.counters().now() - before).queries);
                assert_eq!(found.len(), limit);
            }
            println!("a page of threads asks {costs:?} times");
            assert_eq!(costs[0], costs[1], "{query}");
            assert!(costs[0] <= 8, "{query}: {costs:?}");
        }
    })
    .await;
}

/// What was sent before somebody of a server came is found once that has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_from_before_is_there_with_its_history() {
    each_database(async |store| {
        let elsewhere = TestDatabase::sqlite();
        let far = elsewhere.open().await;
        let network = Network::default();
        let here = Server::on(store, &network, |_| {});
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let room = bob.create_public().await;
        let root = bob.say(&room, "root").await;
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.push(relate(&bob, &room, "m.thread", &root).await);
        }
        let path = format!("/join/{}?via=there", esc(&room));
        ada.ok(Method::POST, &path, json!({})).await;
        assert_eq!(ask(&ada, &room, &root, "").await.0, StatusCode::NOT_FOUND);
        assert_eq!(threads(&ada, &room, "").await, (Vec::new(), None));
        let path = format!("/rooms/{}/messages?dir=b&limit=100", esc(&room));
        ada.read(&path).await;
        let (found, _) = page(&ada, &room, &root, "/m.thread?dir=f").await;
        assert_eq!(found, replies);
        let expected = vec![pair(&root, &replies[2])];
        assert_eq!(threads(&ada, &room, "").await, (expected, None));
        let told = bundle(&ada, &room, &root).await;
        assert_eq!(told["m.thread"]["count"], 3);
        far.close().await;
        elsewhere.remove().await;
    })
    .await;
}
