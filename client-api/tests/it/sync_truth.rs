//! What `/sync` tells is what happened, whichever way the log is read, whoever writes meanwhile, and without
//! asking the database when it is warm.

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, StatusCode};
use rhizome_client_api::Window;
use rhizome_storage::{Options, Store, StoredEvent, testing::TestDatabase};
use serde_json::json;

use crate::{
    harness::{Server, User, esc, filter, next, story, timeline},
    model::{Model, state_of},
    random::Random,
};

#[tokio::test]
async fn whatever_happens_a_client_ends_with_the_servers_state() {
    story(|server| live(server, 120)).await;
}

#[tokio::test]
async fn the_same_when_the_log_has_left_memory() {
    for database in TestDatabase::both().await {
        let options = Options {
            tail_entries: 5,
            memory: 64 << 10,
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        live(Server::new(store.clone()), 60).await;
        store.close().await;
        database.remove().await;
    }
}

/// Random operations in two rooms, and clients that look now and then.
async fn live(server: Server, steps: usize) {
    let mut life = Life::begin(&server).await;
    // Three devices of bob, so that each has its own past.
    let mut readers = Vec::new();
    for query in queries() {
        readers.push((life.bob.another_device().await, query, Model::default()));
    }
    let mut random = Random(4711);
    for step in 0..steps {
        life.go_on(step, &mut random).await;
        let reader = random.below(6);
        if let Some((user, query, model)) = readers.get_mut(reader) {
            model.catch_up(user, query).await;
        }
    }
    for (user, query, model) in &mut readers {
        model.catch_up(user, query).await;
        life.is_what_they_believe(user, query, model).await;
    }
}

/// With few events at a time, with some hidden, with the state as it is afterwards.
fn queries() -> [String; 3] {
    let narrow = filter(&json!({"room": {"timeline": {"limit": 2}}}));
    let hiding =
        filter(&json!({"room": {"timeline": {"limit": 3, "not_types": ["m.room.topic"]}}}));
    let after = format!("{narrow}&use_state_after=true");
    [narrow, hiding, after]
}

/// Two rooms of alice's, where bob and carol come and go.
struct Life {
    alice: User,
    bob: User,
    carol: User,
    rooms: [String; 2],
    /// Which of them bob is in.
    inside: [bool; 2],
}

impl Life {
    async fn begin(server: &Server) -> Self {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let rooms = [alice.create_public().await, alice.create_public().await];
        Self {
            alice,
            bob,
            carol,
            rooms,
            inside: [false; 2],
        }
    }

    /// Somebody does something.
    async fn go_on(&mut self, step: usize, random: &mut Random) {
        let at = random.below(2);
        let room = &self.rooms[at];
        match random.below(8) {
            0 if self.inside[at] => {
                self.bob.leave(room).await;
                self.inside[at] = false;
            }
            0 | 1 if !self.inside[at] => {
                self.bob.join(room).await;
                self.inside[at] = true;
            }
            2 => {
                let topic = json!({"topic": step.to_string()});
                self.alice.set_state(room, "m.room.topic", "", topic).await;
            }
            3 => {
                let (key, content) = (random.below(3).to_string(), json!({"n": step}));
                self.alice.set_state(room, "org.test", &key, content).await;
            }
            4 => {
                let status = self.carol_wants("join", room).await;
                assert!(status == StatusCode::OK);
            }
            // She may not be there.
            5 => drop(self.carol_wants("leave", room).await),
            6 => {
                let path = format!("/profile/{}/displayname", esc(&self.carol.id));
                let name = json!({"displayname": step.to_string()});
                self.carol.ok(Method::PUT, &path, name).await;
            }
            _ => drop(self.alice.say(room, &step.to_string()).await),
        }
    }

    async fn carol_wants(&self, what: &str, room: &str) -> StatusCode {
        let path = format!("/rooms/{}/{what}", esc(room));
        let (status, _) = self.carol.call(Method::POST, &path, Some(json!({}))).await;
        status
    }

    /// A device of bob believes what is so: of the rooms that he is in their state, of others nothing.
    async fn is_what_they_believe(&self, device: &User, query: &str, model: &Model) {
        for (room, inside) in self.rooms.iter().zip(self.inside) {
            if inside {
                assert_eq!(model.state[room], state_of(device, room).await, "{query}");
            } else {
                assert!(!model.state.contains_key(room), "{query}");
            }
        }
    }
}

#[tokio::test]
async fn a_window_is_the_same_whichever_way_it_is_read() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (room, other) = (alice.create_public().await, alice.create_public().await);
        bob.create_public().await;
        let store = &server.store;
        let after = store.log().head();
        bob.join(&room).await;
        alice
            .set_state(&room, "m.room.topic", "", json!({"topic": "x"}))
            .await;
        let said = bob.say(&room, "hello").await;
        bob.ok(
            Method::POST,
            &format!("/rooms/{}/receipt/m.read/{}", esc(&room), esc(&said)),
            json!({}),
        )
        .await;
        alice
            .ok(
                Method::PUT,
                &format!("/user/{}/account_data/a", esc(&alice.id)),
                json!({ "n": after.0 }),
            )
            .await;
        let in_room = format!(
            "/user/{}/rooms/{}/account_data/b",
            esc(&alice.id),
            esc(&other)
        );
        let content = json!({ "n": after.0 });
        alice.ok(Method::PUT, &in_room, content).await;
        let upto = store.log().head();
        let user = store
            .user_no(&ruma::UserId::parse(&alice.id).unwrap())
            .await
            .unwrap();
        let rows = store.memberships_of(user).await.unwrap();
        let tail = Window::read(store, user, &rows, after, upto).await.unwrap();
        let rooms = Window::read_by_room(store, user, &rows, after, upto)
            .await
            .unwrap();
        assert_eq!(tail.rooms.len(), 2);
        for (room, part) in &tail.rooms {
            let cold = &rooms.rooms[room];
            let nos = |events: &[Arc<StoredEvent>]| {
                events.iter().map(|event| event.no).collect::<Vec<_>>()
            };
            assert_eq!(nos(&part.events), nos(&cold.events));
            assert_eq!(
                (&part.changes, &part.members),
                (&cold.changes, &cold.members)
            );
            assert_eq!(
                (&part.receipts, &part.account_data),
                (&cold.receipts, &cold.account_data)
            );
            assert!(part.whole && cold.whole);
        }
        assert_eq!(tail.account_data, rooms.account_data);
        // Another process, whose tail begins now, reads the log from the database.
        let fresh = store.log().read(after, upto, 1_000).await.unwrap();
        assert_eq!(i64::try_from(fresh.len()).unwrap(), upto.0 - after.0);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_while_many_write() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let rooms = [alice.create_public().await, alice.create_public().await];
        let since = next(&alice.sync(None, "").await);
        let mut writers = Vec::new();
        for n in 0..4 {
            let (writer, rooms) = (server.register(&format!("writer{n}")).await, rooms.clone());
            writers.push(tokio::spawn(async move {
                let mut said = Vec::new();
                for (at, room) in rooms.iter().cycle().take(30).enumerate() {
                    if at < 2 {
                        writer.join(room).await;
                    }
                    said.push((room.clone(), writer.say(room, &at.to_string()).await));
                }
                said
            }));
        }
        let wide =
            filter(&json!({"room": {"timeline": {"limit": 500, "types": ["m.room.message"]}}}));
        let (mut since, mut seen) = (since, BTreeMap::<String, Vec<String>>::new());
        let mut told = 0;
        while told < 120 {
            let sync = alice
                .sync(Some(&since), &format!("&timeout=60000{wide}"))
                .await;
            since = next(&sync);
            for room in &rooms {
                let new = timeline(&sync, room);
                told += new.len();
                seen.entry(room.clone()).or_default().extend(new);
            }
        }
        for writer in writers {
            for (room, said) in writer.await.unwrap() {
                assert_eq!(seen[&room].iter().filter(|id| **id == said).count(), 1);
            }
        }
        // Each reader was told the order that the history has.
        for room in &rooms {
            let whole = alice
                .sync(
                    None,
                    &filter(&json!({"room": {"timeline": {"limit": 60,
                "types": ["m.room.message"]}, "rooms": [room]}})),
                )
                .await;
            assert_eq!(timeline(&whole, room), seen[room]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_warm_incremental_sync_reads_nothing_from_the_database() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let lazy = filter(&json!({"room": {"state": {"lazy_load_members": true}}}));
        let first = alice.sync(None, &lazy).await;
        bob.say(&room, "warms").await;
        let warm = alice.sync(Some(&next(&first)), &lazy).await;
        let said = bob.say(&room, "hello").await;
        let before = server.store.counters().now();
        let told = alice.sync(Some(&next(&warm)), &lazy).await;
        let cost = server.store.counters().now() - before;
        assert_eq!(timeline(&told, &room), [said]);
        // Asking what other processes have written, at each request and by the clock, is all that a
        // shared database may cost.
        let asking = if server.store.dialect() == rhizome_storage::Dialect::Postgres {
            40
        } else {
            0
        };
        assert!(cost.queries <= asking, "{cost:?}");
        assert_eq!(cost.event_reads, 0);
    })
    .await;
}

#[tokio::test]
async fn a_herd_of_readers_costs_the_database_nothing() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let mut herd = Vec::new();
        for n in 0..12 {
            let user = server.register(&format!("user{n}")).await;
            user.join(&room).await;
            herd.push(user);
        }
        let mut told: Vec<String> = Vec::new();
        for user in &herd {
            told.push(next(&user.sync(None, "").await));
        }
        // What sending costs by itself.
        alice.say(&room, "warms").await;
        let before = server.store.counters().now();
        alice.say(&room, "alone").await;
        let alone = server.store.counters().now() - before;

        let mut since = Vec::new();
        for (user, token) in herd.iter().zip(&told) {
            since.push(next(&user.sync(Some(token), "").await));
        }
        let mut polls = Vec::new();
        for (user, since) in herd.iter().zip(since) {
            polls.push(user.poll(&since).await);
        }
        let before = server.store.counters().now();
        let said = alice.say(&room, "to all").await;
        for poll in polls {
            assert_eq!(
                timeline(&poll.await.unwrap(), &room),
                std::slice::from_ref(&said)
            );
        }
        let cost = server.store.counters().now() - before;
        assert!(cost.wake_ups <= 12, "{cost:?}");
        assert_eq!(cost.event_reads, 0);
        // Asking what other processes have written is all that a reader of a shared database costs.
        let shared = server.store.dialect() == rhizome_storage::Dialect::Postgres;
        let refreshes = if shared { 2 * 12 } else { 0 };
        assert!(
            cost.queries <= alone.queries + refreshes,
            "{cost:?} {alone:?}"
        );
    })
    .await;
}
