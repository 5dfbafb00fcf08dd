//! Changes of profiles of which rooms haven't been told yet.

use rhizome_federation::{local, membership::join};
use rhizome_protocol::{Object, draft::Draft};
use rhizome_rooms::send::SendOptions;
use rhizome_storage::{
    Block, Options, Pos, SpreadChange, SpreadTo, Store, Untold, testing::TestDatabase,
};
use ruma::{RoomOrAliasId, UserId};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    harness::{Server, User, esc, story},
    telling::tell_rooms,
};

/// What somebody in a room sees another, or themselves, called there.
async fn name_in(user: &User, room: &str, whose: &User) -> Value {
    let path = format!(
        "/rooms/{}/state/m.room.member/{}",
        esc(room),
        esc(&whose.id)
    );
    user.read(&path).await["displayname"].clone()
}

/// Changes a name, of which nobody is told.
async fn change(server: &Server, user: &User, name: &str, to: SpreadTo) {
    let spread = SpreadChange {
        user: server.store.user_no(user_id(user)).await.unwrap(),
        field: "displayname".to_owned(),
        value: Some(name.to_owned()),
        to,
    };
    server.store.spread_profile_field(spread).await.unwrap();
}

fn user_id(user: &User) -> &UserId {
    (&*user.id).try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_not_lost_to_what_is_newer() {
    story(async |server| {
        let ada = server.register("ada").await;
        let usual = ada.create_public().await;
        let other = ada.create_public().await;
        let own = json!({ "membership": "join", "displayname": "Countess" });
        ada.set_state(&other, "m.room.member", &ada.id, own).await;
        let start = server.store.log().head();
        change(&server, &ada, "Augusta", SpreadTo::Unchanged).await;
        change(&server, &ada, "Ada", SpreadTo::Unchanged).await;
        tell_rooms(&server.app, start).await;
        assert_eq!(
            name_in(&ada, &usual, &ada).await,
            "Ada",
            "which had no name yet"
        );
        assert_eq!(name_in(&ada, &other, &ada).await, "Countess");
        // Who was to be told everywhere, is.
        let start = server.store.log().head();
        change(&server, &ada, "Everywhere", SpreadTo::All).await;
        change(&server, &ada, "Nowhere", SpreadTo::Nobody).await;
        change(&server, &ada, "Lovelace", SpreadTo::Unchanged).await;
        tell_rooms(&server.app, start).await;
        for room in [&usual, &other] {
            assert_eq!(name_in(&ada, room, &ada).await, "Lovelace");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_while_their_name_changes_is_called_by_the_new_one() {
    story(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_public().await;
        let start = server.store.log().head();
        change(&server, &bob, "Bob", SpreadTo::All).await;
        tell_rooms(&server.app, start).await;
        // The join was made when he had no name.
        let start = server.store.log().head();
        let target = <&RoomOrAliasId>::try_from(&*room).unwrap();
        join::join(
            &server.federation,
            user_id(&bob),
            target,
            &[],
            Object::new(),
        )
        .await
        .unwrap();
        assert_eq!(name_in(&bob, &room, &bob).await, Value::Null);
        tell_rooms(&server.app, start).await;
        assert_eq!(name_in(&bob, &room, &bob).await, "Bob");
        // A name of his own for this room stays.
        let start = server.store.log().head();
        let own = json!({ "membership": "join", "displayname": "Bobby" });
        bob.set_state(&room, "m.room.member", &bob.id, own).await;
        tell_rooms(&server.app, start).await;
        assert_eq!(name_in(&bob, &room, &bob).await, "Bobby");
    })
    .await;
}

/// Its writer would have them back in the room else.
#[tokio::test(flavor = "multi_thread")]
async fn what_replaces_a_membership_is_not_sent_once_it_is_another() {
    story(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        let (id, room_id) = (user_id(&bob).to_owned(), room.as_str().try_into().unwrap());
        let head = server.store.room(room_id).await.unwrap().unwrap();
        let no = server.store.user_no(&id).await.unwrap();
        let row = server
            .store
            .membership(no, head.room)
            .await
            .unwrap()
            .unwrap();
        let joined = server.store.event_by_no(row.event.unwrap()).await.unwrap();
        let joined = joined.unwrap().pdu.event_id().to_owned();
        let send = async |name: &str| {
            let content = json!({ "membership": "join", "displayname": name });
            let draft = Draft {
                room_id: Some(room_id.to_owned()),
                sender: id.clone(),
                kind: "m.room.member".into(),
                state_key: Some(id.to_string()),
                content: content.as_object().unwrap().clone(),
                redacts: None,
            };
            let options = SendOptions {
                replaces: Some(joined.clone()),
                ..SendOptions::default()
            };
            local::send(&server.federation, draft, options).await
        };
        send("Bob").await.unwrap();
        let again = send("Robert").await.unwrap_err();
        assert_eq!(again.status, 409, "it was replaced");
        bob.leave(&room).await;
        assert_eq!(send("Bob").await.unwrap_err().status, 409);
        let path = format!("/rooms/{}/joined_members", esc(&room));
        let members = ada.read(&path).await;
        assert_eq!(members["joined"].as_object().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_could_not_be_told_is_told_later() {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: rhizome_storage::Clock::manual(1_700_000_000_000),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let server = Server::new(store.clone());
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        change(&server, &ada, "Ada", SpreadTo::All).await;
        let untold = Untold {
            user: store.user_no(user_id(&ada)).await.unwrap(),
            room: store
                .known_room(room.as_str().try_into().unwrap())
                .await
                .unwrap()
                .unwrap(),
            since: Pos(0),
        };
        store.remember_untold(untold).await.unwrap();
        let told = async || {
            tell_rooms(&server.app, store.log().head()).await;
            name_in(&ada, &room, &ada).await
        };
        assert_eq!(told().await, Value::Null, "not yet");
        store.clock().advance(Duration::from_secs(5));
        assert_eq!(told().await, "Ada");
        store.clock().advance(Duration::from_hours(1));
        assert!(store.untold(9).await.unwrap().is_empty());
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_shown_to_nobody_is_called_by_their_new_name_afterwards() {
    story(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        let block = Block {
            kind: Block::SHADOW.into(),
            what: ada.id.clone(),
            way: String::new(),
            reason: String::new(),
            since_ms: 0,
            blocked: true,
        };
        server.store.block(block).await.unwrap();
        let start = server.store.log().head();
        change(&server, &ada, "Ada", SpreadTo::All).await;
        tell_rooms(&server.app, start).await;
        assert_eq!(name_in(&bob, &room, &ada).await, Value::Null);
        let start = server.store.log().head();
        let undone = server.store.unblock(Block::SHADOW, &ada.id).await;
        assert!(undone.unwrap());
        tell_rooms(&server.app, start).await;
        assert_eq!(name_in(&bob, &room, &ada).await, "Ada");
    })
    .await;
}
