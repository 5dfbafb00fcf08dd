//! What can't be sent when it is due is over, and its user is told why.

use std::time::Duration;

use http::Method;
use rhizome_storage::{AccountFlag, DelayId};
use ruma::UserId;
use serde_json::{Value, json};

use super::{as_usual, got, late, left, numbers, send, try_send};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test]
async fn who_has_left_or_is_banned_sends_nothing_any_more() {
    late(as_usual, |server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let id = send(&bob, &room, 1, 1_000).await;
        let elsewhere = try_send(&bob, "!none:here", ("a", "1"), "1000", Some(json!({}))).await;
        let elsewhere = elsewhere.1["delay_id"].as_str().unwrap().to_owned();
        bob.leave(&room).await;
        clock.advance(ms(1_000));
        left(&bob, 0).await;
        let (_, event) = got(&bob, &id).await;
        assert_eq!(event["error"]["errcode"], "M_FORBIDDEN", "{event}");
        let (_, event) = got(&bob, &elsewhere).await;
        assert_eq!(event["error"]["errcode"], "M_NOT_FOUND", "{event}");
        assert!(numbers(&alice, &room).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_account_that_has_ended_sends_nothing_any_more() {
    late(as_usual, |server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let id = send(&bob, &room, 1, 1_000).await;
        let auth = json!({ "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": bob.id } });
        let end = json!({ "auth": auth });
        bob.ok(Method::POST, "/account/deactivate", end).await;
        clock.advance(ms(1_000));
        let id = DelayId::of(id);
        let end = async || server.store.delayed_event(&id).await.unwrap().unwrap().end;
        rhizome_storage::testing::eventually("it is over", async || end().await.is_some()).await;
        let error = end().await.unwrap().error.unwrap();
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error["errcode"], "M_FORBIDDEN");
        assert!(error["error"].as_str().unwrap().contains("deactivated"));
        assert!(numbers(&alice, &room).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn who_is_suspended_sends_nothing_any_more() {
    late(as_usual, |server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let id = send(&bob, &room, 1, 1_000).await;
        let user = <&UserId>::try_from(bob.id.as_str()).unwrap();
        let user = server.store.user_no(user).await.unwrap();
        let suspend = (server.store).set_account_flag(user, AccountFlag::Suspended, true);
        assert!(suspend.await.unwrap());
        let refused = try_send(&bob, &room, ("m.a", "2"), "1000", Some(json!({}))).await;
        assert_eq!(refused.1["errcode"], "M_USER_SUSPENDED");
        clock.advance(ms(1_000));
        left(&bob, 0).await;
        let (_, event) = got(&bob, &id).await;
        assert_eq!(event["error"]["errcode"], "M_USER_SUSPENDED", "{event}");
        assert!(numbers(&alice, &room).await.is_empty());
    })
    .await;
}

/// One user's that fail, and one's that don't, don't touch each other.
#[tokio::test]
async fn what_fails_holds_up_nobody() {
    late(as_usual, |server, clock| async move {
        let (alice, eve) = (server.register("alice").await, server.register("eve").await);
        let room = alice.create_public().await;
        for n in 0..20 {
            send(&eve, &room, n, 1_000).await;
            send(&alice, &room, n, 1_000).await;
        }
        clock.advance(ms(1_000));
        left(&alice, 0).await;
        left(&eve, 0).await;
        let expected: Vec<i64> = (0..20).collect();
        assert_eq!(numbers(&alice, &room).await, expected);
    })
    .await;
}
