//! What servers, and users with a long past, may see.

use rhizome_rooms::{Rooms, access, membership::Action};
use ruma::{OwnedEventId, RoomId};
use serde_json::json;

use crate::rig::*;

const ALICE: &str = "@alice:one";

async fn set_visibility(rooms: &Rooms, room: &RoomId, value: &str) -> OwnedEventId {
    let content = json!({ "history_visibility": value });
    set(rooms, room, ALICE, "m.room.history_visibility", "", content).await
}

/// Which of the events the server `two` may see, one letter each.
async fn shown_to_two(one: &Rooms, ids: &[OwnedEventId]) -> String {
    let mut events = Vec::new();
    for id in ids {
        events.push(stored(one, id).await);
    }
    let two = ruma::server_name!("two");
    let seen = access::events_for_server(one.store(), two, &events).await;
    let letters = seen
        .unwrap()
        .into_iter()
        .map(|seen| if seen { 'x' } else { '-' });
    letters.collect()
}

/// A server that is in the room sees what one of its users could: by each history visibility, and by who of it was
/// there when something was said.
#[tokio::test]
async fn what_a_server_sees_is_what_its_users_could() {
    each(|[one, two]: [_; 2]| async move {
        for (value, expected) in [
            ("world_readable", "xxxxxx"),
            ("shared", "xxxxxx"),
            ("invited", "-xx--x"),
            ("joined", "--x--x"),
        ] {
            let room = public_room(&one, ALICE).await;
            set_visibility(&one, &room, value).await;
            let mut said = vec![say(&one, &room, ALICE, "nobody of it").await];
            changed(&one, &room, ALICE, "@bob:two", Action::Invite).await;
            said.push(say(&one, &room, ALICE, "one is invited").await);
            let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
            said.push(say(&one, &room, ALICE, "one is there").await);
            let gone = changed(&one, &room, ALICE, "@bob:two", Action::Kick).await;
            said.push(say(&one, &room, ALICE, "nobody any more").await);
            changed(&one, &room, ALICE, "@bob:two", Action::Ban).await;
            said.push(say(&one, &room, ALICE, "one is banned").await);
            join_via(&one, &two, &room, "@carol:two").await.unwrap();
            said.push(say(&one, &room, ALICE, "another is there").await);
            assert_eq!(shown_to_two(&one, &said).await, expected, "{value}");
            // What happened to its users is its business.
            assert_eq!(shown_to_two(&one, &[joined, gone]).await, "xx", "{value}");
        }
    })
    .await;
}

/// "The user should be allowed to see the event if the history_visibility before *or* after the event would allow
/// them to see it": so should their servers.
#[tokio::test]
async fn servers_see_changes_of_visibility_from_their_laxer_side() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, ALICE).await;
        set_visibility(&one, &room, "joined").await;
        let opened = set_visibility(&one, &room, "shared").await;
        let closed = set_visibility(&one, &room, "joined").await;
        let stricter = set_visibility(&one, &room, "invited").await;
        let hidden = say(&one, &room, ALICE, "hidden").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let shown = shown_to_two(&one, &[opened, closed, stricter, hidden]).await;
        assert_eq!(shown, "xx--");
    })
    .await;
}

/// However many states a page has, who was in them is read in as many queries.
#[tokio::test]
async fn deciding_for_a_server_costs_no_query_for_each_event() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, ALICE).await;
        set_visibility(&one, &room, "joined").await;
        let mut ids = Vec::new();
        for topic in 0..60 {
            let content = json!({ "topic": topic.to_string() });
            ids.push(set(&one, &room, ALICE, "m.room.topic", "", content).await);
        }
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let cost = async |count: usize| {
            let before = one.store().counters().now();
            assert_eq!(shown_to_two(&one, &ids[..count]).await, "-".repeat(count));
            (one.store().counters().now() - before).queries
        };
        cost(60).await;
        assert_eq!(cost(60).await, cost(10).await);
    })
    .await;
}

/// Whoever was put out, banned and let in again, over and over, has still been there; to a bound.
#[tokio::test]
async fn a_stay_is_found_behind_many_bans() {
    each(|[one]: [_; 1]| async move {
        let (room, bob) = (public_room(&one, ALICE).await, "@bob:one");
        changed(&one, &room, bob, bob, Action::Join).await;
        changed(&one, &room, bob, bob, Action::Leave).await;
        let again = async || {
            changed(&one, &room, ALICE, bob, Action::Ban).await;
            changed(&one, &room, ALICE, bob, Action::Unban).await;
        };
        for _ in 0..9 {
            again().await;
        }
        let seen = room_for(&one, bob, &room).await.unwrap();
        assert!(seen.standing.left_at.is_some() && seen.standing.left_state == Some(seen.state));
        again().await;
        assert!(room_for(&one, bob, &room).await.is_err());
    })
    .await;
}
