//! Invites across servers: taken, rejected, taken back.

use rhizome_protocol::{Membership, Pdu, canonical::parse_object};
use rhizome_rooms::{create::plan::Preset, membership::Action};
use rhizome_storage::RemoteInvite;
use ruma::{RoomVersionId, room_id};
use serde_json::Value;

use crate::world::{ALL_VERSIONS, VERSIONS, each, eventually, same_state};

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_accepted_rejected_or_taken_back() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &ALL_VERSIONS {
            let room = a.create_with(&alice, version, Preset::PrivateChat).await;
            // Uninvited, bob can't come in.
            assert_eq!(
                b.join(&bob, &room, a).await.unwrap_err().errcode,
                "M_FORBIDDEN"
            );

            a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
            assert_eq!(a.membership(&room, &bob).await, Some(Membership::Invite));
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Invite));
            let (user, no) = (
                b.store().known_user(&bob).await.unwrap().unwrap(),
                b.store().known_room(&room).await.unwrap().unwrap(),
            );
            let invite = b.store().remote_invite(user, no).await.unwrap().unwrap();
            assert_eq!(invite.sender, alice);
            assert!(invite.stripped_state.contains("A room"));
            assert!(invite.event.contains("b.example"), "signed by both");

            // Rejected.
            let ended = async || {
                let invite = b.store().ended_remote_invite(user, no).await.unwrap();
                serde_json::from_str::<Value>(&invite.unwrap().event).unwrap()
            };
            b.leave(&bob, &room).await.unwrap();
            assert_eq!(ended().await["sender"], bob.as_str());
            assert_eq!(a.membership(&room, &bob).await, Some(Membership::Leave));
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Leave));
            assert!(b.store().remote_invite(user, no).await.unwrap().is_none());

            // Taken back.
            a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Invite));
            a.change(&alice, &room, &bob, Action::Kick).await.unwrap();
            eventually("the invite is gone", async || {
                b.membership(&room, &bob).await == Some(Membership::Leave)
            })
            .await;
            assert_eq!(ended().await["sender"], alice.as_str());

            // Accepted, without being told through whom.
            a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
            b.join(&bob, &room, b).await.unwrap();
            assert!(b.store().remote_invite(user, no).await.unwrap().is_none());
            same_state(a, b, &room).await;
            // In the room, the next invite of a user of b comes by transaction as well.
            let bea = b.user("bea");
            a.change(&alice, &room, &bea, Action::Invite).await.unwrap();
            eventually("bea is invited", async || {
                b.membership(&room, &bea).await == Some(Membership::Invite)
            })
            .await;
            same_state(a, b, &room).await;
        }
    })
    .await;
}

/// The event that an invite is kept with.
fn pdu_of(invite: &RemoteInvite) -> Pdu {
    let object = parse_object(invite.event.as_bytes()).unwrap();
    Pdu::parse(invite.rules, object).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_invited_takes_an_invite_back() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, anna, bob) = (a.user("alice"), a.user("anna"), b.user("bob"));
        let room = a
            .create_with(&alice, &RoomVersionId::V12, Preset::PrivateChat)
            .await;
        // A room that both are in shows when everything has been sent.
        let shared = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &shared, a).await.unwrap();
        a.change(&alice, &room, &anna, Action::Invite)
            .await
            .unwrap();
        a.join(&anna, &room, a).await.unwrap();
        a.change(&anna, &room, &bob, Action::Invite).await.unwrap();
        // The creator may, but b doesn't know the room's powers.
        a.change(&alice, &room, &bob, Action::Kick).await.unwrap();
        a.say(&alice, &shared, "All is sent").await;
        eventually("what came after has arrived", async || {
            b.heard(&shared).await == ["All is sent"]
        })
        .await;
        assert_eq!(b.membership(&room, &bob).await, Some(Membership::Invite));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_from_a_server_that_is_gone_is_rejected_here() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a
            .create_with(&alice, &RoomVersionId::V12, Preset::PrivateChat)
            .await;
        a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
        world.network.cut(&a.name);
        let (user, no) = (
            b.store().known_user(&bob).await.unwrap().unwrap(),
            b.store().known_room(&room).await.unwrap().unwrap(),
        );
        let invite = b.store().remote_invite(user, no).await.unwrap().unwrap();
        b.leave(&bob, &room).await.unwrap();
        assert_eq!(b.membership(&room, &bob).await, Some(Membership::Leave));
        // By an event of ours that follows the invite.
        let ended = b.store().ended_remote_invite(user, no).await.unwrap();
        let leave = pdu_of(&ended.unwrap());
        assert_eq!(leave.membership(), Some(Membership::Leave));
        assert_eq!(leave.prev_events(), [pdu_of(&invite).event_id().to_owned()]);
        // Leaving what was left is done; what never was, isn't.
        b.leave(&bob, &room).await.unwrap();
        let nowhere = room_id!("!nowhere:a.example");
        assert_eq!(b.leave(&bob, nowhere).await.unwrap_err().status, 404);
        // And inviting to a server that is gone is a bad gateway.
        world.network.cut(&b.name);
        let refused = a
            .change(&alice, &room, &b.user("bea"), Action::Invite)
            .await
            .unwrap_err();
        assert_eq!(refused.status, 502);
        world.network.mend(&a.name);
        world.network.mend(&b.name);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_outlives_the_last_member_of_its_server() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob, bea, ben) = (a.user("alice"), b.user("bob"), b.user("bea"), b.user("ben"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            for invited in [&bea, &ben] {
                a.change(&alice, &room, invited, Action::Invite)
                    .await
                    .unwrap();
                eventually("the invite arrives", async || {
                    b.membership(&room, invited).await == Some(Membership::Invite)
                })
                .await;
            }
            b.leave(&bob, &room).await.unwrap();
            // b isn't in the room any more, but two of its users are invited. One rejects.
            b.leave(&bea, &room).await.unwrap();
            assert_eq!(b.membership(&room, &bea).await, Some(Membership::Leave));
            assert_eq!(a.membership(&room, &bea).await, Some(Membership::Leave));
            // The other does so while a can't be reached.
            world.network.cut(&a.name);
            b.leave(&ben, &room).await.unwrap();
            assert_eq!(b.membership(&room, &ben).await, Some(Membership::Leave));
            world.network.mend(&a.name);
            assert_eq!(a.membership(&room, &ben).await, Some(Membership::Invite));
            // And back in, all is as the room has it.
            b.join(&bob, &room, a).await.unwrap();
            same_state(a, b, &room).await;
            let head = b.store().room(&room).await.unwrap().unwrap();
            assert_eq!((head.joined, head.invited), (2, 1));
        }
    })
    .await;
}
