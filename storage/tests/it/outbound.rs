//! What waits for a server that is away, and what of it is enough.

use rhizome_storage::testing::each_database;
use rhizome_storage::{DestinationState, Fact, Pos, Sticky, Store, WriteSet};
use ruma::{EventId, ServerName, server_name};
use serde_json::json;

use crate::factory::Room;

async fn pos_of(room: &Room, id: &EventId) -> Pos {
    let stored = room.store.event(id).await.unwrap();
    stored.unwrap().pos().unwrap()
}

/// A message to these servers. Gives where it stands.
async fn say(room: &Room, text: &str, to: &[&ServerName]) -> Pos {
    let pdu = room.message(text).await;
    let mut write = room.write_of(pdu.clone(), None).await;
    write.events[0].send_to = Some(to.iter().map(|name| (*name).to_owned()).collect());
    room.commit(write).await.unwrap();
    pos_of(room, pdu.event_id()).await
}

/// The same, and it is sticky until then.
async fn stick(room: &Room, to: &[&ServerName], expires_ms: i64) -> Pos {
    let content = json!({"body": "sticky", "msgtype": "m.text"});
    let pdu = room
        .event(&room.alice, "m.room.message", None, content)
        .await;
    let mut write = room.write_of(pdu.clone(), None).await;
    write.events[0].send_to = Some(to.iter().map(|name| (*name).to_owned()).collect());
    let event = write.events[0].no;
    room.commit(write).await.unwrap();
    let sender = room.store.user_no(&room.alice).await.unwrap();
    let sticky = Fact::from(Sticky {
        event,
        room: room.no,
        sender,
        expires_ms,
        allowed: true,
    });
    room.store
        .commit(WriteSet::from(vec![sticky]))
        .await
        .unwrap();
    pos_of(room, pdu.event_id()).await
}

#[tokio::test]
async fn of_what_waits_the_newest_of_each_room_is_found_and_what_is_not_to_be_missed() {
    each_database(|store: Store| async move {
        let (one, two) = (server_name!("one.example"), server_name!("two.example"));
        let a = Room::new(&store, "a").await;
        let b = Room::new(&store, "b").await;
        let now = store.clock().now_ms();
        let first = say(&a, "first", &[one, two]).await;
        let second = say(&b, "second", &[one]).await;
        let third = say(&a, "third", &[one]).await;
        let fourth = say(&a, "fourth", &[two]).await;
        let fifth = stick(&b, &[one], now + 3_600_000).await;
        let sixth = stick(&b, &[one, two], now - 1).await;
        let seventh = say(&b, "seventh", &[one]).await;
        let head = store.log().head();

        let newest = async |server, after, upto| -> Vec<Pos> {
            let found = store.outbound_newest(server, (after, upto)).await.unwrap();
            found.into_iter().map(|newest| newest.pos).collect()
        };
        assert_eq!(newest(one, Pos(0), head).await, [third, seventh]);
        assert_eq!(newest(two, Pos(0), head).await, [fourth, sixth]);
        assert_eq!(newest(one, third, head).await, [seventh]);
        assert_eq!(newest(one, Pos(0), sixth).await, [third, sixth]);
        assert_eq!(newest(one, Pos(0), first).await, [first]);
        assert!(newest(one, head, head).await.is_empty());
        assert!(newest(server_name!("three"), Pos(0), head).await.is_empty());
        let found = store.outbound_newest(one, (Pos(0), head)).await.unwrap();
        assert_eq!((found[0].room, found[1].room), (a.no, b.no));
        assert_eq!((found[0].waiting, found[1].waiting), (2, 4));
        let event = store.event_by_no(found[1].event).await.unwrap().unwrap();
        assert_eq!(event.pdu.content()["body"], "seventh");

        let stays = async |server, after, rooms: &[_]| -> Vec<Pos> {
            let found = store
                .outbound_that_stays(server, (after, head), rooms)
                .await;
            found.unwrap().into_iter().map(|(pos, ..)| pos).collect()
        };
        assert_eq!(stays(one, Pos(0), &[]).await, [fifth]);
        assert!(stays(two, Pos(0), &[]).await.is_empty());
        assert!(stays(one, fifth, &[]).await.is_empty());
        assert_eq!(stays(one, Pos(0), &[a.no]).await, [first, third, fifth]);

        let at = store.outbound_at(one, &[first, second, fourth]).await;
        let at: Vec<Pos> = at.unwrap().into_iter().map(|(pos, ..)| pos).collect();
        assert_eq!(at, [first, second]);
        assert!(store.outbound_at(one, &[]).await.unwrap().is_empty());

        let count = async |server, after, most| {
            let span = (after, head);
            store.outbound_count(server, span, most).await.unwrap()
        };
        assert_eq!(count(one, Pos(0), 99).await, 6);
        assert_eq!(count(one, Pos(0), 4).await, 4);
        assert_eq!(count(two, first, 99).await, 2);
        assert_eq!(count(server_name!("three"), Pos(0), 99).await, 0);
    })
    .await;
}

/// The first that waits, what waits in one room, and a room's history with who waits in it.
#[tokio::test]
async fn what_waits_is_found_from_its_beginning_by_room_and_among_what_others_said() {
    each_database(|store: Store| async move {
        let (one, two) = (server_name!("one.example"), server_name!("two.example"));
        let a = Room::new(&store, "a").await;
        let b = Room::new(&store, "b").await;
        let first = say(&a, "first", &[two]).await;
        let second = say(&b, "second", &[one]).await;
        let third = say(&a, "third", &[one, two]).await;
        let fourth = say(&a, "fourth", &[]).await;
        let fifth = say(&a, "fifth", &[one]).await;
        let head = store.log().head();

        let next = async |server, after, upto| {
            let found = store.outbound_first(server, (after, upto)).await.unwrap();
            found.map(|event| event.pos().unwrap())
        };
        assert_eq!(next(one, Pos(0), head).await, Some(second));
        assert_eq!(next(two, Pos(0), head).await, Some(first));
        assert_eq!(next(one, second, head).await, Some(third));
        assert_eq!(next(one, third, fourth).await, None);
        assert_eq!(next(one, fifth, head).await, None);
        assert_eq!(next(server_name!("three"), Pos(0), head).await, None);

        let of_a = async |server, after, upto, limit| -> Vec<Pos> {
            let span = (after, upto);
            let found = store.outbound_of_room(server, a.no, span, limit).await;
            found.unwrap().into_iter().map(|(pos, ..)| pos).collect()
        };
        assert_eq!(of_a(one, Pos(0), head, 9).await, [third, fifth]);
        assert_eq!(of_a(one, Pos(0), head, 1).await, [third]);
        assert_eq!(of_a(one, third, head, 9).await, [fifth]);
        assert_eq!(of_a(two, Pos(0), third, 9).await, [first, third]);

        let walk = async |after, upto, limit| -> Vec<(Pos, bool)> {
            let found = store.outbound_walk(one, a.no, (after, upto), limit).await;
            let found = found.unwrap().into_iter();
            found.map(|event| (event.pos, event.waits)).collect()
        };
        let expected = [(fifth, true), (fourth, false), (third, true)];
        assert_eq!(walk(first, head, 9).await, expected);
        assert_eq!(walk(first, fourth, 1).await, expected[1..2]);
        assert_eq!(walk(Pos(0), head, 4).await[3], (first, false));
    })
    .await;
}

/// Over a restart, too, it is known where a run ends and how far it has come.
#[tokio::test]
async fn where_a_run_ends_and_how_far_it_has_come_is_kept_and_does_not_go_back() {
    each_database(|store: Store| async move {
        let there = server_name!("there.example");
        let put = async |sent, newest, come| {
            let state = DestinationState {
                sent: Pos(sent),
                newest: Pos(newest),
                come: Pos(come),
                ..DestinationState::default()
            };
            let states = [(there.to_owned(), state)];
            store.store_destination_states(&states).await.unwrap();
            let state = store.destination_state(there).await.unwrap();
            (state.sent.0, state.newest.0, state.come.0)
        };
        assert_eq!(put(1, 0, 0).await, (1, 0, 0));
        assert_eq!(put(2, 9, 4).await, (2, 9, 4));
        assert_eq!(put(7, 8, 3).await, (7, 9, 4));
        assert_eq!(put(7, 12, 11).await, (7, 12, 11));
    })
    .await;
}
