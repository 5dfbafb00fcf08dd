use std::sync::Arc;

use rhizome_protocol::{
    Membership, Pdu,
    draft::{Draft, Place},
    sign,
};
use rhizome_rooms::{
    Error,
    admit::{self, RemoteJoin},
    create::{self, plan::Preset},
    membership::{self, Action, remote_invite},
    receive::{self, Gathered, Received, packed::Packed},
    send,
};
use rhizome_storage::{Placement, Status};
use ruma::RoomVersionId;
use serde_json::json;

use crate::rig::*;

#[tokio::test]
async fn two_servers_share_a_room_of_each_version() {
    each(|[one, two]: [_; 2]| async move {
        for version in VERSIONS {
            let room = public_room_of(&one, "@alice:one", version).await;
            say(&one, &room, "@alice:one", "before").await;
            let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
            assert_eq!(current(&one, &room).await, current(&two, &room).await);
            assert_eq!(ends(&two, &room).await, [joined.clone()]);
            assert_eq!(stored(&two, &joined).await.placement, Placement::Live);
            let head = two.store().room(&room).await.unwrap().unwrap();
            assert_eq!(head.joined, 2);
            let servers = two.store().joined_servers(head.room).await.unwrap();
            assert_eq!(servers.len(), 2);

            let hers = say(&one, &room, "@alice:one", "hello").await;
            assert_eq!(carry(&one, &two, &hers).await, Received::Accepted);
            assert_eq!(carry(&one, &two, &hers).await, Received::Known);
            let his = say(&two, &room, "@bob:two", "hi").await;
            assert_eq!(carry(&two, &one, &his).await, Received::Accepted);
            let topic = set(
                &one,
                &room,
                "@alice:one",
                "m.room.topic",
                "",
                json!({ "topic": "t" }),
            );
            assert_eq!(carry(&one, &two, &topic.await).await, Received::Accepted);
            assert_eq!(current(&one, &room).await, current(&two, &room).await);
            assert_eq!(ends(&one, &room).await, ends(&two, &room).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_user_and_a_return() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        // Carol's server is in the room, but she takes the other door.
        join_via(&one, &two, &room, "@carol:two").await.unwrap();
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
        for who in ["@bob:two", "@carol:two"] {
            let left = changed(&two, &room, who, who, Action::Leave).await;
            assert_eq!(carry(&two, &one, &left).await, Received::Accepted);
        }
        // The room goes on without them.
        set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "gone" }),
        )
        .await;
        changed(&one, &room, "@dave:one", "@dave:one", Action::Join).await;
        let again = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
        assert_eq!(ends(&two, &room).await, [again]);
        let dave = two.store().user_no(uid("@dave:one")).await.unwrap();
        let head = two.store().room(&room).await.unwrap().unwrap();
        let row = two
            .store()
            .membership(dave, head.room)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.membership, Membership::Join);
        let hers = say(&one, &room, "@alice:one", "welcome back").await;
        assert_eq!(carry(&one, &two, &hers).await, Received::Accepted);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_makes_no_room_is_refused() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room_of(&one, "@alice:one", "11").await;
        let bob = user("@bob:two");
        let template = admit::template(&one, &room, &bob, Membership::Join, &[])
            .await
            .unwrap();
        let event = rhizome_protocol::draft::finish(
            template.rules,
            template.event,
            two.server_name(),
            two.key(),
        );
        let event = Arc::new(event.unwrap());
        let admitted = admit::admit_signed(&one, event.clone()).await.unwrap();
        let (state, chain) = told_before(&one, &admitted).await;
        let answer = |state: &[Arc<Pdu>], chain: &[Arc<Pdu>]| RemoteJoin {
            rules: template.rules,
            given: Packed::of(template.rules, &room, state, chain),
            event: event.clone(),
            without_members: None,
        };
        let without = |kind: &str| {
            let mut state = state.clone();
            state.retain(|pdu| !pdu.is_state(kind, ""));
            state
        };
        let headless = answer(&without("m.room.create"), &chain);
        let refused = admit::adopt(&two, headless).await.unwrap_err();
        assert!(matches!(refused, Error::BadState(_)), "{refused}");

        let gappy = answer(&without("m.room.power_levels"), &[]);
        let refused = admit::adopt(&two, gappy).await.unwrap_err();
        assert!(matches!(refused, Error::Forbidden(_)), "{refused}");

        let closed = answer(&without("m.room.join_rules"), &chain);
        let refused = admit::adopt(&two, closed).await.unwrap_err();
        assert!(matches!(refused, Error::Forbidden(_)), "{refused}");
        assert!(
            room_for(&two, bob.as_str(), &room).await.is_err(),
            "what was stored on the way is no room yet"
        );

        admit::adopt(&two, answer(&state, &chain)).await.unwrap();
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
    })
    .await;
}

#[tokio::test]
async fn the_door_is_closed_to_the_banned_and_the_incompatible() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room_of(&one, "@alice:one", "11").await;
        let bob = user("@bob:two");
        let old = [RoomVersionId::V9, RoomVersionId::V10];
        let refused = admit::template(&one, &room, &bob, Membership::Join, &old)
            .await
            .unwrap_err();
        assert_eq!(
            (refused.status(), refused.errcode()),
            (400, "M_INCOMPATIBLE_ROOM_VERSION")
        );
        let never = admit::template(&one, &room, &bob, Membership::Leave, &[])
            .await
            .unwrap_err();
        assert_eq!(never.status(), 403);
        changed(&one, &room, "@alice:one", "@bob:two", Action::Ban).await;
        let banned = join_via(&one, &two, &room, "@bob:two").await.unwrap_err();
        assert_eq!((banned.status(), banned.errcode()), (403, "M_FORBIDDEN"));
        // Not even with a template from before the ban.
        changed(&one, &room, "@alice:one", "@bob:two", Action::Unban).await;
        let template = admit::template(&one, &room, &bob, Membership::Join, &[])
            .await
            .unwrap();
        changed(&one, &room, "@alice:one", "@bob:two", Action::Ban).await;
        let event = rhizome_protocol::draft::finish(
            template.rules,
            template.event,
            two.server_name(),
            two.key(),
        );
        let late = admit::admit_signed(&one, Arc::new(event.unwrap()))
            .await
            .unwrap_err();
        assert_eq!(late.status(), 403);
    })
    .await;
}

#[tokio::test]
async fn an_invite_goes_to_another_server_and_is_answered() {
    each(|[one, two]: [_; 2]| async move {
        for version in ["1", "3", "11", "12"] {
            let mut request = request("@alice:one", version, Preset::PrivateChat);
            request.invite = vec![user("@bob:two")];
            let created = create::create(&one, &request).await.unwrap();
            let room = created.room_id;
            let draft = &created.remote_invites[0];
            let pdu = send::prepare(&one, draft).await.unwrap();
            let signed = sign::countersign(&pdu, two.server_name(), two.key()).unwrap();
            remote_invite::keep(&two, &signed, "[]".into())
                .await
                .unwrap();
            let now = membership::current(&two, &room, uid("@bob:two"))
                .await
                .unwrap();
            assert_eq!(now, Some(Membership::Invite));
            let admitted = admit::admit_signed(&one, Arc::new(signed)).await.unwrap();
            assert_eq!(admitted.status, Status::Accepted);
            assert!(
                content(&one, &room, "m.room.member", "@bob:two")
                    .await
                    .is_some()
            );

            join_via(&one, &two, &room, "@bob:two").await.unwrap();
            assert_eq!(current(&one, &room).await, current(&two, &room).await);
            let bob = two.store().user_no(uid("@bob:two")).await.unwrap();
            let head = two.store().room(&room).await.unwrap().unwrap();
            assert!(
                two.store()
                    .remote_invite(bob, head.room)
                    .await
                    .unwrap()
                    .is_none()
            );
            let now = membership::current(&two, &room, uid("@bob:two"))
                .await
                .unwrap();
            assert_eq!(now, Some(Membership::Join));
        }

        // One that is declined: the other server takes the leave.
        let mut request = request("@alice:one", "12", Preset::PrivateChat);
        request.invite = vec![user("@bob:two")];
        let created = create::create(&one, &request).await.unwrap();
        let room = created.room_id;
        let pdu = send::prepare(&one, &created.remote_invites[0])
            .await
            .unwrap();
        let signed = sign::countersign(&pdu, two.server_name(), two.key()).unwrap();
        remote_invite::keep(&two, &signed, "[]".into())
            .await
            .unwrap();
        admit::admit_signed(&one, Arc::new(signed)).await.unwrap();
        let bob = user("@bob:two");
        let template = admit::template(&one, &room, &bob, Membership::Leave, &[])
            .await
            .unwrap();
        let leave = rhizome_protocol::draft::finish(
            template.rules,
            template.event,
            two.server_name(),
            two.key(),
        );
        let leave = Arc::new(leave.unwrap());
        admit::admit_signed(&one, leave.clone()).await.unwrap();
        remote_invite::end(&two, &leave).await.unwrap();
        let now = membership::current(&two, &room, &bob).await.unwrap();
        assert_eq!(now, Some(Membership::Leave));
        let now = membership::current(&one, &room, &bob).await.unwrap();
        assert_eq!(now, Some(Membership::Leave));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_allowed_is_kept_with_the_reason_and_not_shown() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let tip = pdu(&one, &joined).await;
        let grab = state(
            &room,
            "@bob:two",
            "m.room.topic",
            "",
            json!({ "topic": "mine" }),
        );
        let auth = auth_of(&two, &room, &grab).await;
        let grab = forged(&two, &grab, &[tip], &auth, 1);
        let at = one.store().log().head();
        let outcome = receive::receive(&one, grab.clone(), &Gathered::default())
            .await
            .unwrap();
        assert!(matches!(outcome, Received::Rejected(_)), "{outcome:?}");
        assert_eq!(one.store().log().head(), at, "nobody is told");
        let kept = stored(&one, grab.event_id()).await;
        assert_eq!(kept.status, Status::Rejected);
        assert!(kept.reason.is_some());
        assert_eq!(content(&one, &room, "m.room.topic", "").await, None);
        assert_eq!(ends(&one, &room).await, [joined.clone()]);

        // Later events may follow it.
        let after = message(&room, "@bob:two", "sorry");
        let auth = auth_of(&two, &room, &after).await;
        let after = forged(&two, &after, &[grab.clone()], &auth, 2);
        let outcome = receive::receive(&one, after.clone(), &Gathered::default())
            .await
            .unwrap();
        assert_eq!(outcome, Received::Accepted);
        assert_eq!(
            ends(&one, &room).await,
            [after.event_id().to_owned()],
            "through the rejected"
        );

        // But none may be allowed by it.
        let claim = message(&room, "@bob:two", "by my topic");
        let mut auth = auth_of(&two, &room, &claim).await;
        auth.push(grab);
        let claim = forged(&two, &claim, &[after], &auth, 3);
        let outcome = receive::receive(&one, claim, &Gathered::default())
            .await
            .unwrap();
        assert!(matches!(outcome, Received::Rejected(_)), "{outcome:?}");
        // The room lives.
        say(&one, &room, "@alice:one", "still here").await;
    })
    .await;
}

#[tokio::test]
async fn a_redaction_may_come_before_its_target() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let target = say(&one, &room, "@alice:one", "secret").await;
        // A fork that doesn't descend from the target, so that it can arrive first.
        let tip = pdu(&one, &pdu(&one, &target).await.prev_events()[0]).await;
        let redaction = Draft {
            kind: "m.room.redaction".into(),
            content: object(json!({})),
            redacts: Some(target.clone()),
            ..message(&room, "@alice:one", "")
        };
        let auth = auth_of(&one, &room, &redaction).await;
        let redaction = forged(&one, &redaction, &[tip], &auth, 5);
        let outcome = receive::receive(&two, redaction, &Gathered::default())
            .await
            .unwrap();
        assert_eq!(outcome, Received::Accepted);
        assert_eq!(carry(&one, &two, &target).await, Received::Accepted);
        let event = stored(&two, &target).await;
        assert!(event.pdu.content().is_empty(), "{:?}", event.pdu.content());
        assert!(event.redacted_by.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_second_beginning_is_refused() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room_of(&one, "@alice:one", "11").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let tip = pdu(&one, &joined).await;
        let draft = Draft {
            sender: user("@alice:one"),
            ..state(
                &room,
                "@alice:one",
                "m.room.create",
                "",
                json!({ "room_version": "11" }),
            )
        };
        let place = Place {
            prev_events: vec![],
            auth_events: vec![],
            depth: 1,
            origin_server_ts: 77,
            ..Place::default()
        };
        let second = rhizome_protocol::draft::build(
            tip.rules(),
            &draft,
            &place,
            one.server_name(),
            one.key(),
        );
        let second = Arc::new(second.unwrap());
        let outcome = receive::receive(&two, second, &Gathered::default())
            .await
            .unwrap();
        assert!(matches!(outcome, Received::Rejected(_)), "{outcome:?}");
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
    })
    .await;
}
