//! Two processes on one database: each event is sent once, whoever has the lease. And two servers, and nobody who has
//! anything to send.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use rhizome_storage::{
    Clock, Store,
    testing::{TestDatabase, eventually},
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{START, act, got, left, listed, numbers, open, send, sending, stop};
use crate::{
    e2ee::several::several,
    harness::{Server, User, esc},
};

/// Two processes, each with its own server.
struct Pair {
    database: TestDatabase,
    clock: Clock,
    stores: Vec<Store>,
    servers: Vec<Server>,
    sending: Vec<JoinHandle<()>>,
}

impl Pair {
    async fn new() -> Self {
        let database = TestDatabase::postgres().await;
        let clock = Clock::manual(START);
        let mut stores = Vec::new();
        for _ in 0..2 {
            stores.push(open(&database, &clock).await);
        }
        let servers: Vec<_> = stores.iter().cloned().map(Server::new).collect();
        let sending = servers.iter().map(sending).collect();
        Self {
            database,
            clock,
            stores,
            servers,
            sending,
        }
    }

    /// A user as the other process has them.
    fn there(&self, user: &User) -> User {
        User {
            server: self.servers[1].clone(),
            ..user.clone()
        }
    }

    /// Waits until nothing of the user's is left, while time goes on.
    async fn all_sent(&self, user: &User) {
        eventually("all is sent", async || {
            self.clock.advance(Duration::from_millis(500));
            listed(user).await.is_empty()
        })
        .await;
    }

    async fn end(self) {
        for (server, sending) in self.servers.iter().zip(self.sending) {
            stop(server, sending).await;
        }
        for store in self.stores {
            store.close().await;
        }
        self.database.remove().await;
    }
}

#[tokio::test]
async fn each_is_sent_once_by_whichever_process() {
    let pair = Pair::new().await;
    let alice = pair.servers[0].register("alice").await;
    let there = pair.there(&alice);
    let room = alice.create_public().await;
    let mut ids = Vec::new();
    for n in 0..40 {
        // Both schedule; the one that sends hears of what the other does.
        let by = if n % 2 == 0 { &alice } else { &there };
        ids.push(send(by, &room, n, 1_000 + n).await);
    }
    // Some are sent by hand, in both at once, while they become due.
    let by_hand = ids.iter().step_by(3).flat_map(|id| {
        let servers = pair.servers.iter();
        servers.map(move |server| act(server, id, "send"))
    });
    let (answers, ()) = tokio::join!(join_all(by_hand), pair.all_sent(&alice));
    for (status, answer) in answers {
        assert_eq!(status, 200, "{answer}");
    }
    for user in [&alice, &there] {
        eventually("all are there", async || {
            numbers(user, &room).await.len() == 40
        })
        .await;
        let mut numbers = numbers(user, &room).await;
        numbers.sort_unstable();
        assert_eq!(numbers, (0..40).collect::<Vec<i64>>());
    }
    pair.end().await;
}

#[tokio::test]
async fn another_goes_on_when_one_stops() {
    let mut pair = Pair::new().await;
    let alice = pair.servers[0].register("alice").await;
    let there = pair.there(&alice);
    let room = alice.create_public().await;
    send(&alice, &room, 1, 1_000).await;
    pair.all_sent(&alice).await;
    let first = pair.sending.remove(0);
    stop(&pair.servers[0], first).await;
    // Scheduled here, sent there: either one may have been the one that has stopped.
    send(&there, &room, 2, 1_000).await;
    pair.all_sent(&there).await;
    assert_eq!(numbers(&there, &room).await, [1, 2]);
    pair.sending.insert(0, tokio::spawn(async {}));
    pair.end().await;
}

/// An invite is signed by the other server, when it is due.
#[tokio::test(flavor = "multi_thread")]
async fn another_servers_user_is_invited_later() {
    several(2, async |all| {
        let here = all.server(0).clone();
        let sends = sending(&here);
        let alice = here.register("alice").await;
        let bob = all.server(1).register("bob").await;
        let room = alice.create(json!({ "preset": "private_chat" })).await;
        let path = format!(
            "/rooms/{}/state/m.room.member/{}?org.matrix.msc4140.delay=1",
            esc(&room),
            esc(&bob.id)
        );
        let invite = json!({ "membership": "invite", "reason": "later" });
        let answer = alice.ok(Method::PUT, &path, invite).await;
        let id = answer["delay_id"].as_str().unwrap();
        left(&alice, 0).await;
        let (_, event) = got(&alice, id).await;
        assert!(event["event_id"].is_string(), "{event}");
        eventually("bob hears of it", async || {
            !bob.sync(None, "").await["rooms"]["invite"][&room].is_null()
        })
        .await;
        assert_eq!(act(&here, id, "send").await.0, 200);
        stop(&here, sends).await;
    })
    .await;
}

/// As long as nothing is scheduled, the task costs nothing.
#[tokio::test]
async fn whoever_has_nothing_to_send_asks_for_nothing() {
    let database = TestDatabase::sqlite();
    let clock = Clock::manual(START);
    let store = open(&database, &clock).await;
    let server = Server::new(store.clone());
    let sends = sending(&server);
    let alice = server.register("alice").await;
    let room = alice.create_public().await;
    send(&alice, &room, 1, 1_000).await;
    clock.advance(Duration::from_secs(1));
    left(&alice, 0).await;
    let queries = || store.counters().now().queries;
    let before = queries();
    for _ in 0..1_000 {
        clock.advance(Duration::from_hours(1));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    let more = queries() - before;
    assert!(more < 20, "{more} queries");
    stop(&server, sends).await;
    store.close().await;
    database.remove().await;
}
