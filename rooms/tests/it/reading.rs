use rhizome_protocol::Membership;
use rhizome_rooms::{membership::Action, read};
use ruma::RoomId;
use serde_json::json;

use crate::rig::*;

async fn visibility(rooms: &rhizome_rooms::Rooms, room: &RoomId, value: &str) {
    let content = json!({ "history_visibility": value });
    set(
        rooms,
        room,
        "@alice:one",
        "m.room.history_visibility",
        "",
        content,
    )
    .await;
}

#[tokio::test]
async fn a_world_readable_room_shows_its_state_to_strangers() {
    each(|[one]: [_; 1]| async move {
        for value in ["world_readable", "shared", "invited", "joined"] {
            let room = public_room(&one, "@alice:one").await;
            visibility(&one, &room, value).await;
            let seen = read::require_can_see_state(&one, uid("@mallory:one"), &room).await;
            assert_eq!(seen.is_ok(), value == "world_readable");
            assert!(
                read::require_joined(&one, uid("@mallory:one"), &room)
                    .await
                    .is_err()
            );
        }
    })
    .await;
}

#[tokio::test]
async fn the_state_of_a_room_for_those_who_left_is_the_one_they_left() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let (alice, bob) = ("@alice:one", "@bob:one");
        changed(&one, &room, bob, bob, Action::Join).await;
        set(
            &one,
            &room,
            alice,
            "m.room.topic",
            "",
            json!({ "topic": "then" }),
        )
        .await;
        changed(&one, &room, bob, bob, Action::Leave).await;
        set(
            &one,
            &room,
            alice,
            "m.room.topic",
            "",
            json!({ "topic": "now" }),
        )
        .await;
        // A ban after the leave doesn't open what came between.
        changed(&one, &room, alice, bob, Action::Ban).await;
        let topic = read::state_event(&one, uid(bob), &room, "m.room.topic", "")
            .await
            .unwrap();
        assert_eq!(topic.pdu.content()["topic"], "then");
        let topic = read::state_event(&one, uid(alice), &room, "m.room.topic", "")
            .await
            .unwrap();
        assert_eq!(topic.pdu.content()["topic"], "now");
        let none = read::state_event(&one, uid(alice), &room, "m.room.topic", "x").await;
        assert_eq!(none.unwrap_err().status(), 404);
        let state = read::state(&one, uid(bob), &room).await.unwrap();
        let own = state
            .iter()
            .find(|event| event.pdu.is_state("m.room.member", bob))
            .unwrap();
        assert_eq!(own.pdu.membership(), Some(Membership::Leave));
        assert!(read::require_joined(&one, uid(bob), &room).await.is_err());
        // Invited, but never there.
        changed(&one, &room, alice, "@carol:one", Action::Invite).await;
        let refused = read::require_can_see_state(&one, uid("@carol:one"), &room).await;
        assert_eq!(refused.unwrap_err().status(), 403);
    })
    .await;
}

#[tokio::test]
async fn other_servers_see_what_their_users_could() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        visibility(&one, &room, "joined").await;
        let before = say(&one, &room, "@alice:one", "before").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let after = say(&one, &room, "@alice:one", "after").await;
        let mut events = Vec::new();
        for id in [&before, &joined, &after] {
            events.push(stored(&one, id).await);
        }
        let seen = read::server_can_see(&one, two.server_name(), &events)
            .await
            .unwrap();
        assert_eq!(seen, [false, true, true]);
        assert!(
            read::server_in_room(&one, &room, two.server_name())
                .await
                .unwrap()
        );
        let three = ruma::server_name!("three");
        assert!(!read::server_in_room(&one, &room, three).await.unwrap());
    })
    .await;
}
