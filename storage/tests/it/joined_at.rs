//! Who was in a room at a position, however it went on.

use rhizome_storage::{Pos, RoomNo, Store, testing::each_database};
use ruma::{OwnedUserId, UserId, server_name};

use crate::factory::{Room, user};

/// The names of the users of ours who were joined.
async fn joined(store: &Store, room: RoomNo, at: Pos) -> Vec<String> {
    let here = server_name!("here.example");
    let found = store.joined_here_at(&[room, RoomNo(999)], here, at).await;
    let mut found = found.unwrap();
    let users = found.remove(&room).unwrap_or_default();
    assert!(found.is_empty());
    let mut names: Vec<String> = (store.users(&users).await.unwrap().iter())
        .map(|user| user.localpart().to_owned())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn members_are_known_as_they_were_at_any_position() {
    each_database(|store| async move {
        let room = Room::new(&store, "one").await;
        let (bob, carol) = (user("bob"), user("carol"));
        let zoe: OwnedUserId = UserId::parse("@zoe:there.example").unwrap();
        let mut places = vec![(store.log().head(), vec!["alice"])];
        let mut goes = async |who: &UserId, membership: &str, then: &[&'static str]| {
            room.member(who, membership).await;
            places.push((store.log().head(), then.to_vec()));
        };
        goes(&bob, "join", &["alice", "bob"]).await;
        goes(&zoe, "join", &["alice", "bob"]).await;
        goes(&carol, "invite", &["alice", "bob"]).await;
        goes(&bob, "leave", &["alice"]).await;
        goes(&carol, "join", &["alice", "carol"]).await;
        goes(&bob, "join", &["alice", "bob", "carol"]).await;
        // A change of profile is no change of this.
        goes(&bob, "join", &["alice", "bob", "carol"]).await;
        goes(&carol, "ban", &["alice", "bob"]).await;
        for (at, then) in places {
            assert_eq!(joined(&store, room.no, at).await, then, "{at}");
        }
        assert!(joined(&store, room.no, Pos(0)).await.is_empty());
    })
    .await;
}
