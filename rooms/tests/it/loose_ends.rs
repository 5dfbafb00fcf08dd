//! Who ties up a room's loose ends, and which rooms have many.

use std::sync::Arc;

use rhizome_rooms::{Rooms, loose_ends, receive};
use rhizome_storage::RoomHead;
use ruma::{OwnedUserId, RoomId};
use serde_json::json;

use crate::rig::*;

const ALICE: &str = "@alice:one";
const BOB: &str = "@bob:two";

async fn head(rooms: &Rooms, room: &RoomId) -> Arc<RoomHead> {
    rooms.store().room(room).await.unwrap().unwrap()
}

async fn who_may(rooms: &Rooms, room: &RoomId) -> Vec<OwnedUserId> {
    let head = head(rooms, room).await;
    loose_ends::who_may(rooms, &head, 9).await.unwrap()
}

#[tokio::test]
async fn only_who_is_there_and_has_the_power_may() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, ALICE).await;
        join_via(&one, &two, &room, BOB).await.unwrap();
        assert_eq!(who_may(&one, &room).await, [ALICE]);
        assert_eq!(who_may(&two, &room).await, [BOB]);
        let at = head(&two, &room).await;
        assert_eq!(loose_ends::who_may(&two, &at, 0).await.unwrap().len(), 0);
        let mut levels = content(&one, &room, "m.room.power_levels", "")
            .await
            .unwrap();
        let says_nothing = loose_ends::dummy(&at, user(BOB));
        levels["events"][&says_nothing.kind] = json!(50);
        let set = set(&one, &room, ALICE, "m.room.power_levels", "", levels).await;
        carry(&one, &two, &set).await;
        assert_eq!(who_may(&one, &room).await, [ALICE]);
        assert!(who_may(&two, &room).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_room_is_noted_when_it_has_many_ends() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, ALICE).await;
        let joined = join_via(&one, &two, &room, BOB).await.unwrap();
        let joined = pdu(&one, &joined).await;
        let auth = auth_of(&one, &room, &message(&room, BOB, "")).await;
        for n in 0..i64::try_from(loose_ends::MANY).unwrap() + 2 {
            assert!(loose_ends::take_noted(&one).is_empty(), "{n}");
            let draft = message(&room, BOB, &format!("{n}"));
            let ts = joined.origin_server_ts() + n;
            let fork = forged(&two, &draft, &[joined.clone()], &auth, ts);
            let received = receive::receive(&one, fork, &receive::Gathered::default()).await;
            assert_eq!(received.unwrap(), receive::Received::Accepted);
        }
        let no = head(&one, &room).await.room;
        assert!(loose_ends::take_noted(&one).contains(&no));
        assert!(loose_ends::take_noted(&one).is_empty());
        // One event ties them up, and says nothing.
        let draft = loose_ends::dummy(&*head(&one, &room).await, user(ALICE));
        let tied = sent(&one, draft).await;
        assert_eq!(ends(&one, &room).await, [tied.clone()]);
        assert!(loose_ends::is_dummy(&*pdu(&one, &tied).await));
    })
    .await;
}
