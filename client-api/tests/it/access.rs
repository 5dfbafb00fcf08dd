//! Who may see what: every way of reading gives the same answer, and what it costs doesn't depend on how much is
//! read.

use http::{Method, StatusCode};
use rhizome_storage::{Store, testing::TestDatabase};
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, events, filter, ids, next, story},
    relations,
};

const STAGES: usize = 5;

/// Readers by what they are at each stage: joined, invited, gone, banned, gone and forgetful, or nothing.
const READERS: [(&str, &str); 10] = [
    ("founder", "JJJJJ"),
    ("member", "..JJJ"),
    ("never", "....."),
    ("invited", ".IIII"),
    ("gone", ".IJLL"),
    ("banned", "..JBB"),
    ("back", "JLLJJ"),
    ("refused", ".ILLL"),
    ("unwanted", "..BBB"),
    ("forgetful", ".JJLF"),
];

/// The specification's five rules ("Room history visibility", "Server behaviour"), read naively.
fn may_see(visibility: &str, times: &str, stage: usize) -> bool {
    let then = times.as_bytes()[stage];
    visibility == "world_readable"
        || then == b'J'
        || (visibility == "shared" && times[stage..].contains('J'))
        || (visibility == "invited" && then == b'I')
}

/// Whether there is the room for the reader at all.
fn may_read(visibility: &str, times: &str) -> bool {
    visibility == "world_readable" || (times.contains('J') && !times.ends_with('F'))
}

/// What was said in a room, and the topics that it had: one of each for each stage.
struct Told {
    room: String,
    said: Vec<String>,
    topics: Vec<String>,
}

impl Told {
    async fn act(&self, alice: &User, reader: &User, from: u8, to: u8) {
        let by_alice = async |action: &str| {
            let path = format!("/rooms/{}/{action}", esc(&self.room));
            let body = json!({ "user_id": reader.id });
            alice.ok(Method::POST, &path, body).await;
        };
        match (from, to) {
            (from, to) if from == to => {}
            (_, b'I') => by_alice("invite").await,
            (_, b'B') => by_alice("ban").await,
            (_, b'J') => reader.join(&self.room).await,
            (_, b'L') => reader.leave(&self.room).await,
            (_, b'F') => reader.forget(&self.room).await,
            _ => unreachable!(),
        }
    }

    /// A room with this visibility in which all readers have come and gone.
    async fn of(alice: &User, readers: &[User], visibility: &str) -> Told {
        let hidden = json!([{"type": "m.room.history_visibility", "state_key": "",
            "content": {"history_visibility": visibility}}]);
        let request = json!({"preset": "public_chat", "initial_state": hidden});
        let mut told = Told {
            room: alice.create(request).await,
            said: Vec::new(),
            topics: Vec::new(),
        };
        for stage in 0..STAGES {
            for (reader, (_, times)) in readers.iter().zip(READERS) {
                let times = times.as_bytes();
                let from = if stage == 0 { b'.' } else { times[stage - 1] };
                told.act(alice, reader, from, times[stage]).await;
            }
            let topic = json!({ "topic": stage.to_string() });
            let topic = alice.set_state(&told.room, "m.room.topic", "", topic).await;
            told.topics.push(topic);
            let mut content = json!({"msgtype": "m.text", "body": stage.to_string()});
            if let Some(first) = told.said.first() {
                // So that there is something to be told with it.
                content["m.relates_to"] = json!({"rel_type": "m.reference", "event_id": first});
            }
            let said = alice.send(&told.room, "m.room.message", content).await;
            told.said.push(said);
        }
        told
    }

    /// All that was told, oldest first.
    fn all(&self) -> Vec<&String> {
        let both = self.topics.iter().zip(&self.said);
        both.flat_map(|(topic, said)| [topic, said]).collect()
    }

    /// Of these events, those that were told, oldest first.
    fn among(&self, shown: &[&Value]) -> Vec<String> {
        let shown = ids(shown);
        let all = self.all().into_iter();
        all.filter(|id| shown.contains(id)).cloned().collect()
    }

    fn path(&self, what: &str) -> String {
        format!("/rooms/{}/{what}", esc(&self.room))
    }
}

/// Asks for each event by itself, and for what is around it.
async fn ask_for_events(reader: &User, told: &Told, visible: &[String], who: &str) {
    for id in told.all() {
        let expected = visible.contains(id);
        let (status, _) = reader.get(&told.path(&format!("event/{}", esc(id)))).await;
        assert_eq!(status.is_success(), expected, "event: {who}");
        let path = told.path(&format!("context/{}?limit=200", esc(id)));
        let (status, around) = reader.get(&path).await;
        assert_eq!(status.is_success(), expected, "context: {who}");
        if expected {
            let mut shown = events(&around, &["events_before"]);
            shown.push(&around["event"]);
            shown.extend(events(&around, &["events_after"]));
            assert_eq!(told.among(&shown), visible, "around: {who}");
        }
    }
}

async fn page(reader: &User, told: &Told, readable: bool, visible: &[String], who: &str) {
    for dir in ["b", "f"] {
        let path = told.path(&format!("messages?dir={dir}&limit=200"));
        let (status, page) = reader.get(&path).await;
        assert_eq!(status.is_success(), readable, "messages: {who}");
        let shown = told.among(&events(&page, &["chunk"]));
        assert_eq!(shown, visible, "messages {dir}: {who}");
    }
}

/// What relates to the first message is there for whom that is, as far as it is theirs to see.
async fn ask_for_relations(reader: &User, told: &Told, visible: &[String], who: &str) {
    let (first, others) = told.said.split_first().unwrap();
    let (status, page) = relations::ask(reader, &told.room, first, "?dir=f").await;
    assert_eq!(
        status.is_success(),
        visible.contains(first),
        "relations: {who}"
    );
    if !status.is_success() {
        return;
    }
    let others: Vec<_> = (others.iter())
        .filter(|id| visible.contains(id))
        .cloned()
        .collect();
    assert_eq!(ids(&events(&page, &["chunk"])), others, "relations: {who}");
    // What is told with an event may be less, and is never more.
    let bundle = relations::bundle(reader, &told.room, first).await;
    let with = ids(&events(&bundle, &["m.reference", "chunk"]));
    assert!(
        with.iter().all(|id| others.contains(id)),
        "told with it: {who}"
    );
}

/// A timeline is one piece of what may be seen; of a room that the reader is in, its end.
async fn sync(reader: &User, told: &Told, visible: &[String], who: &str) {
    let all = json!({"room": {"timeline": {"limit": 200}, "include_leave": true}});
    let answer = reader.sync(None, &filter(&all)).await;
    for section in ["join", "leave"] {
        let path = ["rooms", section, &told.room, "timeline", "events"];
        let shown = told.among(&events(&answer, &path));
        let mut pieces = visible.windows(shown.len().max(1));
        let is_piece = shown.is_empty() || pieces.any(|piece| piece == shown);
        assert!(is_piece, "sync {section}: {who}: {shown:?}");
        if section == "join" && !answer["rooms"]["join"][&told.room].is_null() {
            assert_eq!(shown.last(), visible.last(), "sync: {who}");
        }
    }
}

/// The state is there for whom there is the room: as of now, or as of when they left.
async fn ask_for_state(reader: &User, told: &Told, visibility: &str, times: &str, who: &str) {
    let readable = may_read(visibility, times);
    for what in ["state", "members", "aliases"] {
        let (status, _) = reader.get(&told.path(what)).await;
        assert_eq!(status.is_success(), readable, "{what}: {who}");
    }
    let (status, _) = reader.get(&told.path("joined_members")).await;
    assert_eq!(status.is_success(), times.ends_with('J'), "joined: {who}");
    let (status, topic) = reader.get(&told.path("state/m.room.topic")).await;
    let last = if visibility == "world_readable" {
        Some(STAGES - 1)
    } else {
        times.rfind('J').filter(|_| readable)
    };
    match last {
        Some(stage) => assert_eq!(topic["topic"], stage.to_string(), "{who}"),
        None => assert_eq!(status, StatusCode::FORBIDDEN, "{who}"),
    }
}

#[tokio::test]
async fn every_way_of_reading_gives_the_same_answer() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let mut readers = Vec::new();
        for (name, _) in READERS {
            readers.push(server.register(name).await);
        }
        for visibility in ["world_readable", "shared", "invited", "joined"] {
            let told = Told::of(&alice, &readers, visibility).await;
            for (reader, (name, times)) in readers.iter().zip(READERS) {
                let who = format!("{name} {times} in {visibility}");
                let readable = may_read(visibility, times);
                let both = told.topics.iter().zip(&told.said).enumerate();
                let visible: Vec<String> = both
                    .filter(|(stage, _)| readable && may_see(visibility, times, *stage))
                    .flat_map(|(_, (topic, said))| [topic.clone(), said.clone()])
                    .collect();
                ask_for_events(reader, &told, &visible, &who).await;
                page(reader, &told, readable, &visible, &who).await;
                ask_for_relations(reader, &told, &visible, &who).await;
                sync(reader, &told, &visible, &who).await;
                ask_for_state(reader, &told, visibility, times, &who).await;
            }
        }
    })
    .await;
}

/// Other devices of who left and forgot hear that the room was left, and nothing more of it.
#[tokio::test]
async fn of_a_forgotten_room_only_the_leaving_is_told() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&bob.sync(None, "").await);
        alice.say(&room, "while bob was there").await;
        bob.leave(&room).await;
        bob.forget(&room).await;
        let told = bob.sync(Some(&since), "").await;
        let part = &told["rooms"]["leave"][&room];
        let timeline = events(part, &["timeline", "events"]);
        assert_eq!(timeline.len(), 1, "{told}");
        assert_eq!(timeline[0]["content"]["membership"], "leave");
        assert_eq!(timeline[0]["state_key"], bob.id.as_str());
        assert!(events(part, &["state", "events"]).is_empty(), "{told}");
    })
    .await;
}

/// A room with all sorts of events, each of which has to be looked at by itself for Bob, who has been away since.
async fn mixed_room(alice: &User, bob: &User, others: &[User]) -> String {
    let room = alice.create_public().await;
    bob.join(&room).await;
    for other in others {
        other.join(&room).await;
    }
    for (turn, other) in others.iter().cycle().take(40).enumerate() {
        let said = other.say(&room, "something").await;
        let topic = json!({ "topic": turn.to_string() });
        alice.set_state(&room, "m.room.topic", "", topic).await;
        let path = format!("/rooms/{}/redact/{}/t{turn}", esc(&room), esc(&said));
        alice.ok(Method::PUT, &path, json!({})).await;
    }
    bob.leave(&room).await;
    bob.join(&room).await;
    room
}

/// Queries of one request to a server that has just started.
async fn queries(database: &TestDatabase, bob: &User, path: &str) -> u64 {
    let store = database.open().await;
    let bob = User {
        server: Server::new(store.clone()),
        ..bob.clone()
    };
    let before = store.counters().now();
    bob.read(path).await;
    let cost = store.counters().now() - before;
    store.close().await;
    cost.queries
}

#[tokio::test]
async fn a_pages_queries_do_not_grow_with_its_length() {
    for database in TestDatabase::both().await {
        let store: Store = database.open().await;
        let server = Server::new(store.clone());
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let mut others = Vec::new();
        for name in 0..12 {
            others.push(server.register(&format!("other{name}")).await);
        }
        let room = mixed_room(&alice, &bob, &others).await;
        store.close().await;
        let lazy = filter(&json!({"lazy_load_members": true}));
        let messages = |dir: &str, limit: u8| {
            let path = format!("/rooms/{}/messages?dir={dir}&limit={limit}", esc(&room));
            path + &lazy
        };
        let timeline = |limit: u8| {
            let asked = json!({"room": {"timeline": {"limit": limit}}});
            format!("/sync?{}", filter(&asked))
        };
        for (few, many) in [
            (messages("b", 9), messages("b", 90)),
            (messages("f", 9), messages("f", 90)),
            (timeline(9), timeline(90)),
        ] {
            let (of_few, of_many) = (
                queries(&database, &bob, &few).await,
                queries(&database, &bob, &many).await,
            );
            // The states of more events may lie a few nodes deeper.
            assert!(of_many <= of_few + 6, "{many}: {of_few} and {of_many}");
            println!("{many}: {of_few} and {of_many}");
        }
        database.remove().await;
    }
}

/// Whoever looks for what is rare gets on, a bounded piece at a time.
#[tokio::test]
async fn a_search_for_what_is_rare_goes_on_page_by_page() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let first = alice.send(&room, "org.rare", json!({})).await;
        for _ in 0..26 {
            let said = (0..40).map(|_| alice.say(&room, "common"));
            futures_util::future::join_all(said).await;
        }
        let last = alice.send(&room, "org.rare", json!({})).await;
        let rare = filter(&json!({"types": ["org.rare"]}));
        for (dir, wanted) in [("b", [&last, &first]), ("f", [&first, &last])] {
            let (mut from, mut found, mut pages) = (String::new(), Vec::new(), 0);
            loop {
                let path = format!("/rooms/{}/messages?dir={dir}{rare}{from}", esc(&room));
                let before = server.store.counters().now();
                let page = alice.read(&path).await;
                let cost = server.store.counters().now() - before;
                assert!(cost.queries < 60, "{cost:?}");
                found.extend(ids(&events(&page, &["chunk"])));
                pages += 1;
                match page["end"].as_str() {
                    Some(end) => from = format!("&from={end}"),
                    None => break,
                }
                if found.len() == wanted.len() {
                    break;
                }
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{dir}");
            assert_eq!(pages, 2, "{dir}");
        }
        let narrow = json!({"room": {"timeline": {"types": ["org.rare"]}}});
        let told = alice.sync(None, &filter(&narrow)).await;
        let part = &told["rooms"]["join"][&room]["timeline"];
        assert_eq!(ids(&events(part, &["events"])), [last]);
        assert_eq!(part["limited"], true);
    })
    .await;
}
