//! Large rooms that are joined before their members are known: those come in one answer.

use axum::body::Body;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::{
    crowd::Crowd,
    large::{enter, offer, small},
    mean::{Mean, body_answer},
    partial_lies::asked_again,
    world::{each_joining_early, eventually, same_state},
};

/// A large state, which comes in one answer, breaks off.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_large_state_is_nothing() {
    each_joining_early(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let told = Crowd {
            members: 400,
            ..small("11", "half")
        }
        .tell();
        offer(&world, &told);
        enter(a, &alice, &told).await.unwrap();
        let mean = Mean::before(&world, 0);
        mean.garbles("/state/", |answer| {
            let pieces = answer.into_body().into_data_stream();
            let half = Body::from_stream(pieces.map(|piece| {
                let piece = piece.unwrap();
                Ok::<_, std::io::Error>(piece.slice(..piece.len() / 2))
            }));
            body_answer(half)
        });
        let room = &told.room_id;
        b.join(&bob, room, a).await.unwrap();
        asked_again(&mean, "/state/").await;
        assert!(!b.is_complete(room).await);
        let head = b.store().room(room).await.unwrap().unwrap();
        assert!(head.joined < 10, "{} members are known", head.joined);
        mean.repents();
        eventually("all members are known", async || b.is_complete(room).await).await;
        same_state(a, b, room).await;
        let head = b.store().room(room).await.unwrap().unwrap();
        assert!(head.joined > 400, "{} members are known", head.joined);
    })
    .await;
}

/// An answer that has no events completes no room.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_no_state() {
    each_joining_early(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let told = Crowd {
            members: 400,
            ..small("11", "empty")
        }
        .tell();
        offer(&world, &told);
        enter(a, &alice, &told).await.unwrap();
        let mean = Mean::before(&world, 0);
        mean.says("/state/", json!({ "pdus": [], "auth_chain": [] }));
        let room = &told.room_id;
        b.join(&bob, room, a).await.unwrap();
        asked_again(&mean, "/state/").await;
        assert!(!b.is_complete(room).await);
        mean.repents();
        eventually("all members are known", async || b.is_complete(room).await).await;
        same_state(a, b, room).await;
    })
    .await;
}
