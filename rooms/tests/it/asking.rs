//! What local users may ask of a room, and what they may not.

use rhizome_protocol::draft::Draft;
use rhizome_rooms::{
    Error, Rooms,
    membership::Action,
    send::{self, SendOptions},
};
use ruma::OwnedEventId;
use serde_json::json;

use crate::rig::*;

async fn refused(rooms: &Rooms, draft: Draft) -> Error {
    send::send(rooms, draft, SendOptions::default())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_may_not_be_sent_is_refused_with_a_reason() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let at = one.store().log().head();
        let stranger = refused(&one, message(&room, "@mallory:one", "hi")).await;
        assert_eq!(
            (stranger.status(), stranger.errcode()),
            (403, "M_FORBIDDEN")
        );
        let unknown: ruma::OwnedRoomId = "!nowhere:one".try_into().unwrap();
        let nowhere = refused(&one, message(&unknown, "@alice:one", "hi")).await;
        assert_eq!(nowhere.status(), 404);
        let foreign = refused(&one, message(&room, "@alice:two", "hi")).await;
        assert_eq!(foreign.status(), 403);
        let second = state(&room, "@alice:one", "m.room.create", "", json!({}));
        assert_eq!(refused(&one, second).await.status(), 400);

        let mut huge = message(&room, "@alice:one", "");
        huge.content
            .insert("body".into(), "x".repeat(65_536).into());
        let huge = refused(&one, huge).await;
        assert_eq!((huge.status(), huge.errcode()), (413, "M_TOO_LARGE"));
        let mut long = message(&room, "@alice:one", "");
        long.kind = "k".repeat(256);
        assert_eq!(refused(&one, long).await.status(), 413);
        for number in [json!(1.5), json!(9_007_199_254_740_992_i64), json!(1e300)] {
            let mut odd = message(&room, "@alice:one", "");
            odd.content.insert("n".into(), number);
            let odd = refused(&one, odd).await;
            assert_eq!((odd.status(), odd.errcode()), (400, "M_BAD_JSON"));
        }
        assert_eq!(one.store().log().head(), at, "nothing was stored");

        // Strange but allowed: stored as it is.
        let strange = "\u{0}\u{1f600}\u{202e}\u{fffd}\\u0000";
        let mut odd = message(&room, "@alice:one", strange);
        odd.kind = format!("t{strange}");
        let id = sent(&one, odd).await;
        assert_eq!(stored(&one, &id).await.pdu.content()["body"], strange);
        let mut odd = state(
            &room,
            "@alice:one",
            "s",
            strange,
            json!({ strange: [strange] }),
        );
        odd.kind = format!("s{strange}");
        let id = sent(&one, odd).await;
        let read = server(one.store().clone(), 0);
        assert_eq!(pdu(&read, &id).await.state_key(), Some(strange));
    })
    .await;
}

#[tokio::test]
async fn memberships_change_as_asked_or_say_why_not() {
    each(|[one]: [_; 1]| async move {
        let room = public_room_of(&one, "@alice:one", "11").await;
        let alice = "@alice:one";
        let bob = "@bob:one";
        changed(&one, &room, alice, bob, Action::Invite).await;
        changed(&one, &room, bob, bob, Action::Join).await;
        let again = change(&one, &room, alice, bob, Action::Invite)
            .await
            .unwrap_err();
        assert_eq!(again.status(), 403);
        let lowly = change(&one, &room, bob, alice, Action::Kick)
            .await
            .unwrap_err();
        assert!(matches!(lowly, Error::Forbidden(_)), "{lowly}");
        changed(&one, &room, alice, bob, Action::Kick).await;
        let gone = change(&one, &room, alice, bob, Action::Kick)
            .await
            .unwrap_err();
        assert_eq!(gone.status(), 403);
        changed(&one, &room, alice, bob, Action::Ban).await;
        let banned = change(&one, &room, bob, bob, Action::Join)
            .await
            .unwrap_err();
        assert_eq!(banned.status(), 403);
        changed(&one, &room, alice, bob, Action::Unban).await;
        assert!(
            change(&one, &room, alice, bob, Action::Unban)
                .await
                .is_err()
        );
        changed(&one, &room, bob, bob, Action::Join).await;
        let early = rhizome_rooms::membership::forget(&one, &room, uid(bob))
            .await
            .unwrap_err();
        assert_eq!(early.status(), 400);
        changed(&one, &room, bob, bob, Action::Leave).await;
        assert!(
            change(&one, &room, bob, bob, Action::Leave)
                .await
                .unwrap()
                .is_none()
        );
        rhizome_rooms::membership::forget(&one, &room, uid(bob))
            .await
            .unwrap();
        let now = rhizome_rooms::membership::current(&one, &room, uid(bob))
            .await
            .unwrap();
        assert_eq!(now, Some(rhizome_protocol::Membership::Leave));
    })
    .await;
}

#[tokio::test]
async fn a_redaction_empties_its_target_if_the_sender_may() {
    each(|[one]: [_; 1]| async move {
        for version in VERSIONS {
            let room = public_room_of(&one, "@alice:one", version).await;
            changed(&one, &room, "@bob:one", "@bob:one", Action::Join).await;
            let of_alice = say(&one, &room, "@alice:one", "hers").await;
            let of_bob = say(&one, &room, "@bob:one", "his").await;
            let redaction = |sender: &str, target: &OwnedEventId| Draft {
                kind: "m.room.redaction".into(),
                content: object(json!({ "reason": "tidy" })),
                redacts: Some(target.clone()),
                ..message(&room, sender, "")
            };
            let not_his = refused(&one, redaction("@bob:one", &of_alice)).await;
            assert_eq!(not_his.status(), 403);
            sent(&one, redaction("@bob:one", &of_bob)).await;
            sent(&one, redaction("@alice:one", &of_alice)).await;
            for id in [&of_alice, &of_bob] {
                let event = stored(&one, id).await;
                assert!(event.pdu.content().is_empty());
                assert!(event.redacted_by.is_some());
                assert_eq!(event.pdu.event_id(), id);
            }
            let create = log_of(&one, &room).await[0].event_id().to_owned();
            assert_eq!(
                refused(&one, redaction("@alice:one", &create))
                    .await
                    .status(),
                403
            );
        }
    })
    .await;
}
