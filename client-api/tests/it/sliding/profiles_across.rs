//! Profiles in pieces, after a restart, at other processes and of users of other servers (MSC4262).

use rhizome_storage::{Dialect, testing::TestDatabase};
use serde_json::{Value, json};

use super::{
    client::Client,
    connections::{at, is_written},
    profiles::{all, news, set, told, unset, updated},
};
use crate::{e2ee::several::several, harness::Server};

/// More than an answer has room for: pieces of a room, and no piece is lost by a lost answer, or a restart.
#[tokio::test]
async fn a_large_room_comes_in_pieces() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let mut server = Server::new(store.clone());
        let bob = server.register("bob").await;
        let room = bob.create_public().await;
        let mut users = Vec::new();
        for n in 0..40 {
            let user = server.register(&format!("user{n}")).await;
            user.join(&room).await;
            set(&user, "org.x", json!("x".repeat(60_000))).await;
            users.push(user);
        }
        let mut client = Client::of(&bob);
        let mut found = std::collections::BTreeMap::new();
        for turn in 0.. {
            // It is given at once, as long as there is more.
            let (_, lost) = client.clone().ask(&all(), 170_000).await;
            if turn == 1 {
                is_written(&server).await;
                server = Server::new(store.clone());
                client.user = at(&bob, &server);
            }
            let answer = client.wait(&all(), 170_000).await;
            assert_eq!(told(&answer), told(&lost));
            assert!(answer.to_string().len() < 3 << 20);
            let before = found.len();
            found.extend(told(&answer).as_object().unwrap().clone());
            assert!(found.len() > before);
            if found.len() == users.len() {
                break;
            }
        }
        assert_eq!(told(&client.sync(&all()).await), Value::Null);
        // Many changes at once come in pieces as well.
        for user in &users {
            set(user, "org.x", json!("y".repeat(60_000))).await;
        }
        let mut found = std::collections::BTreeSet::new();
        while found.len() < users.len() {
            let (_, lost) = client.clone().ask(&all(), 170_000).await;
            let answer = client.wait(&all(), 170_000).await;
            assert_eq!(told(&answer), told(&lost));
            assert!(answer.to_string().len() < 3 << 20);
            for (user, told) in told(&answer).as_object().unwrap() {
                assert!(told["updated"]["org.x"].as_str().unwrap().starts_with('y'));
                assert!(found.insert(user.clone()), "{user} again");
            }
        }
        // Who comes into a room whose members a client has.
        let late = server.register("late").await;
        set(&late, "org.x", json!(1)).await;
        late.join(&room).await;
        assert_eq!(
            told(&client.sync(&all()).await),
            updated(&late, &json!({ "org.x": 1 }))
        );
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn it_goes_on_after_a_restart_and_at_another_process() {
    for database in TestDatabase::both().await {
        let stores = match database.dialect() {
            Dialect::Sqlite => vec![database.open().await],
            Dialect::Postgres => vec![database.open().await, database.open().await],
        };
        let servers: Vec<Server> = stores
            .iter()
            .map(|store| Server::new(store.clone()))
            .collect();
        let (ada, bob) = (
            servers[0].register("ada").await,
            servers[0].register("bob").await,
        );
        let room = ada.create_public().await;
        bob.join(&room).await;
        set(&ada, "org.a", json!(0)).await;
        let mut client = Client::of(&bob);
        let first = client.clone();
        client.sync(&all()).await;
        is_written(&servers[0]).await;
        let last = servers.last().unwrap();
        client.user = at(&bob, last);
        let polling = client.poll(&all()).await;
        set(&ada, "org.a", json!(1)).await;
        assert_eq!(
            told(&polling.await.unwrap()),
            updated(&ada, &json!({ "org.a": 1 }))
        );
        unset(&ada, "org.a").await;
        // Beyond what a process has in memory.
        let gone = json!({ &ada.id: { "removed": ["org.a"] } });
        let fresh = database.open().await;
        let mut at_fresh = client.clone();
        at_fresh.user = at(&bob, &Server::new(fresh.clone()));
        assert_eq!(told(&at_fresh.sync(&all()).await), gone);
        assert_eq!(told(&at_fresh.sync(&all()).await), Value::Null);
        // Whom one process has told of, another says to be gone.
        set(&ada, "org.a", json!(2)).await;
        at_fresh.sync(&all()).await;
        ada.leave(&room).await;
        let mut there = at_fresh.clone();
        there.user = at(&bob, last);
        assert_eq!(told(&there.sync(&all()).await), json!({ &ada.id: null }));
        ada.join(&room).await;
        // The one that told of them first hears of it by the position.
        at_fresh.user = at(&bob, &servers[0]);
        at_fresh.pos.clone_from(&there.pos);
        let again = updated(&ada, &json!({ "org.a": 2 }));
        assert_eq!(told(&at_fresh.sync(&all()).await), again);
        assert_eq!(told(&first.clone().sync(&all()).await), again);
        fresh.close().await;
        for store in stores {
            store.close().await;
        }
        database.remove().await;
    }
}

/// Of users of other servers we know what their memberships say.
#[tokio::test(flavor = "multi_thread")]
async fn users_of_other_servers_are_told_as_their_memberships_say() {
    several(2, async |all_servers| {
        let ada = all_servers.server(0).register("ada").await;
        let bob = all_servers.server(1).register("bob").await;
        set(&bob, "displayname", json!("Bob")).await;
        set(&bob, "m.tz", json!("UTC")).await;
        let room = ada.create_public().await;
        let mut client = Client::of(&ada);
        client.sync(&all()).await;
        assert!(all_servers.join(&bob, &room).await);
        let comes = async |client: &mut Client, expected: Value| {
            assert_eq!(news(client).await, updated(&bob, &expected));
        };
        comes(&mut client, json!({ "displayname": "Bob" })).await;
        set(&bob, "avatar_url", json!("mxc://b.example/a")).await;
        comes(&mut client, json!({ "avatar_url": "mxc://b.example/a" })).await;
        unset(&bob, "displayname").await;
        let expected = json!({ &bob.id: { "removed": ["displayname"] } });
        assert_eq!(news(&mut client).await, expected);
        // To who begins, the same.
        let mut begins = Client::named(&ada, "begins");
        let expected = updated(&bob, &json!({ "avatar_url": "mxc://b.example/a" }));
        assert_eq!(told(&begins.sync(&all()).await), expected);
        // There, all of it is known, and of those here the memberships.
        let mut theirs = Client::of(&bob);
        set(&ada, "displayname", json!("Ada")).await;
        set(&ada, "m.tz", json!("UTC")).await;
        loop {
            let found = news(&mut theirs).await;
            if found[&ada.id]["updated"]["displayname"] == "Ada" {
                assert_eq!(found[&ada.id]["updated"].get("m.tz"), None);
                break;
            }
        }
        client.sync(&all()).await;
        bob.leave(&room).await;
        assert_eq!(news(&mut client).await, json!({ &bob.id: null }));
    })
    .await;
}
