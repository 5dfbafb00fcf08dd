//! What names and describes rooms, and their order by activity.

use rhizome_protocol::Membership;
use rhizome_storage::testing::{TestDatabase, check_summaries, each_database, lose_summaries};
use rhizome_storage::{Blob, Keep, MediaQuery, NewMedia, Redacts, RoomSummary, Store};
use ruma::OwnedEventId;
use serde_json::{Value, json};

use crate::factory::{Event, Room, came, user};

async fn set(room: &Room, kind: &str, content: Value) -> OwnedEventId {
    let pdu = room.event(&room.alice, kind, Some(""), content).await;
    let id = pdu.event_id().to_owned();
    room.commit(room.state_write(pdu).await).await.unwrap();
    id
}

/// What takes an identifier or a word, beside the type of the room, which no event can change.
const IDENTIFIERS: [(&str, &str); 6] = [
    ("m.room.canonical_alias", "alias"),
    ("m.room.encryption", "algorithm"),
    ("m.room.join_rules", "join_rule"),
    ("m.room.history_visibility", "history_visibility"),
    ("m.room.guest_access", "guest_access"),
    ("m.room.tombstone", "replacement_room"),
];

fn identifiers(said: RoomSummary) -> [Option<String>; 6] {
    [
        said.alias,
        said.encryption,
        said.join_rule,
        said.history_visibility,
        said.guest_access,
        said.replacement,
    ]
}

async fn redact(room: &Room, target: OwnedEventId) {
    let head = room.head().await;
    let ends = head.extremities.iter().map(|end| end.event_id.clone());
    let pdu = Event {
        room: &room.id,
        sender: &room.alice,
        kind: "m.room.redaction",
        state_key: None,
        content: json!({}),
        prevs: ends.collect(),
        auth: vec![],
        depth: 10,
        redacts: Some(target.clone()),
    };
    let mut write = room.write_of(pdu.build(), None).await;
    write.events[0].redacts = Some(Redacts {
        target,
        only_from: None,
    });
    room.commit(write).await.unwrap();
}

async fn summary(store: &Store, room: &Room) -> RoomSummary {
    (*store.room_summary(room.no).await.unwrap()).clone()
}

#[tokio::test]
async fn it_says_what_the_state_says() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        assert_eq!(summary(&store, &room).await, RoomSummary::default());
        for (kind, content) in [
            ("m.room.name", json!({"name": "N\u{0}"})),
            ("m.room.topic", json!({"topic": "T"})),
            ("m.room.avatar", json!({"url": "mxc://here/a"})),
            ("m.room.canonical_alias", json!({"alias": "#a:here"})),
            (
                "m.room.encryption",
                json!({"algorithm": "m.megolm.v1.aes-sha2"}),
            ),
            (
                "m.room.history_visibility",
                json!({"history_visibility": "joined"}),
            ),
            ("m.room.guest_access", json!({"guest_access": "can_join"})),
            (
                "m.room.tombstone",
                json!({"replacement_room": "!next:here"}),
            ),
            (
                "m.room.join_rules",
                json!({"join_rule": "restricted", "allow": [
                    {"type": "m.room_membership", "room_id": "!in:here"},
                    {"type": "other", "room_id": "!out:here"}, 7]}),
            ),
        ] {
            set(&room, kind, content).await;
        }
        let said = RoomSummary {
            name: Some("N\u{0}".into()),
            topic: Some("T".into()),
            avatar: Some("mxc://here/a".into()),
            alias: Some("#a:here".into()),
            encryption: Some("m.megolm.v1.aes-sha2".into()),
            join_rule: Some("restricted".into()),
            allowed: vec!["!in:here".try_into().unwrap()],
            history_visibility: Some("joined".into()),
            guest_access: Some("can_join".into()),
            replacement: Some("!next:here".into()),
            ..RoomSummary::default()
        };
        assert_eq!(summary(&store, &room).await, said);
        // Nonsense and empty texts say nothing.
        set(&room, "m.room.name", json!({"name": ["N"]})).await;
        set(&room, "m.room.topic", json!({"topic": ""})).await;
        let said = summary(&store, &room).await;
        assert_eq!((said.name, said.topic), (None, None));
        // So do identifiers and rules that are longer than any can be.
        for (kind, field) in IDENTIFIERS {
            set(&room, kind, json!({ field: "x".repeat(255) })).await;
        }
        let said = summary(&store, &room).await;
        let most = Some("x".repeat(255));
        assert_eq!(identifiers(said), std::array::from_fn(|_| most.clone()));
        for (kind, field) in IDENTIFIERS {
            set(&room, kind, json!({ field: "x".repeat(256) })).await;
        }
        let said = summary(&store, &room).await;
        assert_eq!(identifiers(said), [const { None }; 6]);
        check_summaries(&store, "in the end").await;
    })
    .await;
}

#[tokio::test]
async fn a_redaction_takes_a_name_away_and_restores_none() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let first = set(&room, "m.room.name", json!({"name": "first"})).await;
        let second = set(&room, "m.room.name", json!({"name": "second"})).await;
        redact(&room, first).await;
        assert_eq!(summary(&store, &room).await.name.as_deref(), Some("second"));
        redact(&room, second).await;
        assert_eq!(summary(&store, &room).await.name, None);
        check_summaries(&store, "in the end").await;
    })
    .await;
}

/// A message's commit is as it was; the summary costs one statement to read and one to write.
#[tokio::test]
async fn only_what_changes_it_pays_for_it() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        set(&room, "m.room.name", json!({"name": "warm"})).await;
        set(&room, "org.example", json!({"n": 0})).await;
        let cost = async |kind: &str| {
            let pdu = room
                .event(&room.alice, kind, Some(""), json!({"name": "x"}))
                .await;
            let write = room.state_write(pdu).await;
            let before = store.counters().now();
            room.commit(write).await.unwrap();
            (store.counters().now() - before).queries
        };
        let other = cost("org.example").await;
        assert_eq!(cost("m.room.name").await, other + 2);
        let before = store.counters().now();
        for _ in 0..3 {
            assert_eq!(summary(&store, &room).await.name.as_deref(), Some("x"));
        }
        assert_eq!((store.counters().now() - before).queries, 1);
    })
    .await;
}

#[tokio::test]
async fn the_pictures_of_rooms_of_before_are_known() {
    each_database(|store| async move {
        let room = Room::new(&store, "a").await;
        set(&room, "m.room.avatar", json!({"url": "mxc://here/face"})).await;
        let bytes = Blob {
            key: "k".into(),
            sha256: "aa".into(),
            size: 5,
            store: "local".into(),
            seal: None,
        };
        for (media_id, keep) in [("face", Keep::New(&bytes)), ("old", Keep::Known("k"))] {
            let new = NewMedia {
                origin: "here",
                media_id,
                remote: false,
                owner: None,
                content_type: None,
                name: None,
                size: 5,
            };
            store.add_media(&new, keep).await.unwrap();
        }
        lose_summaries(&store).await;
        let which = MediaQuery {
            no_pictures: true,
            ..MediaQuery::default()
        };
        // A page of nothing but pictures isn't the last one.
        for limit in [9, 1] {
            let found = store.list_media(&which, ("", ""), limit).await.unwrap();
            let ids: Vec<_> = found.iter().map(|file| file.media_id.as_str()).collect();
            assert_eq!(ids, ["old"]);
        }
    })
    .await;
}

#[tokio::test]
async fn rooms_of_before_get_theirs_when_somebody_asks() {
    each_database(|store| async move {
        let (one, two) = (Room::new(&store, "a").await, Room::new(&store, "b").await);
        set(&one, "m.room.name", json!({"name": "one"})).await;
        set(&two, "m.room.name", json!({"name": "two"})).await;
        let heard_of = store.room_no(ruma::room_id!("!heard:of")).await.unwrap();
        lose_summaries(&store).await;
        let rooms = [one.no, two.no, heard_of];
        let found = store.room_summaries(&rooms).await.unwrap();
        let name = |room: &Room| found[&room.no].name.clone().unwrap();
        assert_eq!((name(&one), name(&two)), ("one".into(), "two".into()));
        assert!(!found.contains_key(&heard_of));
        check_summaries(&store, "once asked for").await;
        // One that changes before anybody has asked is whole, too.
        set(&one, "m.room.topic", json!({"topic": "T"})).await;
        lose_summaries(&store).await;
        set(&one, "m.room.topic", json!({"topic": "U"})).await;
        let summary = summary(&store, &one).await;
        assert_eq!(summary.name.as_deref(), Some("one"));
        assert_eq!(summary.topic.as_deref(), Some("U"));
    })
    .await;
}

#[tokio::test]
async fn other_processes_forget_what_has_changed() {
    let database = TestDatabase::postgres().await;
    let (here, there) = (database.open().await, database.open().await);
    let room = Room::new(&here, "r").await;
    let name = set(&room, "m.room.name", json!({"name": "old"})).await;
    let told = async || {
        there.log().refresh().await.unwrap();
        there.room_summary(room.no).await.unwrap().name.clone()
    };
    assert_eq!(told().await.as_deref(), Some("old"));
    let before = there.counters().now();
    room.send("a message").await;
    assert_eq!(told().await.as_deref(), Some("old"));
    let name_again = set(&room, "m.room.name", json!({"name": "new"})).await;
    assert_eq!(told().await.as_deref(), Some("new"));
    assert!(name != name_again && there.counters().now() != before);
    redact(&room, name_again).await;
    assert_eq!(told().await, None);
    here.close().await;
    there.close().await;
    database.remove().await;
}

#[tokio::test]
async fn rooms_come_in_the_order_of_their_activity() {
    each_database(|store| async move {
        let alice = store.user_no(&user("alice")).await.unwrap();
        let bob = user("bob");
        let (one, two) = (Room::new(&store, "a").await, Room::new(&store, "b").await);
        let order = async |who| {
            let rooms = store.rooms_by_activity(who).await.unwrap();
            rooms.into_iter().map(|(room, ..)| room).collect::<Vec<_>>()
        };
        assert_eq!(order(alice).await, [two.no, one.no]);
        one.send("a message").await;
        assert_eq!(order(alice).await, [one.no, two.no]);
        let bump = one.head().await.bump;
        assert_eq!(bump, store.log().head());
        // No activity, but the last that happened.
        set(&two, "m.room.topic", json!({"topic": "T"})).await;
        two.member(&bob, "join").await;
        let rooms = store.rooms_by_activity(alice).await.unwrap();
        assert_eq!(rooms[0], (one.no, bump, bump));
        assert_eq!((rooms[1].0, rooms[1].1), (two.no, store.log().head()));
        assert!(rooms[1].2 < bump && two.head().await.bump == rooms[1].2);
        // Who has left isn't told what goes on.
        let bob_no = store.user_no(&bob).await.unwrap();
        two.member(&bob, "leave").await;
        let left = store.membership(bob_no, two.no).await.unwrap().unwrap().pos;
        two.send("to those who stayed").await;
        assert_eq!(
            store.rooms_by_activity(bob_no).await.unwrap(),
            [(two.no, left, left)]
        );
        // An invite from outside stands where it came.
        let outside = store.room_no(ruma::room_id!("!out:side")).await.unwrap();
        let invite = came(bob_no, outside, Membership::Invite, alice, "{}", "[]");
        let done = store.commit(vec![invite].into()).await.unwrap();
        let first = store.rooms_by_activity(bob_no).await.unwrap()[0];
        assert_eq!(first, (outside, done.last, done.last));
    })
    .await;
}
