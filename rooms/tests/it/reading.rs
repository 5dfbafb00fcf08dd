use std::sync::Arc;

use rhizome_protocol::Membership;
use rhizome_rooms::{Rooms, access, membership::Action};
use rhizome_storage::StoredEvent;
use ruma::RoomId;
use serde_json::json;

use crate::rig::*;

/// The room's topic as the user may see it.
async fn topic_for(rooms: &Rooms, user: &str, room: &RoomId) -> Arc<StoredEvent> {
    let state = room_for(rooms, user, room).await.unwrap().state;
    let topic = rooms.store().state_event(state, "m.room.topic", "").await;
    topic.unwrap().unwrap()
}

async fn visibility(rooms: &Rooms, room: &RoomId, value: &str) {
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
            let seen = room_for(&one, "@mallory:one", &room).await;
            assert_eq!(seen.is_ok(), value == "world_readable");
            assert!(!seen.is_ok_and(|seen| seen.standing.is_member()));
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
        let topic = topic_for(&one, bob, &room).await;
        assert_eq!(topic.pdu.content()["topic"], "then");
        let topic = topic_for(&one, alice, &room).await;
        assert_eq!(topic.pdu.content()["topic"], "now");
        let seen = room_for(&one, bob, &room).await.unwrap();
        let own = one
            .store()
            .state_event(seen.state, "m.room.member", bob)
            .await;
        assert_eq!(
            own.unwrap().unwrap().pdu.membership(),
            Some(Membership::Leave)
        );
        assert!(!seen.standing.is_member());
        // Invited, but never there.
        changed(&one, &room, alice, "@carol:one", Action::Invite).await;
        let refused = room_for(&one, "@carol:one", &room).await;
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
        let seen = access::events_for_server(one.store(), two.server_name(), &events)
            .await
            .unwrap();
        assert_eq!(seen, [false, true, true]);
        assert!(
            access::server_in_room(one.store(), &room, two.server_name())
                .await
                .unwrap()
        );
        let three = ruma::server_name!("three");
        assert!(
            !access::server_in_room(one.store(), &room, three)
                .await
                .unwrap()
        );
    })
    .await;
}
