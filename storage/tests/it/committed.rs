//! What a room's head and indexes say after commits.

use std::sync::Arc;

use rhizome_protocol::{Membership, Pdu};
use rhizome_storage::testing::each_database;
use rhizome_storage::{
    DestinationState, Direction, Fact, Forgotten, HistoryToken, NewEvent, Placement, Pos,
    RoomWrite, WriteSet,
};
use ruma::{OwnedEventId, server_name};
use serde_json::json;

use crate::factory::{Event, Room};

/// A message of Bob's, of another server.
fn of_bob(room: &Room, prevs: Vec<OwnedEventId>, depth: i64, body: i64) -> Arc<Pdu> {
    Event {
        room: &room.id,
        sender: ruma::user_id!("@bob:there.example"),
        kind: "m.room.message",
        state_key: None,
        content: json!({ "body": body }),
        prevs,
        auth: vec![],
        depth,
        redacts: None,
    }
    .build()
}

#[tokio::test]
async fn extremities_merge_and_late_parents_are_none() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        // Two forks from the same place, then one event after both.
        let (one, two) = (room.message("1").await, room.message("2").await);
        for pdu in [&one, &two] {
            room.commit(room.write_of(pdu.clone(), None).await)
                .await
                .unwrap();
        }
        assert_eq!(room.head().await.extremities.len(), 2);
        room.send("merge").await;
        assert_eq!(room.head().await.extremities.len(), 1);
        // A child that comes before its parent leaves a gap; the parent fills it and is no extremity.
        let event =
            |prev: &Pdu, depth| of_bob(&room, vec![prev.event_id().to_owned()], depth, depth);
        let parent = event(&one, 4);
        let child = event(&parent, 5);
        room.commit(room.write_of(child.clone(), None).await)
            .await
            .unwrap();
        let missing = store.missing_prev_events(room.no, 10).await.unwrap();
        // The create event has none, and alice's events are all there.
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].0, parent.event_id());
        let gaps = store.gaps_before(room.no, &[missing[0].1]).await.unwrap();
        assert_eq!(gaps[&missing[0].1], [parent.event_id().to_owned()]);
        let extremities = room.head().await.extremities.len();
        room.commit(room.write_of(parent, None).await)
            .await
            .unwrap();
        assert_eq!(room.head().await.extremities.len(), extremities);
        let gaps = store.gaps_before(room.no, &[missing[0].1]).await.unwrap();
        assert!(gaps.is_empty(), "{gaps:?}");
        assert!(
            store
                .missing_prev_events(room.no, 10)
                .await
                .unwrap()
                .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn who_decides_says_what_becomes_of_told_and_late_extremities() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let event =
            |prev: &Pdu, depth| of_bob(&room, vec![prev.event_id().to_owned()], depth, depth);
        let ends = || async {
            let head = room.head().await;
            let mut ends: Vec<_> = head
                .extremities
                .iter()
                .map(|end| end.event_id.clone())
                .collect();
            ends.sort();
            ends
        };
        let sorted = |events: &[&Pdu]| {
            let mut ids: Vec<_> = events
                .iter()
                .map(|event| event.event_id().to_owned())
                .collect();
            ids.sort();
            ids
        };
        let root = room.message("root").await;
        room.commit(room.write_of(root.clone(), None).await)
            .await
            .unwrap();
        let (late, other) = (event(&root, 4), event(&root, 5));
        let child = event(&late, 5);
        for pdu in [&other, &child] {
            room.commit(room.write_of(pdu.clone(), None).await)
                .await
                .unwrap();
        }
        // It came late and is one all the same.
        let mut write = room.write_of(late.clone(), None).await;
        write.add_extremities = vec![write.events[0].no];
        room.commit(write).await.unwrap();
        assert_eq!(ends().await, sorted(&[&other, &child, &late]));
        // Decided when `late` wasn't there yet.
        let upon = event(&late, 6);
        let mut write = room.write_of(upon.clone(), None).await;
        write.told = vec![late.event_id().to_owned()];
        room.commit(write).await.unwrap();
        assert_eq!(ends().await, sorted(&[&other, &child, &late, &upon]));
        // A stored one is added, others go; the last one can't.
        let all: Vec<_> = room.head().await.extremities.iter().map(|e| e.no).collect();
        let mut write = room.write_of(event(&upon, 7), None).await;
        write.events.clear();
        write.drop_extremities.clone_from(&all);
        room.commit(write.clone()).await.unwrap();
        assert_eq!(ends().await.len(), 4);
        let root_no = store.event(root.event_id()).await.unwrap().unwrap().no;
        write.add_extremities = vec![root_no];
        room.commit(write).await.unwrap();
        assert_eq!(ends().await, sorted(&[&root]));
    })
    .await;
}

#[tokio::test]
async fn whether_there_is_a_gap_before_a_new_event_is_known_without_asking() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let whole = room.send("whole").await;
        let torn = Event {
            room: &room.id,
            sender: &room.alice,
            kind: "m.room.message",
            state_key: None,
            content: json!({"body": "torn"}),
            prevs: vec![whole.clone(), "$missing".try_into().unwrap()],
            auth: vec![],
            depth: 9,
            redacts: None,
        };
        let torn = torn.build();
        let write = room.write_of(torn.clone(), None).await;
        room.commit(write).await.unwrap();
        let whole = store.event(&whole).await.unwrap().unwrap().no;
        let torn = store.event(torn.event_id()).await.unwrap().unwrap().no;
        let before = store.counters().now();
        let gaps = store.gaps_before(room.no, &[whole]).await.unwrap();
        assert!(gaps.is_empty());
        assert_eq!((store.counters().now() - before).queries, 0);
        let gaps = store.gaps_before(room.no, &[whole, torn]).await.unwrap();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[&torn], ["$missing"]);
    })
    .await;
}

#[tokio::test]
async fn backfilled_events_stand_before_and_in_order() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let mut all = Vec::new();
        for batch in [5_i64, 0] {
            let mut write = RoomWrite {
                room: room.no,
                ..RoomWrite::default()
            };
            for n in batch..batch + 5 {
                let pdu = of_bob(&room, vec![], 1, n);
                all.push((n, pdu.event_id().to_owned()));
                let no = store.next_event_no().await.unwrap();
                write.events.push(NewEvent {
                    placement: Placement::Backfilled,
                    ..NewEvent::new(no, pdu)
                });
            }
            let head = store.log().head();
            let committed = room.commit(write).await.unwrap();
            assert_eq!((committed.first, store.log().head()), (head, head));
        }
        all.sort();
        let head = store.log().head();
        let page = store
            .history(room.no, HistoryToken::START, Direction::Forward, 7, head)
            .await
            .unwrap();
        let rest = store
            .history(
                room.no,
                HistoryToken::after(&page[6]).unwrap(),
                Direction::Forward,
                100,
                head,
            )
            .await
            .unwrap();
        let mut ids: Vec<_> = page
            .iter()
            .chain(&rest)
            .map(|event| event.pdu.event_id())
            .collect();
        let forward = ids.clone();
        let last = ids.split_off(10);
        let expected: Vec<_> = all.iter().map(|(_, id)| &**id).collect();
        assert_eq!(ids, expected);
        assert_eq!(last, [room.create.event_id(), room.join.event_id()]);
        let mut back = store
            .history(room.no, HistoryToken::END, Direction::Backward, 100, head)
            .await
            .unwrap();
        back.reverse();
        let back: Vec<_> = back.iter().map(|event| event.pdu.event_id()).collect();
        assert_eq!(back, forward);
    })
    .await;
}

#[tokio::test]
async fn heroes_stand_in_the_order_of_their_coming() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let users: Vec<_> = (0..5)
            .map(|n| ruma::UserId::parse(format!("@u{n}:there.example")).unwrap())
            .collect();
        let mut nos = Vec::new();
        for user in &users {
            nos.push(store.user_no(user).await.unwrap());
        }
        for (n, what) in [(4, "join"), (2, "invite"), (3, "leave"), (0, "join")] {
            room.member(&users[n], what).await;
        }
        let heroes = async |except: usize, count| {
            let found = store.heroes(room.no, nos[except], count).await.unwrap();
            let place = |user| nos.iter().position(|no| *no == user);
            let found = found.iter().filter_map(|member| place(member.user));
            found.collect::<Vec<_>>()
        };
        assert_eq!(heroes(1, 9).await, [4, 2, 0]);
        // The room's maker was first.
        assert_eq!(heroes(1, 2).await, [4]);
        assert_eq!(heroes(4, 9).await, [2, 0]);
        // A change of profile is no coming; from invited to joined is.
        room.member(&users[4], "join").await;
        room.member(&users[2], "join").await;
        assert_eq!(heroes(1, 9).await, [4, 0, 2]);
    })
    .await;
}

#[tokio::test]
async fn memberships_counts_and_servers_follow_the_state() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let bob = ruma::user_id!("@bob:there.example");
        let bob_no = store.user_no(bob).await.unwrap();
        room.member(bob, "invite").await;
        let counts = store.member_counts(room.no).await.unwrap();
        assert_eq!((counts.joined, counts.invited), (1, 1));
        room.member(bob, "join").await;
        let since = store
            .membership(bob_no, room.no)
            .await
            .unwrap()
            .unwrap()
            .since;
        room.member(bob, "join").await;
        let row = store.memberships_of(bob_no).await.unwrap()[0];
        assert_eq!((row.membership, row.since), (Membership::Join, since));
        assert!(row.pos > row.since);
        assert_eq!(store.joined_servers(room.no).await.unwrap().len(), 2);
        let server = server_name!("there.example");
        assert_eq!(store.rooms_of_server(server).await.unwrap(), [room.no]);
        // Nobody has written to it, but it is no stranger.
        let stranger = server_name!("stranger.example");
        let new = async || store.new_servers([server, stranger]).await.unwrap();
        assert!(store.is_in_a_room(server).await.unwrap());
        assert!(!store.is_in_a_room(stranger).await.unwrap());
        assert_eq!(new().await, [stranger]);
        let of_server = async |limit| store.joined_of_server(room.no, server, limit).await;
        assert_eq!(of_server(5).await.unwrap(), [bob_no]);
        assert_eq!(of_server(0).await.unwrap(), []);
        let heroes = store.heroes(room.no, bob_no, 5).await.unwrap();
        assert_eq!(heroes.len(), 1);
        room.member(bob, "leave").await;
        let forget = WriteSet::from(vec![Fact::Forgotten(Forgotten {
            user: bob_no,
            room: room.no,
        })]);
        store.commit(forget).await.unwrap();
        let row = store.membership(bob_no, room.no).await.unwrap().unwrap();
        assert_eq!((row.membership, row.forgotten), (Membership::Leave, true));
        assert_eq!(store.joined_servers(room.no).await.unwrap().len(), 1);
        assert_eq!(store.rooms_of_server(server).await.unwrap(), []);
        assert!(!store.is_in_a_room(server).await.unwrap());
        assert_eq!(new().await.len(), 2);
        assert_eq!(of_server(5).await.unwrap(), []);
        let counts = store.member_counts(room.no).await.unwrap();
        assert_eq!((counts.joined, counts.invited), (1, 0));
        let members = store.members(room.no, None).await.unwrap();
        assert_eq!(members.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_must_be_sent_is_written_with_the_event() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let (one, two) = (server_name!("one.example"), server_name!("two.example"));
        let mut positions = Vec::new();
        for servers in [vec![one, two], vec![two]] {
            let pdu = room.message("out").await;
            let mut write = room.write_of(pdu, None).await;
            write.events[0].send_to = Some(servers.iter().map(|name| (*name).to_owned()).collect());
            positions.push(room.commit(write).await.unwrap().last);
        }
        let head = store.log().head();
        assert_eq!(
            store
                .outbound_to(one, Pos(0), head, 10)
                .await
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            store
                .outbound_to(two, Pos(0), head, 10)
                .await
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            store
                .outbound_to(one, positions[0], head, 10)
                .await
                .unwrap()
                .len(),
            0
        );
        let after = store.destinations_after(positions[0]).await.unwrap();
        assert_eq!(after, [two.to_owned()]);
        let behind = async || {
            let mut behind = store.destinations_behind().await.unwrap();
            behind.sort();
            behind
        };
        assert_eq!(behind().await, [one.to_owned(), two.to_owned()]);
        let sent = [one, two].map(|server| {
            let state = DestinationState {
                sent: positions[0],
                ..DestinationState::default()
            };
            (server.to_owned(), state)
        });
        store.store_destination_states(&sent).await.unwrap();
        assert_eq!(behind().await, [two.to_owned()]);
    })
    .await;
}
