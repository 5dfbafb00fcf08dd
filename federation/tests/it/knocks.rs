//! Knocking on rooms of other servers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use rhizome_federation::{Federation, MatrixError, local, membership::knock};
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{membership::Action, send::SendOptions};
use ruma::{OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    doors::{own_event, rule},
    world::{Server, each, eventually, same_state},
};

async fn knocks(
    server: &Server,
    user: &UserId,
    room: &RoomId,
    via: &Server,
) -> Result<(), MatrixError> {
    let mut content = Object::new();
    content.insert("reason".into(), "let me in".into());
    let via = std::slice::from_ref(&via.name);
    knock::knock(&server.fed, user, room.into(), via, content)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knock_is_answered_denied_or_taken_back() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for (version, join_rule) in [
            (RoomVersionId::V7, "knock"),
            (RoomVersionId::V10, "knock_restricted"),
            (RoomVersionId::V12, "knock"),
        ] {
            let room = a.create(&alice, &version).await;
            // Where nobody may knock, the answer is no.
            let refused = knocks(b, &bob, &room, a).await.unwrap_err();
            assert_eq!(refused.errcode, "M_FORBIDDEN");
            rule(a, &alice, &room, join_rule, &[]).await;

            knocks(b, &bob, &room, a).await.unwrap();
            assert_eq!(a.membership(&room, &bob).await, Some(Membership::Knock));
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Knock));
            let heard = own_event(a, &room, &bob).await;
            assert_eq!(heard["content"]["reason"], "let me in");
            let (user, no) = (
                b.store().known_user(&bob).await.unwrap().unwrap(),
                b.store().known_room(&room).await.unwrap().unwrap(),
            );
            let kept = b.store().remote_invite(user, no).await.unwrap().unwrap();
            assert!(kept.stripped_state.contains("A room"));
            let refused = b.join(&bob, &room, a).await.unwrap_err();
            assert_eq!(refused.errcode, "M_FORBIDDEN");

            // Taken back, and again, and once more.
            b.leave(&bob, &room).await.unwrap();
            assert_eq!(a.membership(&room, &bob).await, Some(Membership::Leave));
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Leave));
            knocks(b, &bob, &room, a).await.unwrap();
            knocks(b, &bob, &room, a).await.unwrap();
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Knock));

            // Denied.
            a.change(&alice, &room, &bob, Action::Kick).await.unwrap();
            eventually("the knock is denied", async || {
                b.membership(&room, &bob).await == Some(Membership::Leave)
            })
            .await;

            // Answered.
            knocks(b, &bob, &room, a).await.unwrap();
            a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Invite));
            let refused = knocks(b, &bob, &room, a).await.unwrap_err();
            assert_eq!(refused.errcode, "M_FORBIDDEN");
            b.join(&bob, &room, a).await.unwrap();
            same_state(a, b, &room).await;

            // In the room already, a server takes its users' knocks itself; and others' for the room.
            let bea = b.user("bea");
            knocks(b, &bea, &room, b).await.unwrap();
            knocks(c, &carol, &room, b).await.unwrap();
            eventually("alice hears both", async || {
                a.membership(&room, &bea).await == Some(Membership::Knock)
                    && a.membership(&room, &carol).await == Some(Membership::Knock)
            })
            .await;
            a.change(&alice, &room, &carol, Action::Ban).await.unwrap();
            eventually("carol is shut out", async || {
                c.membership(&room, &carol).await == Some(Membership::Leave)
            })
            .await;
            assert_eq!(
                knocks(c, &carol, &room, a).await.unwrap_err().errcode,
                "M_FORBIDDEN"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_knocks_go_through_the_knocking_door() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V6).await;
        let path =
            |version: &str| format!("/_matrix/federation/v1/make_knock/{room}/{bob}?ver={version}");
        let old = b.get(a, &path("6")).await.unwrap_err();
        assert_eq!(old.errcode, "M_FORBIDDEN", "version 6 has no knocks");
        let other = b.get(a, &path("7")).await.unwrap_err();
        assert_eq!(other.errcode, "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(other.extra["room_version"], "6");

        // A join at the door for knocks.
        b.join(&bob, &room, a).await.unwrap();
        let join = own_event(b, &room, &bob).await;
        let id = &b.state(&room).await[&("m.room.member".into(), bob.to_string())];
        let path = format!("/_matrix/federation/v1/send_knock/{room}/{id}");
        let refused = b
            .request(a, http::Method::PUT, &path, Some(join))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), &*refused.errcode),
            (400, "M_INVALID_PARAM")
        );
    })
    .await;
}

/// What a's side and b's side of [`deny_during_knock`] share.
#[derive(Clone)]
struct Denial {
    fed: Federation,
    room: OwnedRoomId,
    arrived: Arc<Notify>,
}

/// Denies the knock that was just taken, before the knocking server has got the answer.
async fn deny_during_knock(State(denial): State<Denial>, request: Request, next: Next) -> Response {
    let knocks = request.uri().path().contains("/send_knock/");
    let response = next.run(request).await;
    if knocks {
        let draft = Draft {
            room_id: Some(denial.room),
            sender: "@alice:a.example".try_into().unwrap(),
            kind: "m.room.member".to_owned(),
            state_key: Some("@bob:b.example".to_owned()),
            content: json!({ "membership": "leave" })
                .as_object()
                .unwrap()
                .clone(),
            redacts: None,
        };
        local::send(&denial.fed, draft, SendOptions::default())
            .await
            .unwrap();
        // The sender of the room's server tells: wait until it has begun to.
        denial.arrived.notified().await;
        tokio::task::yield_now().await;
    }
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knock_that_is_denied_at_once_is_over() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        rule(a, &alice, &room, "knock", &[]).await;
        let denial = Denial {
            fed: a.fed.clone(),
            room: room.clone(),
            arrived: Arc::new(Notify::new()),
        };
        let quick = middleware::from_fn_with_state(denial.clone(), deny_during_knock);
        world.network.attach(&a.name, a.router().layer(quick));
        let arrived = denial.arrived.clone();
        let hears = middleware::from_fn(move |request: Request, next: Next| {
            if request.uri().path().contains("/send/") {
                arrived.notify_one();
            }
            next.run(request)
        });
        world.network.attach(&b.name, b.router().layer(hears));
        knocks(b, &bob, &room, a).await.unwrap();
        eventually("the knock is over", async || {
            b.membership(&room, &bob).await == Some(Membership::Leave)
        })
        .await;
    })
    .await;
}
