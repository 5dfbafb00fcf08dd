//! Two processes on one database: each event is sent once, whoever has the lease.

use std::time::Duration;

use futures_util::future::join_all;
use rhizome_storage::{
    Clock, Store,
    testing::{TestDatabase, eventually},
};
use tokio::task::JoinHandle;

use super::{START, act, listed, numbers, open, send, sending, stop};
use crate::harness::{Server, User};

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
