//! Facts that move, invites, aliases.

use rhizome_protocol::Membership;
use rhizome_storage::testing::each_database;
use rhizome_storage::{
    AccountData, Audience, CommitError, DataChange, DeviceList, EntryKind, Fact, Listing, NewAlias,
    Pos, Receipt, Store, TokenRevoked, WriteSet,
};
use ruma::{OwnedRoomAliasId, OwnedRoomId, UserId, event_id, server_name};

use crate::factory::{Room, came, decided_on, gone, user};

async fn commit(store: &Store, facts: Vec<Fact>) -> Result<Pos, CommitError> {
    let set = WriteSet::from(facts);
    store.commit(set).await.map(|committed| committed.last)
}

#[tokio::test]
async fn receipts_and_account_data_keep_the_last() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let start = store.log().head();
        let receipt = |id: &ruma::EventId, thread: Option<&str>| {
            Fact::Receipt(Receipt {
                room: room.no,
                user: alice,
                kind: "m.read".to_owned(),
                thread: thread.map(str::to_owned),
                event_id: id.to_owned(),
                ts: 5,
            })
        };
        let data = |kind: &str, content: &str| {
            Fact::AccountData(DataChange {
                data: AccountData {
                    user: alice,
                    room: Some(room.no).filter(|_| kind == "m.tag"),
                    kind: kind.to_owned(),
                    content: content.into(),
                },
                expect: None,
            })
        };
        let (one, two) = (event_id!("$one"), event_id!("$two"));
        // Twice in one write set, and once more.
        let facts = vec![
            receipt(one, None),
            receipt(two, None),
            receipt(one, Some("$t")),
        ];
        commit(&store, facts).await.unwrap();
        commit(
            &store,
            vec![data("m.tag", "{\"a\":1}"), data("m.direct", "{}")],
        )
        .await
        .unwrap();
        let last = commit(&store, vec![data("m.tag", "{\"a\":2}")])
            .await
            .unwrap();
        for store in [
            store.clone(),
            Store::open(store.options().clone()).await.unwrap(),
        ] {
            let receipts = store
                .receipts_in_rooms_after(&[room.no], start, last)
                .await
                .unwrap();
            let ids: Vec<_> = receipts
                .iter()
                .map(|receipt| (receipt.event_id.as_str(), receipt.thread.as_deref()))
                .collect();
            assert_eq!(ids, [("$two", None), ("$one", Some("$t"))]);
            assert_eq!(store.receipts_of(room.no, alice).await.unwrap().len(), 2);
            let tag = store
                .account_data(alice, Some(room.no), "m.tag")
                .await
                .unwrap()
                .unwrap();
            assert_eq!((&*tag.content, tag.pos), ("{\"a\":2}", last));
            assert!(
                store
                    .account_data(alice, None, "m.tag")
                    .await
                    .unwrap()
                    .is_none()
            );
            let since = store.account_data_since(alice, start, last).await.unwrap();
            assert_eq!(since.len(), 2);
        }
        // The tail tells of every move, the database of the last ones.
        assert_eq!(store.log().tail(start, last).unwrap().len(), 6);
        let fresh = Store::open(store.options().clone()).await.unwrap();
        assert_eq!(fresh.log().read(start, last, 100).await.unwrap().len(), 4);
    })
    .await;
}

/// A knock is kept like an invite, until it becomes one, or is gone.
#[tokio::test]
async fn knocks_on_rooms_outside_come_and_go() {
    each_database(|store| async move {
        let alice = store.user_no(&user("alice")).await.unwrap();
        let room_id = OwnedRoomId::try_from("!far:there.example").unwrap();
        for membership in [Membership::Knock, Membership::Invite, Membership::Knock] {
            let next = came(
                alice,
                store.room_no(&room_id).await.unwrap(),
                membership,
                alice,
                "{}",
                "[]",
            );
            let pos = commit(&store, vec![next]).await.unwrap();
            let room = store.known_room(&room_id).await.unwrap().unwrap();
            let row = store.membership(alice, room).await.unwrap().unwrap();
            assert_eq!((row.membership, row.since), (membership, pos));
            assert!(store.remote_invite(alice, room).await.unwrap().is_some());
        }
        let gone = gone(alice, store.room_no(&room_id).await.unwrap(), "{}");
        commit(&store, vec![gone]).await.unwrap();
        let room = store.known_room(&room_id).await.unwrap().unwrap();
        let row = store.membership(alice, room).await.unwrap().unwrap();
        assert_eq!(row.membership, Membership::Leave);
        assert!(store.remote_invite(alice, room).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn account_data_that_moved_on_is_not_overwritten() {
    each_database(|store| async move {
        let alice = store.user_no(&user("alice")).await.unwrap();
        let data = |expect: Option<Pos>, content: &str| {
            Fact::AccountData(DataChange {
                data: AccountData {
                    user: alice,
                    room: None,
                    kind: "m.a\u{0}b".to_owned(),
                    content: content.into(),
                },
                expect,
            })
        };
        let moved = |result: Result<Pos, CommitError>| {
            let error = result.unwrap_err();
            assert!(
                matches!(&error, CommitError::DataMoved { user, .. } if *user == alice),
                "{error:?}"
            );
        };
        moved(commit(&store, vec![data(Some(Pos(7)), "{}")]).await);
        let first = commit(&store, vec![data(Some(Pos(0)), "1")]).await.unwrap();
        moved(commit(&store, vec![data(Some(Pos(0)), "2")]).await);
        let second = commit(&store, vec![data(Some(first), "3")]).await.unwrap();
        moved(commit(&store, vec![data(Some(first), "4")]).await);
        let third = commit(&store, vec![data(None, "5")]).await.unwrap();
        moved(commit(&store, vec![data(Some(second), "6")]).await);
        // Of many at once, most likely in one group, one is decided on what is there.
        let many = (0..8).map(|_| commit(&store, vec![data(Some(third), "7")]));
        let answers = futures_util::future::join_all(many).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        let kept = store.account_data(alice, None, "m.a\u{0}b").await.unwrap();
        assert_eq!(&*kept.unwrap().content, "7");
        // Nothing of a refused write set is written.
        let other = Fact::DeviceList(DeviceList {
            user: alice,
            device: None,
        });
        let before = store.log().head();
        moved(commit(&store, vec![other, data(Some(third), "8")]).await);
        assert_eq!(store.log().head(), before);
    })
    .await;
}

#[tokio::test]
async fn invites_from_outside_come_and_go() {
    each_database(|store| async move {
        let alice = store.user_no(&user("alice")).await.unwrap();
        let bob = store
            .user_no(ruma::user_id!("@bob:there.example"))
            .await
            .unwrap();
        let room_id = OwnedRoomId::try_from("!far:there.example").unwrap();
        let invite = came(
            alice,
            store.room_no(&room_id).await.unwrap(),
            Membership::Invite,
            bob,
            "{}",
            "[]",
        );
        let pos = commit(&store, vec![invite.clone()]).await.unwrap();
        let room = store.known_room(&room_id).await.unwrap().unwrap();
        assert!(store.room(&room_id).await.unwrap().is_none());
        let found = store.remote_invite(alice, room).await.unwrap().unwrap();
        assert_eq!(
            (found.pos, found.sender.as_str()),
            (pos, "@bob:there.example")
        );
        let row = store.memberships_of(alice).await.unwrap()[0];
        assert_eq!((row.membership, row.event), (Membership::Invite, None));
        let gone = gone(
            alice,
            store.room_no(&room_id).await.unwrap(),
            "{\"left\":\"\\u0000\"}",
        );
        let pos = commit(&store, vec![gone.clone()]).await.unwrap();
        assert!(store.remote_invite(alice, room).await.unwrap().is_none());
        let ended = store.ended_remote_invite(alice, room).await.unwrap();
        assert_eq!(&*ended.unwrap().event, "{\"left\":\"\\u0000\"}");
        let row = store.membership(alice, room).await.unwrap().unwrap();
        assert_eq!((row.membership, row.since), (Membership::Leave, pos));
        // A room that we come to take part in speaks for itself.
        let room_of_ours = Room::new(&store, "ours").await;
        let carol = store.user_no(&user("carol")).await.unwrap();
        let early = came(carol, room_of_ours.no, Membership::Invite, bob, "{}", "[]");
        // It was decided when nothing was known of the room.
        let refused = commit(&store, vec![early.clone()]).await.unwrap_err();
        assert!(
            matches!(refused, CommitError::StateMoved { .. }),
            "{refused}"
        );
        let early = decided_on(early, room_of_ours.head().await.state_version);
        commit(&store, vec![early]).await.unwrap();
        assert!(
            store
                .remote_invite(carol, room_of_ours.no)
                .await
                .unwrap()
                .is_some()
        );
        room_of_ours.member(&user("carol"), "join").await;
        assert!(
            store
                .remote_invite(carol, room_of_ours.no)
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(room_of_ours.head().await.joined, 2);
        // Both in one write set.
        commit(&store, vec![invite, gone]).await.unwrap();
        assert!(store.remote_invite(alice, room).await.unwrap().is_none());
        let fresh = Store::open(store.options().clone()).await.unwrap();
        let entries = fresh
            .log()
            .read(Pos(0), fresh.log().head(), 10)
            .await
            .unwrap();
        let EntryKind::Invite(invite) = &entries.last().unwrap().kind else {
            panic!("{entries:?}")
        };
        assert!(invite.gone);
    })
    .await;
}

#[tokio::test]
async fn an_alias_is_taken_once() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let alias = OwnedRoomAliasId::try_from("#a:here.example").unwrap();
        let fact = Fact::Alias(NewAlias {
            alias: alias.clone(),
            room: room.no,
            creator: alice,
        });
        let directory = Fact::Listing(Listing {
            room: room.no,
            public: true,
        });
        commit(&store, vec![fact.clone(), directory]).await.unwrap();
        let refused = commit(&store, vec![fact]).await.unwrap_err();
        assert!(matches!(refused, CommitError::AliasTaken(taken) if taken == alias));
        assert!(room.head().await.public);
        let public = store
            .public_rooms(rhizome_storage::RoomNo(0), 10)
            .await
            .unwrap();
        assert_eq!(public, [room.no]);
    })
    .await;
}

#[tokio::test]
async fn devices_and_revocations_are_told() {
    each_database(|store| async move {
        let alice = store.user_no(&user("alice")).await.unwrap();
        let facts = vec![
            Fact::DeviceList(DeviceList {
                user: alice,
                device: None,
            }),
            Fact::TokenRevoked(TokenRevoked {
                user: alice,
                device: Some("PHONE".into()),
            }),
            Fact::TokenRevoked(TokenRevoked {
                user: alice,
                device: None,
            }),
        ];
        commit(&store, facts).await.unwrap();
        let fresh = Store::open(store.options().clone()).await.unwrap();
        let entries = fresh
            .log()
            .read(Pos(0), fresh.log().head(), 10)
            .await
            .unwrap();
        assert_eq!(entries.len(), 3);
        let audiences = entries.iter().map(|entry| entry.kind.audience());
        let (told, own) = (Audience::Sharing(alice), Audience::User(alice));
        assert_eq!(audiences.collect::<Vec<_>>(), [told, own, own]);
    })
    .await;
}

/// What waits for an answer is counted by who sent it. Of what is over, nothing tells any more what the room was.
#[tokio::test]
async fn pending_invites_are_counted() {
    each_database(|store| async move {
        let alice = store.user_no(&user("alice")).await.unwrap();
        let (there, far) = (server_name!("there.example"), server_name!("far.example"));
        let room = |n| OwnedRoomId::try_from(format!("!r{n}:there.example")).unwrap();
        let senders = [
            "@bob:there.example",
            "@eve:there.example",
            "@carl:far.example",
        ];
        for (n, sender) in senders.into_iter().enumerate() {
            let sender = UserId::parse(sender).unwrap();
            let invite = came(
                alice,
                store.room_no(&room(n)).await.unwrap(),
                Membership::Invite,
                store.user_no(&sender).await.unwrap(),
                "{}",
                "[1]",
            );
            commit(&store, vec![invite]).await.unwrap();
        }
        let knock = came(
            alice,
            store.room_no(&room(9)).await.unwrap(),
            Membership::Knock,
            alice,
            "{}",
            "[]",
        );
        commit(&store, vec![knock]).await.unwrap();
        let counted = async |server| {
            let pending = store.pending_invites(alice, server).await.unwrap();
            (pending.all, pending.of_server)
        };
        assert_eq!(counted(there).await, (3, 2));
        assert_eq!(counted(far).await, (3, 1));
        assert_eq!(counted(server_name!("new.example")).await, (3, 0));
        let gone = gone(alice, store.room_no(&room(0)).await.unwrap(), "{}");
        commit(&store, vec![gone]).await.unwrap();
        assert_eq!(counted(there).await, (2, 1));
        let no = store.known_room(&room(0)).await.unwrap().unwrap();
        let ended = store.ended_remote_invite(alice, no).await.unwrap().unwrap();
        assert_eq!(&*ended.stripped_state, "[]");
    })
    .await;
}
