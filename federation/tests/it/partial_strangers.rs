//! What others could make of it that not all members of a room are known: come in, keep it so, fill the database.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::StatusCode;
use rhizome_federation::FederationConfig;
use rhizome_protocol::Membership;
use rhizome_rooms::redact_banned::RedactBanned;
use rhizome_storage::{LogWork as _, Pos, Status, Stretch};
use ruma::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    doors::{levels, make_join, rule},
    inbound::newest,
    mean::{Mean, body_answer, json_answer},
    partial::keep_back,
    partial_lies::{Story, becomes, member},
    world::{Server, each_as, each_joining_early, enc, eventually, json_of, same_state},
};

/// How long somebody takes for each answer.
const SLOW: Duration = Duration::from_secs(1);
const GAPS: usize = 12;
const PREVS: usize = 4;

/// A member's server makes gaps, and takes its time for each answer about them.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_about_gaps_keeps_no_room_from_being_completed() {
    let config = FederationConfig {
        request_timeout: 2 * SLOW,
        ..Server::early()
    };
    each_as(3, config, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let (b, carol) = (world.server(1), &story.carol);
        let other = Mean::before(&world, 2);
        keep_back(&other);
        for gap in 0..GAPS {
            let lost = |at: usize| -> OwnedEventId {
                format!("${:A>43}", gap * PREVS + at).try_into().unwrap()
            };
            let prevs: Vec<_> = (0..PREVS).map(lost).collect();
            let rests_on = [&story.carol_is_in];
            let what = ("m.room.message", None);
            let said = json!({ "body": "after a gap" });
            let after = story.forge(&world, carol, &rests_on, &prevs, what, said.clone());
            let after = after.await;
            let missing = json!({ "events": [json_of(&after)] });
            other.says("/get_missing_events/", missing);
            let upon = [after.event_id().to_owned()];
            let last = story.forge(&world, carol, &rests_on, &upon, what, said);
            let last = last.await;
            story.push(&world, &last).await;
            becomes(b, &last, (Status::Accepted, true)).await;
        }
        other.lies("/state_ids/", |_| {
            let late = stream::once(async {
                tokio::time::sleep(SLOW).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))
            });
            Some(body_answer(Body::from_stream(late)))
        });
        story.completes(&world).await;
    })
    .await;
}

/// Who isn't there is let in nowhere else for it.
#[tokio::test(flavor = "multi_thread")]
async fn who_counts_as_being_there_for_a_while_is_let_into_no_other_room() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let (b, c) = (world.server(1), world.server(2));
        let (bob, room) = (b.user("bob"), &story.room);
        let den = b.create(&bob, &RoomVersionId::V11).await;
        rule(b, &bob, &den, "restricted", &[room]).await;
        let join = newest(b, room).await;
        let rests_on = [&story.dora_was_in];
        let what = ("m.room.message", None);
        let said = json!({ "body": "I am here" });
        let said = story
            .forge(&world, &story.dora, &rests_on, &[join], what, said)
            .await;
        story.push(&world, &said).await;
        becomes(b, &said, (Status::Accepted, true)).await;
        let now = b.membership(room, &story.dora).await;
        assert_eq!(now, Some(Membership::Join));
        let refused = make_join(c, b, &den, &story.dora).await;
        assert_eq!(refused.errcode, "M_UNABLE_TO_AUTHORISE_JOIN");
        story.completes(&world).await;
        let refused = make_join(c, b, &den, &story.dora).await;
        assert_eq!(refused.errcode, "M_FORBIDDEN");
        let path = format!(
            "/_matrix/federation/v1/make_join/{}/{}?ver=11",
            enc(&den),
            enc(&story.carol)
        );
        c.get(b, &path).await.unwrap();
    })
    .await;
}

/// An invite by who isn't there lets nobody in.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_invited_by_others_comes_in_by_who_knows_them() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let (a, b) = world.two();
        let (room, ben) = (&story.room, b.user("ben"));
        rule(a, &a.user("alice"), room, "invite", &[]).await;
        let rules = ("m.room.join_rules".to_owned(), String::new());
        eventually("the door is shut", async || {
            let now = b.state(room).await;
            now.get(&rules) == a.state(room).await.get(&rules)
        })
        .await;
        let last = newest(b, room).await;
        let rests_on = [&story.dora_was_in];
        let what = ("m.room.member", Some(ben.as_str()));
        let invite = json!({ "membership": "invite" });
        let invite = story
            .forge(&world, &story.dora, &rests_on, &[last], what, invite)
            .await;
        story.push(&world, &invite).await;
        becomes(b, &invite, (Status::Accepted, true)).await;
        assert_eq!(b.membership(room, &ben).await, Some(Membership::Invite));
        let refused = b.join(&ben, room, a).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(!b.is_complete(room).await);
        story.completes(&world).await;
        assert_ne!(b.membership(room, &ben).await, Some(Membership::Invite));
    })
    .await;
}

/// What the reader of bans does with all that has happened since a position; gives where that ends.
async fn cleaned(server: &Server, after: Pos) -> Pos {
    let store = server.store();
    let upto = store.log().head();
    let stretch = Stretch {
        entries: store.log().read(after, upto, 10_000).await.unwrap(),
        after,
        upto,
        failures: 0,
    };
    let reader = RedactBanned::new(store, server.name.clone());
    reader.work(&stretch).await.unwrap();
    upto
}

/// A ban that takes away what its user has said does so when it is known that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_banned_have_said_goes_when_the_members_are_known() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (room, carol) = (&story.room, &story.carol);
        eventually("bob's server is told what carol says", async || {
            c.membership(room, &b.user("bob")).await == Some(Membership::Join)
        })
        .await;
        let spam = c.say(carol, room, "spam").await;
        for server in [a, b] {
            eventually("it is heard", async || server.event(&spam).await.is_some()).await;
        }
        let ban = json!({ "membership": "ban", "org.matrix.msc4293.redact_events": true });
        let kind = "m.room.member";
        a.send(&a.user("alice"), room, kind, Some(carol.as_str()), ban)
            .await
            .unwrap();
        eventually("carol is banned", async || {
            b.membership(room, carol).await == Some(Membership::Ban)
        })
        .await;
        let is_gone = async || b.event(&spam).await.unwrap().redacted_by.is_some();
        let at = cleaned(b, Pos(0)).await;
        assert!(!is_gone().await);
        story.completes(&world).await;
        cleaned(b, at).await;
        assert!(is_gone().await);
        assert_eq!(b.membership(room, carol).await, Some(Membership::Ban));
    })
    .await;
}

/// A server that is said to be in the room tells of devices of as many users as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_users_of_whom_nothing_is_known() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let (b, c) = (world.server(1), world.server(2));
        let nobody = c.user("nobody");
        let update = json!({ "edu_type": "m.device_list_update", "content": {
            "user_id": nobody, "device_id": "DEVICE", "stream_id": 1, "prev_id": [],
        } });
        c.transaction(b, "devices", &[], &[update]).await;
        assert_eq!(b.store().known_user(&nobody).await.unwrap(), None);
        story.completes(&world).await;
    })
    .await;
}

/// Where it comes to what was told at the join, nobody is believed any more.
#[tokio::test(flavor = "multi_thread")]
async fn only_members_are_taken_of_what_is_told_afterwards() {
    each_joining_early(3, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        let old: Value = json!(a.state(&room).await.into_values().collect::<Vec<_>>());
        levels(a, &alice, &room, json!({ "ban": 70 })).await;
        let ben = a.user("ben");
        a.join(&ben, &room, a).await.unwrap();
        let joined = a.state(&room).await[&member(&ben)].clone();
        let mean = Mean::before(&world, 0);
        let mut told = old;
        told.as_array_mut().unwrap().push(json!(joined));
        mean.lies("/state_ids/", move |_| {
            let told = json!({ "pdu_ids": told, "auth_chain_ids": told });
            Some(json_answer(&told))
        });
        b.join(&bob, &room, a).await.unwrap();
        eventually("all members are known", async || b.is_complete(&room).await).await;
        same_state(a, b, &room).await;
        assert_eq!(b.membership(&room, &ben).await, Some(Membership::Join));
    })
    .await;
}
