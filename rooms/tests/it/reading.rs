use std::sync::Arc;

use rhizome_protocol::Membership;
use rhizome_rooms::{
    Rooms,
    membership::Action,
    read::{self, From, PageRequest},
};
use rhizome_storage::Direction;
use ruma::{OwnedEventId, RoomId};
use serde_json::json;

use crate::rig::*;

/// Which of the events the user may see, one letter each.
async fn sees(rooms: &Rooms, who: &str, events: &[OwnedEventId]) -> String {
    let mut loaded = Vec::new();
    for id in events {
        loaded.push(stored(rooms, id).await);
    }
    let seen = read::visible(rooms, uid(who), &loaded).await.unwrap();
    seen.into_iter()
        .map(|seen| if seen { 'x' } else { '-' })
        .collect()
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

/// Bob is invited, joins, leaves, is banned; Mallory never comes. One message at each moment.
async fn tell(one: &Rooms, room: &RoomId) -> Vec<OwnedEventId> {
    let mut said = Vec::new();
    said.push(say(one, room, "@alice:one", "before").await);
    changed(one, room, "@alice:one", "@bob:one", Action::Invite).await;
    said.push(say(one, room, "@alice:one", "while invited").await);
    changed(one, room, "@bob:one", "@bob:one", Action::Join).await;
    said.push(say(one, room, "@alice:one", "while joined").await);
    changed(one, room, "@bob:one", "@bob:one", Action::Leave).await;
    said.push(say(one, room, "@alice:one", "after").await);
    changed(one, room, "@alice:one", "@bob:one", Action::Ban).await;
    said.push(say(one, room, "@alice:one", "after the ban").await);
    said
}

#[tokio::test]
async fn who_sees_what_under_each_visibility() {
    each(|[one]: [_; 1]| async move {
        for (value, bob, mallory) in [
            ("world_readable", "xxxxx", "xxxxx"),
            ("shared", "xxx--", "-----"),
            ("invited", "-xx--", "-----"),
            ("joined", "--x--", "-----"),
        ] {
            let room = public_room(&one, "@alice:one").await;
            visibility(&one, &room, value).await;
            let said = tell(&one, &room).await;
            assert_eq!(sees(&one, "@alice:one", &said).await, "xxxxx", "{value}");
            assert_eq!(sees(&one, "@bob:one", &said).await, bob, "{value}");
            assert_eq!(sees(&one, "@mallory:one", &said).await, mallory, "{value}");

            let seen = read::require_can_see_state(&one, uid("@mallory:one"), &room).await;
            assert_eq!(seen.is_ok(), value == "world_readable");
            let event = read::event(&one, uid("@mallory:one"), &room, &said[2]).await;
            assert_eq!(event.is_ok(), value == "world_readable");
        }
    })
    .await;
}

#[tokio::test]
async fn those_who_return_see_what_their_time_allows() {
    each(|[one]: [_; 1]| async move {
        for (value, bob) in [("shared", "xxxx"), ("joined", "-x-x")] {
            let room = public_room(&one, "@alice:one").await;
            visibility(&one, &room, value).await;
            let mut said = vec![say(&one, &room, "@alice:one", "before").await];
            changed(&one, &room, "@bob:one", "@bob:one", Action::Join).await;
            said.push(say(&one, &room, "@alice:one", "there").await);
            changed(&one, &room, "@bob:one", "@bob:one", Action::Leave).await;
            said.push(say(&one, &room, "@alice:one", "away").await);
            changed(&one, &room, "@bob:one", "@bob:one", Action::Join).await;
            said.push(say(&one, &room, "@alice:one", "back").await);
            assert_eq!(sees(&one, "@bob:one", &said).await, bob, "{value}");
        }
    })
    .await;
}

#[tokio::test]
async fn one_sees_ones_own_coming_and_going_and_changes_of_visibility() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        visibility(&one, &room, "joined").await;
        let joined = changed(&one, &room, "@bob:one", "@bob:one", Action::Join).await;
        let kicked = changed(&one, &room, "@alice:one", "@bob:one", Action::Kick).await;
        let opened = json!({ "history_visibility": "world_readable" });
        let kind = "m.room.history_visibility";
        let opened = set(&one, &room, "@alice:one", kind, "", opened).await;
        let closed = json!({ "history_visibility": "joined" });
        let closed = set(&one, &room, "@alice:one", kind, "", closed).await;
        let hidden = say(&one, &room, "@alice:one", "hidden").await;
        let events = [joined, kicked, opened, closed, hidden];
        assert_eq!(sees(&one, "@bob:one", &events).await, "xxxx-");
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
        assert!(read::joined_members(&one, uid(bob), &room).await.is_err());
        assert_eq!(
            read::joined_members(&one, uid(alice), &room)
                .await
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            read::members(&one, uid(alice), &room, None)
                .await
                .unwrap()
                .len(),
            2
        );
        // Invited, but never there.
        changed(&one, &room, alice, "@carol:one", Action::Invite).await;
        let refused = read::require_can_see_state(&one, uid("@carol:one"), &room).await;
        assert_eq!(refused.unwrap_err().status(), 403);
    })
    .await;
}

fn bodies(events: &[Arc<rhizome_storage::StoredEvent>]) -> Vec<String> {
    events
        .iter()
        .map(|event| event.pdu.content()["body"].as_str().unwrap().into())
        .collect()
}

#[tokio::test]
async fn pages_go_both_ways_and_meet() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let mut said = Vec::new();
        for turn in 0..25 {
            said.push(say(&one, &room, "@alice:one", &format!("{turn}")).await);
        }
        let middle = one
            .store()
            .event(&said[10])
            .await
            .unwrap()
            .unwrap()
            .pos()
            .unwrap();
        let only_messages =
            |event: &rhizome_storage::StoredEvent| event.pdu.kind() == "m.room.message";
        let request = |from, direction, limit| PageRequest {
            from,
            to: None,
            direction,
            limit,
            filter: &only_messages,
        };
        let alice = uid("@alice:one");
        // Back from a sync token: only what that reader had seen.
        let back = request(From::Pos(middle), Direction::Backward, 3);
        let back = read::messages(&one, alice, &room, back).await.unwrap();
        assert_eq!(bodies(&back.events), ["10", "9", "8"]);
        let more = request(From::Token(back.end.unwrap()), Direction::Backward, 3);
        let more = read::messages(&one, alice, &room, more).await.unwrap();
        assert_eq!(bodies(&more.events), ["7", "6", "5"]);
        // Forward from the same place: no overlap.
        let forth = request(From::Pos(middle), Direction::Forward, 3);
        let forth = read::messages(&one, alice, &room, forth).await.unwrap();
        assert_eq!(bodies(&forth.events), ["11", "12", "13"]);
        let again = request(From::Token(back.end.unwrap()), Direction::Forward, 3);
        let again = read::messages(&one, alice, &room, again).await.unwrap();
        assert_eq!(bodies(&again.events), ["8", "9", "10"]);
        // Up to a token.
        let mut upto = request(From::End, Direction::Backward, 100);
        upto.to = Some(forth.end.unwrap());
        let upto = read::messages(&one, alice, &room, upto).await.unwrap();
        assert_eq!(bodies(&upto.events).last().unwrap(), "14");
        assert_eq!(upto.events.len(), 11);
        // To the very beginning.
        let all = request(From::End, Direction::Backward, 1_000);
        let all = read::messages(&one, alice, &room, all).await.unwrap();
        assert_eq!((all.events.len(), all.end), (25, None));

        let context = read::context(&one, alice, &room, &said[10], 6, &only_messages)
            .await
            .unwrap();
        assert_eq!(bodies(&context.before), ["9", "8", "7"]);
        assert_eq!(bodies(&context.after), ["11", "12", "13"]);
        let on = request(From::Token(context.end), Direction::Forward, 2);
        let on = read::messages(&one, alice, &room, on).await.unwrap();
        assert_eq!(bodies(&on.events), ["14", "15"]);
        let on = request(From::Token(context.start), Direction::Backward, 2);
        let on = read::messages(&one, alice, &room, on).await.unwrap();
        assert_eq!(bodies(&on.events), ["6", "5"]);
    })
    .await;
}

#[tokio::test]
async fn members_as_they_stood_at_a_token() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let then = one.store().log().head();
        changed(&one, &room, "@bob:one", "@bob:one", Action::Join).await;
        let alice = uid("@alice:one");
        let then = read::members(&one, alice, &room, Some(From::Pos(then)))
            .await
            .unwrap();
        assert_eq!(then.len(), 1);
        assert_eq!(
            read::members(&one, alice, &room, None).await.unwrap().len(),
            2
        );
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
