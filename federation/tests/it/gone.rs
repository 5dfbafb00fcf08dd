//! Rooms whose older events are of servers that are gone, and joins that only the other side has finished.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use http::StatusCode;
use rhizome_federation::testing::Network;
use rhizome_protocol::{Membership, server_keys, sign};
use rhizome_rooms::membership::Action;
use rhizome_storage::testing::TestDatabase;
use ruma::{RoomId, UserId};
use serde_json::json;

use crate::mean::{Mean, json_answer};
use crate::support::key;
use crate::world::{Server, VERSIONS, each, eventually, same_state, still};

/// Neither the owner nor a notary gives the keys: the server that gives the room does, and for that answer only.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_a_server_that_is_gone_can_be_joined() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for version in &VERSIONS {
            world.network.mend(&a.name);
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            same_state(a, b, &room).await;
            world.network.cut(&a.name);
            c.join(&carol, &room, b).await.unwrap();
            assert_eq!(c.membership(&room, &alice).await, Some(Membership::Join));
            same_state(b, c, &room).await;
            let (known, _) = c.store().server_keys(&a.name).await.unwrap();
            assert!(known.is_empty(), "{known:?}");
        }
        let questions = world.network.requests();
        let questions = questions
            .iter()
            .filter(|(to, line)| *to == b.name && line.contains("/_matrix/key/v2/query"));
        assert_eq!(questions.count(), VERSIONS.len(), "one for each join");
    })
    .await;
}

/// An owner that takes questions and doesn't answer is not waited for as long as it may take alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_silent_is_not_waited_for_long() {
    still(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let rooms = [
            a.create(&alice, &VERSIONS[2]).await,
            a.create(&alice, &VERSIONS[3]).await,
        ];
        for room in &rooms {
            b.join(&bob, room, a).await.unwrap();
        }
        let mean = Mean::before(&world, 0);
        mean.is_silent("/key/v2/server");
        let began = Instant::now();
        for room in &rooms {
            c.join(&carol, room, b).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(12));
        // The second time it is known not to answer, or asked once more when that is a while ago.
        assert!(mean.count("/key/v2/server") <= 2);
    })
    .await;
}

/// Who gives a room can't make up the keys of a server that answers, nor of one whose keys are known, nor any that are kept.
#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_room_does_not_make_up_keys() {
    still(4, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = a.create(&alice, &VERSIONS[2]).await;
        b.join(&bob, &room, a).await.unwrap();
        let mean = Mean::before(&world, 1);
        let forger = sign::KeyPair::from_seed("k1", &[9; 32]).unwrap();
        let until = 4_000_000_000_000;
        let mut forged = server_keys::build(&a.name, &[&forger], &[], until).unwrap();
        sign::sign_json(&mut forged, &b.name, &key(2)).unwrap();
        mean.says("/key/v2/query", json!({ "server_keys": [forged] }));
        // It answers: nobody else is asked.
        c.join(&carol, &room, b).await.unwrap();
        assert_eq!(mean.count("/key/v2/query"), 0);
        let known = c.store().server_keys(&a.name).await.unwrap();
        // It is gone, and what is known of it stays.
        c.leave(&carol, &room).await.unwrap();
        world.network.cut(&a.name);
        c.join(&carol, &room, b).await.unwrap();
        assert_eq!(mean.count("/key/v2/query"), 0, "its keys are known");
        assert_eq!(c.store().server_keys(&a.name).await.unwrap(), known);
        // Who has never heard of it may be lied to about one room, and believes it in nothing else.
        let d = world.server(3);
        d.join(&d.user("dora"), &room, b).await.unwrap_err();
        assert_eq!(mean.count("/key/v2/query"), 1);
        assert_eq!(d.fed.keys().current_key(&a.name, "ed25519:k1").await, None);
        assert_eq!(d.store().server_keys(&a.name).await.unwrap(), (vec![], 0));
    })
    .await;
}

/// What the server gives of a room is no room: in the end it doesn't count us as joined, though it couldn't be told
/// at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_of_which_nothing_comes_is_taken_back() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob, ben) = (a.user("alice"), b.user("bob"), b.user("ben"));
        let room = a.create(&alice, &VERSIONS[2]).await;
        let mean = gives_no_room(&world.network, a);
        mean.refuses("/make_leave/", StatusCode::SERVICE_UNAVAILABLE, json!({}));
        b.join(&bob, &room, a).await.unwrap_err();
        assert_eq!(a.membership(&room, &bob).await, Some(Membership::Join));
        eventually("it is tried", async || mean.count("/make_leave/") > 1).await;
        assert_eq!(a.membership(&room, &bob).await, Some(Membership::Join));
        mean.repents();
        left(a, b, &bob, &room).await;

        // A refusal leaves nothing to be taken back.
        a.change(&alice, &room, &ben, Action::Ban).await.unwrap();
        b.join(&ben, &room, a).await.unwrap_err();
        assert_eq!(b.store().next_sent_joins(9).await.unwrap(), []);
        // Nor is one taken back whose user has got in since.
        let mean = gives_no_room(&world.network, a);
        mean.refuses("/make_leave/", StatusCode::SERVICE_UNAVAILABLE, json!({}));
        b.join(&bob, &room, a).await.unwrap_err();
        mean.repents();
        b.join(&bob, &room, a).await.unwrap();
        eventually("it is dropped", async || {
            b.store().next_sent_joins(9).await.unwrap().is_empty()
        })
        .await;
        same_state(a, b, &room).await;
        assert_eq!(a.membership(&room, &bob).await, Some(Membership::Join));
    })
    .await;
}

/// The user leaves the room in which they aren't.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_the_join_back() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &VERSIONS[2]).await;
        let unknown = b.leave(&bob, &room).await.unwrap_err();
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        let mean = gives_no_room(&world.network, a);
        b.join(&bob, &room, a).await.unwrap_err();
        assert_eq!(a.membership(&room, &bob).await, Some(Membership::Join));
        mean.repents();
        b.leave(&bob, &room).await.unwrap();
        left(a, b, &bob, &room).await;
    })
    .await;
}

/// Whoever restarts still knows of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_is_taken_back_after_a_restart() {
    let network = Network::default();
    for databases in [
        [TestDatabase::sqlite(), TestDatabase::sqlite()],
        [
            TestDatabase::postgres().await,
            TestDatabase::postgres().await,
        ],
    ] {
        let mut a = Server::new(&network, databases[0].open().await, 0);
        let mut b = Server::new(&network, databases[1].open().await, 1);
        a.run();
        b.run();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &VERSIONS[2]).await;
        // It is cut off with its answer, so that nothing is taken back before the restart.
        let mean = Mean::in_front_of(&network, &a);
        let (cutting, name) = (network.clone(), a.name.clone());
        mean.garbles("/send_join/", move |_| {
            cutting.cut(&name);
            no_room()
        });
        b.join(&bob, &room, &a).await.unwrap_err();
        b.restart(&network, &databases[1], 1).await;
        assert_eq!(a.membership(&room, &bob).await, Some(Membership::Join));
        mean.repents();
        network.mend(&a.name);
        left(&a, &b, &bob, &room).await;
        a.end().await;
        b.end().await;
        for database in databases {
            database.remove().await;
        }
    }
}

/// The answer to a join is lost once: the join is handed in again, and counts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            loses(&world.network, a, 1);
            b.join(&bob, &room, a).await.unwrap();
            same_state(a, b, &room).await;
            b.say(&bob, &room, "here").await;
            eventually("it is heard", async || a.heard(&room).await == ["here"]).await;
        }
        // It is lost each time: nobody takes the user for joined in the end.
        let room = a.create(&alice, &VERSIONS[2]).await;
        loses(&world.network, a, 3);
        b.join(&bob, &room, a).await.unwrap_err();
        left(a, b, &bob, &room).await;
    })
    .await;
}

/// The same where half of the answer has come.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &VERSIONS[2]).await;
        let mean = Mean::in_front_of(&world.network, a);
        let was_broken = AtomicBool::new(false);
        mean.garbles("/send_join/", move |answer| {
            if was_broken.swap(true, Relaxed) {
                return answer;
            }
            let half = Bytes::from_static(b"{\"state\":[");
            let parts = [Ok(half), Err(io::Error::other("the connection is gone"))];
            Response::new(Body::from_stream(stream::iter(parts)))
        });
        b.join(&bob, &room, a).await.unwrap();
        assert_eq!(mean.count("/send_join/"), 2);
        same_state(a, b, &room).await;
        mean.repents();
    })
    .await;
}

/// The server takes joins, and gives no rooms for them.
fn gives_no_room(network: &Network, a: &Server) -> Mean {
    let mean = Mean::in_front_of(network, a);
    mean.garbles("/send_join/", |_| no_room());
    mean
}

/// An answer to a join without a room.
fn no_room() -> Response {
    json_answer(&json!({ "state": [], "auth_chain": [] }))
}

/// The server takes joins, and so many of its answers don't arrive.
fn loses(network: &Network, a: &Server, answers: usize) {
    let mean = Mean::in_front_of(network, a);
    let left = AtomicUsize::new(answers);
    mean.garbles("/send_join/", move |answer| {
        let lost = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if lost.is_err() {
            return answer;
        }
        let mut lost = json_answer(&json!({}));
        *lost.status_mut() = StatusCode::BAD_GATEWAY;
        lost
    });
}

async fn left(a: &Server, b: &Server, user: &UserId, room: &RoomId) {
    eventually("the user has left", async || {
        a.membership(room, user).await == Some(Membership::Leave)
            && b.store().next_sent_joins(9).await.unwrap().is_empty()
    })
    .await;
}
