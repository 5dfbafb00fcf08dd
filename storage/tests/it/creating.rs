//! Rooms are created once, and as a whole.

use rhizome_protocol::Membership;
use rhizome_storage::testing::each_database;
use rhizome_storage::{
    CommitError, EntryKind, LiveEvent, NewRoom, Pos, RoomWrite, StateChanged, Store,
};

use crate::factory::Room;

#[tokio::test]
async fn a_new_room_is_there_as_a_whole() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let head = room.head().await;
        assert_eq!(head.state_version, 1);
        assert_eq!((head.joined, head.invited), (1, 0));
        assert_eq!(head.extremities.len(), 1);
        assert_eq!(head.extremities[0].event_id, room.join.event_id());
        let entries = store
            .log()
            .read(Pos(0), store.log().head(), 10)
            .await
            .unwrap();
        let kinds: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.kind {
                EntryKind::Event(LiveEvent { event, .. }) => event.pdu.kind().to_owned(),
                EntryKind::State(StateChanged { member, .. }) => {
                    format!("state {}", member.is_some())
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "m.room.create",
                "state false",
                "m.room.member",
                "state true"
            ]
        );
        let alice = store.user_no(&room.alice).await.unwrap();
        let rows = store.memberships_of(alice).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].membership, rows[0].since),
            (Membership::Join, Pos(4))
        );
        assert_eq!(
            *store.joined_servers(room.no).await.unwrap(),
            ["here.example"]
        );
        let chain = store
            .auth_chain(&[room.join.event_id().to_owned()])
            .await
            .unwrap();
        assert_eq!(chain, [room.create.event_id().to_owned()]);
        // And again what another process would see.
        let other = Store::open(store.options().clone()).await.unwrap();
        let read = other.room(&room.id).await.unwrap().unwrap();
        assert_eq!(read.extremities, head.extremities);
        assert_eq!((read.state_version, read.joined), (1, 1));
        let again = other
            .log()
            .read(Pos(0), other.log().head(), 10)
            .await
            .unwrap();
        assert_eq!(again.len(), 4);
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_room_is_created_once() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        for no in [room.no, store.next_room_no().await.unwrap()] {
            let write = RoomWrite {
                room: no,
                create: Some(NewRoom {
                    room_id: room.id.clone(),
                    rules: crate::factory::rules(),
                }),
                ..RoomWrite::default()
            };
            let refused = room.commit(write).await.unwrap_err();
            assert!(
                matches!(refused, CommitError::RoomExists(no) if no == room.no),
                "{refused:?}"
            );
        }
        let unknown = RoomWrite {
            room: store.next_room_no().await.unwrap(),
            ..RoomWrite::default()
        };
        let refused = room.commit(unknown).await.unwrap_err();
        assert!(matches!(refused, CommitError::RoomExists(_)), "{refused:?}");
    })
    .await;
}
