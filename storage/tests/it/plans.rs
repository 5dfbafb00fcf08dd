//! What the commit queue asks PostgreSQL goes by keys, however much there is.

use rhizome_storage::TxnKey;
use rhizome_storage::testing::{TestDatabase, check_commit_plans};
use ruma::OwnedDeviceId;
use serde_json::json;

use crate::factory::{Room, user};

#[tokio::test]
async fn what_is_said_in_a_room_is_found_by_keys() {
    let database = TestDatabase::postgres().await;
    let store = database.open().await;
    let room = Room::new(&store, "r").await;
    let alice = store.user_no(&room.alice).await.unwrap();
    let said = room.send("plain").await;
    let key = TxnKey {
        user: alice,
        device: OwnedDeviceId::from("PHONE"),
        path: "send/!r/m.room.message".to_owned(),
        txn_id: "t".to_owned(),
    };
    let pdu = room.message("with its transaction").await;
    let write = room.write_of(pdu, Some(key)).await;
    room.commit(write).await.unwrap();
    let reaction =
        json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "+"}});
    let pdu = room.event(&room.alice, "m.reaction", None, reaction).await;
    let write = room.write_of(pdu, None).await;
    room.commit(write).await.unwrap();
    room.member(&user("bob"), "join").await;
    room.member(&user("bob"), "leave").await;
    let topic = room
        .event(&room.alice, "m.room.topic", Some(""), json!({"topic": "t"}))
        .await;
    room.commit(room.state_write(topic).await).await.unwrap();
    check_commit_plans(&store).await;
    store.close().await;
    database.remove().await;
}
