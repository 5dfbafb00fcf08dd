//! What answers cost the database.

use rhizome_client_api::Window;
use rhizome_storage::testing::TestDatabase;
use serde_json::{Value, json};

use crate::harness::{Server, User, events, filter, story, timeline};

/// Rooms with a name, a message and another member.
async fn rooms_of(user: &User, other: &User, count: usize) -> Vec<String> {
    let mut rooms = Vec::new();
    for n in 0..count {
        let named = json!({"preset": "public_chat", "name": format!("room {n}")});
        let room = user.create(named).await;
        other.join(&room).await;
        user.say(&room, "hello").await;
        rooms.push(room);
    }
    rooms
}

#[tokio::test]
async fn a_long_absence_costs_what_has_changed() {
    story(|server| async move {
        let other = server.register("other").await;
        let store = &server.store;
        let mut costs = Vec::new();
        for (name, quiet, busy) in [("few", 2, 2), ("many", 9, 2), ("busy", 2, 9)] {
            let user = server.register(name).await;
            let rooms = rooms_of(&user, &other, quiet + busy).await;
            let after = store.log().head();
            for room in &rooms[..busy] {
                other.say(room, "news").await;
                other.leave(room).await;
            }
            let upto = store.log().head();
            let id = ruma::UserId::parse(&user.id).unwrap();
            let no = store.user_no(&id).await.unwrap();
            let rows = store.memberships_of(no).await.unwrap();
            let before = store.counters().now();
            let window = Window::read_by_room(store, no, &rows, after, upto);
            let window = window.await.unwrap();
            costs.push((store.counters().now() - before).queries);
            assert_eq!(window.rooms.len(), busy);
            for room in window.rooms.values() {
                assert_eq!((room.events.len(), room.members.len()), (2, 1));
                assert!(room.whole);
            }
        }
        assert!(costs.iter().all(|cost| *cost <= costs[0]), "{costs:?}");
    })
    .await;
}

/// What a cold server asks the database for a first answer to each of some users.
async fn first_answers(database: &TestDatabase, users: &[User]) -> Vec<(u64, Value)> {
    let mut answers = Vec::new();
    for user in users {
        let store = database.open().await;
        let mut user = user.clone();
        user.server = Server::new(store.clone());
        let lazy = filter(&json!({"room": {"state": {"lazy_load_members": true},
            "timeline": {"limit": 1}}}));
        let before = store.counters().now();
        let sync = user.sync(None, &lazy).await;
        answers.push(((store.counters().now() - before).queries, sync));
        store.close().await;
    }
    answers
}

#[tokio::test]
async fn a_first_answer_reads_its_rooms_together() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let server = Server::new(store.clone());
        let (few, many) = (server.register("few").await, server.register("many").await);
        let other = server.register("other").await;
        rooms_of(&few, &other, 4).await;
        let rooms = rooms_of(&many, &other, 24).await;
        store.close().await;
        let answers = first_answers(&database, &[few, many]).await;
        let [(few, _), (many, sync)] = &answers[..] else {
            panic!()
        };
        for (n, room) in rooms.iter().enumerate() {
            assert_eq!(timeline(sync, room).len(), 1);
            let state = events(sync, &["rooms", "join", room, "state", "events"]);
            let name = state.iter().find(|event| event["type"] == "m.room.name");
            assert_eq!(name.unwrap()["content"]["name"], format!("room {n}"));
            let members = state
                .iter()
                .filter(|event| event["type"] == "m.room.member");
            assert_eq!(members.count(), 1);
        }
        let each = (many - few) / 20;
        println!("a first answer asks {few} times for 4 rooms, {many} times for 24: {each} each");
        assert!(each <= 3, "{few} {many}");
        database.remove().await;
    }
}
