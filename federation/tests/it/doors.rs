//! Rooms that let in whom their rules say: members of other rooms, and those who knock.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use rhizome_federation::{
    Federation, MatrixError, local,
    membership::{join, knock},
};
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{membership::Action, send::SendOptions};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::world::{Server, each, eventually, same_state};

async fn rule(server: &Server, who: &UserId, room: &RoomId, rule: &str, allow: &[&RoomId]) {
    let condition = |room: &&RoomId| json!({ "type": "m.room_membership", "room_id": room });
    let mut allow: Vec<Value> = allow.iter().map(condition).collect();
    // What nobody can make sense of is no condition.
    allow.extend([json!(1), json!({ "type": "org.example.moon" })]);
    let content = json!({ "join_rule": rule, "allow": allow });
    server
        .send(who, room, "m.room.join_rules", Some(""), content)
        .await
        .unwrap();
}

async fn levels(server: &Server, who: &UserId, room: &RoomId, changed: Value) {
    let id = &server.state(room).await[&("m.room.power_levels".into(), String::new())];
    let mut content = server.event(id).await.unwrap().pdu.content().clone();
    content.extend(changed.as_object().unwrap().clone());
    server
        .send(who, room, "m.room.power_levels", Some(""), content.into())
        .await
        .unwrap();
}

/// What one server says to another's user who wants in.
async fn make_join(from: &Server, to: &Server, room: &RoomId, user: &UserId) -> MatrixError {
    let version = to.store().room(room).await.unwrap().unwrap().rules.id();
    let path = format!("/_matrix/federation/v1/make_join/{room}/{user}?ver={version}");
    from.get(to, &path).await.unwrap_err()
}

async fn own_event(server: &Server, room: &RoomId, user: &UserId) -> Value {
    let id = &server.state(room).await[&("m.room.member".into(), user.to_string())];
    serde_json::from_str(server.event(id).await.unwrap().pdu.json()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn restricted_rooms_let_members_of_other_rooms_in() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for (version, join_rule) in [
            (RoomVersionId::V8, "restricted"),
            (RoomVersionId::V9, "restricted"),
            (RoomVersionId::V11, "knock_restricted"),
            (RoomVersionId::V12, "restricted"),
        ] {
            let club = a.create(&alice, &RoomVersionId::V12).await;
            let den = a.create(&alice, &version).await;
            levels(a, &alice, &den, json!({ "invite": 50 })).await;
            rule(a, &alice, &den, join_rule, &[&club]).await;

            // Who isn't in the other room stays out; that holds for users of this server too.
            let refused = b.join(&bob, &den, a).await.unwrap_err();
            assert_eq!(
                (refused.status.as_u16(), &*refused.errcode),
                (403, "M_FORBIDDEN")
            );
            let ann = a.user("ann");
            let refused = a.join(&ann, &den, a).await.unwrap_err();
            assert_eq!(refused.errcode, "M_FORBIDDEN");

            b.join(&bob, &club, a).await.unwrap();
            b.join(&bob, &den, a).await.unwrap();
            same_state(a, b, &den).await;
            let join = own_event(b, &den, &bob).await;
            assert_eq!(
                join["content"]["join_authorised_via_users_server"],
                alice.as_str()
            );
            let signers: Vec<_> = join["signatures"].as_object().unwrap().keys().collect();
            assert_eq!(signers, ["a.example", "b.example"]);
            a.join(&ann, &club, a).await.unwrap();
            a.join(&ann, &den, a).await.unwrap();

            // b knows that carol may come in, but has nobody who may let her; a has.
            c.join(&carol, &club, a).await.unwrap();
            eventually("b hears of carol", async || {
                b.membership(&club, &carol).await == Some(Membership::Join)
            })
            .await;
            let unable = make_join(c, b, &den, &carol).await;
            assert_eq!(
                (unable.status.as_u16(), &*unable.errcode),
                (400, "M_UNABLE_TO_GRANT_JOIN")
            );
            let via: [OwnedServerName; 2] = [b.name.clone(), a.name.clone()];
            join::join(&c.fed, &carol, (&*den).into(), &via, Object::new())
                .await
                .unwrap();
            // So for a user of its own, b goes through a, though it is in the room.
            let bea = b.user("bea");
            b.join(&bea, &club, b).await.unwrap();
            eventually("a hears of bea", async || {
                a.membership(&club, &bea).await == Some(Membership::Join)
            })
            .await;
            b.join(&bea, &den, a).await.unwrap();
            eventually("all see bea", async || {
                a.membership(&den, &bea).await == Some(Membership::Join)
                    && c.membership(&den, &bea).await == Some(Membership::Join)
            })
            .await;

            // Of a room that b isn't in, it can't tell who is in there; a can.
            let cellar = a.create(&alice, &RoomVersionId::V12).await;
            rule(a, &alice, &den, join_rule, &[&cellar]).await;
            same_state(a, b, &den).await;
            let dora = c.user("dora");
            let unable = make_join(c, b, &den, &dora).await;
            assert_eq!(unable.errcode, "M_UNABLE_TO_AUTHORISE_JOIN");
            assert_eq!(make_join(c, a, &den, &dora).await.errcode, "M_FORBIDDEN");
            // An invite is as good as ever.
            a.change(&alice, &den, &dora, Action::Invite).await.unwrap();
            eventually("c hears of the invite", async || {
                c.membership(&den, &dora).await == Some(Membership::Invite)
            })
            .await;
            c.join(&dora, &den, a).await.unwrap();
        }
    })
    .await;
}

/// Only who authorised a join in its template signs it: not what strangers write into a join of theirs.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_their_own_letter_of_introduction() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let club = a.create(&alice, &RoomVersionId::V12).await;
        let den = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &club, a).await.unwrap();
        // While the room is open, b gets a template that holds for any join.
        let path = format!("/_matrix/federation/v1/make_join/{den}/{bob}?ver=11");
        let mut event = b.get(a, &path).await.unwrap()["event"].clone();
        rule(a, &alice, &den, "restricted", &[]).await;
        event["content"]["join_authorised_via_users_server"] = json!(alice);
        let rules = rhizome_protocol::RoomRules::named("11").unwrap();
        let key = crate::support::key(2);
        let event = rhizome_protocol::draft::finish(
            rules,
            event.as_object().unwrap().clone(),
            &b.name,
            &key,
        )
        .unwrap();
        let path = format!(
            "/_matrix/federation/v2/send_join/{den}/{}",
            event.event_id()
        );
        let body = serde_json::from_str(event.json()).unwrap();
        let refused = b
            .request(a, http::Method::PUT, &path, Some(body))
            .await
            .unwrap_err();
        assert_eq!(refused.errcode, "M_FORBIDDEN");
        assert_eq!(a.membership(&den, &bob).await, None);
    })
    .await;
}

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

/// Whoever names servers goes through those; who names nobody but us is taken to servers that we know.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_goes_through_the_servers_that_were_named() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, carol) = (a.user("alice"), c.user("carol"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        rule(a, &alice, &room, "public", &[]).await;
        let through = async |via: &[OwnedServerName]| {
            let content = Object::new();
            join::join(&c.fed, &carol, (&*room).into(), via, content).await
        };
        let leaves = async || {
            c.leave(&carol, &room).await.unwrap();
            eventually("the room hears of it", async || {
                a.membership(&room, &carol).await == Some(Membership::Leave)
            })
            .await;
        };
        through(std::slice::from_ref(&a.name)).await.unwrap();
        leaves().await;
        // The other server isn't in the room. That ours was, with one that is, is no way around it.
        let refused = through(std::slice::from_ref(&b.name)).await.unwrap_err();
        assert_eq!(refused.status, 404, "{refused:?}");
        assert_eq!(a.membership(&room, &carol).await, Some(Membership::Leave));
        through(&[b.name.clone(), a.name.clone()]).await.unwrap();
        for nobody in [&[][..], std::slice::from_ref(&c.name)] {
            leaves().await;
            through(nobody).await.unwrap();
        }
        assert_eq!(a.membership(&room, &carol).await, Some(Membership::Join));
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
        world.network.attach(&a.name, a.fed.router().layer(quick));
        let arrived = denial.arrived.clone();
        let hears = middleware::from_fn(move |request: Request, next: Next| {
            if request.uri().path().contains("/send/") {
                arrived.notify_one();
            }
            next.run(request)
        });
        world.network.attach(&b.name, b.fed.router().layer(hears));
        knocks(b, &bob, &room, a).await.unwrap();
        eventually("the knock is over", async || {
            b.membership(&room, &bob).await == Some(Membership::Leave)
        })
        .await;
    })
    .await;
}
