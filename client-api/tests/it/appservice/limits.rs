//! Limits count for services as their registrations say.

use http::Method;
use rhizome_client_api::config::{Rate, RateLimits};
use serde_json::{Value, json};

use super::{Acting, IRC, story_with};
use crate::harness::{Server, esc};

/// A service for which limits count.
const SLOW: &str = r"
id: slow
url: null
as_token: slow-token
hs_token: slow-hs-token
sender_localpart: slowbot
namespaces:
  users: [{exclusive: true, regex: '@slow_.*'}]
";

const TWO: Rate = Rate {
    per_second: 0.0001,
    burst: 2,
};

fn two_of_each(config: &mut rhizome_client_api::ClientConfig) {
    config.rate_limits = RateLimits {
        enabled: true,
        message: TWO,
        invite: TWO,
        other: Rate { burst: 5, ..TWO },
        new_account_invite: TWO,
        new_account_room: Rate { burst: 1, ..TWO },
        new_account_age: std::time::Duration::from_hours(24),
        ..RateLimits::default()
    };
}

/// How many of five messages are taken.
async fn said(acting: &Acting) -> usize {
    let room = acting.ok(Method::POST, "/createRoom", json!({})).await;
    let room = esc(room["room_id"].as_str().unwrap());
    let mut taken = 0;
    for n in 0..5 {
        let path = format!("/rooms/{room}/send/m.room.message/{n}");
        let body = json!({ "msgtype": "m.text", "body": "hello" });
        let (status, answer) = acting.call(Method::PUT, &path, body).await;
        match status.as_u16() {
            200 => taken += 1,
            status => assert_eq!(
                (status, &answer["errcode"]),
                (429, &json!("M_LIMIT_EXCEEDED"))
            ),
        }
    }
    taken
}

/// How many of four people are invited, each by state of their own.
async fn invited(acting: &Acting) -> usize {
    let room = acting.ok(Method::POST, "/createRoom", json!({})).await;
    let room = esc(room["room_id"].as_str().unwrap());
    let mut taken = 0;
    for n in 0..4 {
        let guest = esc(&format!("@guest{n}:here"));
        let path = format!("/rooms/{room}/state/m.room.member/{guest}");
        let body = json!({ "membership": "invite" });
        // What is said as state counts as a message, too.
        let (status, _) = acting.call(Method::PUT, &path, body).await;
        taken += usize::from(status == 200);
    }
    taken
}

#[tokio::test]
async fn a_service_without_limits_has_none() {
    story_with(&[IRC, SLOW], two_of_each, async |server: &Server| {
        let irc = Acting::of(server, "irc-token");
        for n in 0..7 {
            irc.makes(&format!("irc_{n}")).await;
        }
        let ann = irc.as_user("@irc_0:here");
        assert_eq!(said(&ann).await, 5);
        assert_eq!(invited(&ann).await, 4);
        let slow = Acting::of(server, "slow-token");
        let bob = slow.makes("slow_bob").await;
        assert_eq!(said(&bob).await, 2, "limits count for this one");
        assert_eq!(said(&slow).await, 5, "but not for its own user");
    })
    .await;
}

#[tokio::test]
async fn a_service_that_is_limited_registers_so_often_wherever_it_is() {
    story_with(&[IRC, SLOW], two_of_each, async |server: &Server| {
        let slow = Acting::of(server, "slow-token");
        for n in 0..5 {
            slow.makes(&format!("slow_{n}")).await;
        }
        let body = json!({ "type": super::TYPE, "username": "slow_5", "inhibit_login": true });
        let refusal = (429, "M_LIMIT_EXCEEDED");
        slow.refused(Method::POST, "/register", body, refusal).await;
        // Others come from the same address.
        Acting::of(server, "irc-token").makes("irc_ann").await;
        let path = "/_matrix/client/v3/login";
        let (status, _) = server
            .request(Method::POST, path, None, Some(json!({ "type": "x" })))
            .await;
        assert_eq!(status, 400);
        let none: Value = slow.read("/account/whoami").await;
        assert_eq!(none["user_id"], "@slowbot:here");
    })
    .await;
}

#[tokio::test]
async fn users_of_a_service_are_no_newcomers() {
    story_with(&[SLOW], two_of_each, async |server: &Server| {
        let slow = Acting::of(server, "slow-token");
        let bob = slow.makes("slow_bob").await;
        for _ in 0..3 {
            bob.ok(Method::POST, "/createRoom", json!({})).await;
        }
        let ada = server.register("ada").await;
        ada.create(json!({})).await;
        let (status, _) = ada.call(Method::POST, "/createRoom", Some(json!({}))).await;
        assert_eq!(status, 429);
    })
    .await;
}
