//! What comes from other servers: messages to devices of a service's users, and who is in a room that was joined before that
//! was known.

use http::Method;
use rhizome_storage::{
    Error,
    testing::{TestDatabase, eventually},
};
use ruma::server_name;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    World, each, irc,
    keys::{LISTS, TO_DEVICE, said, with_device},
    open,
};
use crate::{
    harness::{Server, esc},
    to_device::send,
};

/// Another server.
struct There {
    server: Server,
    database: TestDatabase,
}

impl There {
    async fn new(world: &World) -> Self {
        let database = TestDatabase::sqlite();
        let (name, store) = (server_name!("there"), open(&database, &world.clock).await);
        let server = Server::named(name, 8, store, &world.network, |_| {});
        Self { server, database }
    }

    async fn end(self) {
        self.server.store.close().await;
        self.database.remove().await;
    }
}

/// What a server does with others by itself.
struct Running(CancellationToken, JoinHandle<Result<(), Error>>);

impl Running {
    fn of(server: &Server) -> Self {
        let stop = CancellationToken::new();
        let (fed, stopped) = (server.federation.clone(), stop.clone());
        let running = tokio::spawn(async move { fed.run(stopped.cancelled_owned()).await });
        Self(stop, running)
    }

    async fn end(self) {
        self.0.cancel();
        self.1.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn messages_to_its_users_devices_come_in_order_from_another_server() {
    each(&[irc], async |world| {
        with_device(world).await;
        let there = There::new(world).await;
        let bob = there.server.register("bob").await;
        let running = Running::of(&there.server);
        for n in 0..3 {
            let to = json!({ "@irc_ann:here": { "BRIDGE": { "n": n } }, "@eve:here": { "*": {} } });
            send(&bob, &format!("txn{n}"), to).await;
        }
        let told = || -> Vec<Value> {
            let lists = said(world, TO_DEVICE).into_iter();
            lists
                .flat_map(|list| list.as_array().unwrap().clone())
                .collect()
        };
        eventually("all are told", async || told().len() >= 3).await;
        let message = |n: u64| {
            json!({
                "type": "m.test", "sender": "@bob:there", "content": { "n": n },
                "to_user_id": "@irc_ann:here", "to_device_id": "BRIDGE",
            })
        };
        assert_eq!(told(), [message(0), message(1), message(2)]);
        running.end().await;
        there.end().await;
    })
    .await;
}

#[tokio::test]
async fn whose_devices_to_look_at_is_told_once_it_is_known_who_is_in_the_room() {
    each(&[irc], async |world| {
        let ann = with_device(world).await;
        let there = There::new(world).await;
        let (bob, zoe) = (
            there.server.register("bob").await,
            there.server.register("zoe").await,
        );
        // Those by whom a room without a name is called are told at once.
        let named = json!({ "preset": "public_chat", "name": "A room" });
        let room = bob.create(named).await;
        zoe.join(&room).await;
        let path = format!("/join/{}?via=there", esc(&room));
        ann.ok(Method::POST, &path, json!({})).await;
        eventually("the join is told", async || {
            !world.irc().events(&room).is_empty()
        })
        .await;
        let changed = || -> Vec<Value> {
            let lists = said(world, LISTS).into_iter();
            lists
                .flat_map(|lists| lists["changed"].as_array().unwrap().clone())
                .collect()
        };
        assert!(!changed().contains(&json!(zoe.id)), "{:?}", changed());
        let running = Running::of(&world.server);
        eventually("all are told", async || {
            [&bob, &zoe].map(|one| changed().contains(&json!(one.id))) == [true, true]
        })
        .await;
        running.end().await;
        there.end().await;
    })
    .await;
}
