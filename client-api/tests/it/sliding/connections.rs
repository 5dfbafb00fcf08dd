//! Connections: what is answered again, after a restart, by another process.

use http::Method;
use rhizome_storage::{Dialect, Options, Store, testing::TestDatabase};
use serde_json::json;

use super::client::{Client, first, list, rooms, state, timeline};
use crate::harness::{Server, User, story};

pub fn at(user: &User, server: &Server) -> User {
    User {
        server: server.clone(),
        ..user.clone()
    }
}

/// Waits until all that goes on behind answers is done.
pub async fn is_written(server: &Server) {
    server.unfinished.close();
    server.unfinished.wait().await;
    server.unfinished.reopen();
}

#[tokio::test]
async fn the_same_position_again_gives_what_it_gave_and_what_came_since() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let (one, two) = (ada.create_public().await, ada.create_public().await);
        let mut client = Client::of(&ada);
        client.sync(&first(1)).await;
        // The answer is lost, and another body comes with the same position.
        let lost = client.clone().sync(&first(2)).await;
        assert_eq!(rooms(&lost), [&one]);
        let said = ada.say(&two, "hello").await;
        let again = client.clone().sync(&first(2)).await;
        assert_eq!(rooms(&again).len(), 2, "{again}");
        let other = client.clone().sync(&first(1)).await;
        assert_eq!(rooms(&other), [&two]);
        assert_eq!(timeline(&other, &two), [said]);
        // One of them arrived: it goes on from there.
        client.pos = Some(other["pos"].as_str().unwrap().to_owned());
        assert_eq!(rooms(&client.clone().sync(&first(2)).await), [&one]);
        // Nothing changes what is told, but the position: the token before it goes as well.
        let before = client.clone();
        client.sync(&first(1)).await;
        let said = ada.say(&two, "more").await;
        assert_eq!(
            timeline(&client.sync(&first(1)).await, &two),
            std::slice::from_ref(&said)
        );
        assert_eq!(
            timeline(&before.clone().sync(&first(1)).await, &two),
            [said]
        );
    })
    .await;
}

#[tokio::test]
async fn connections_of_a_device_know_nothing_of_each_other() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        let (mut one, mut two) = (Client::named(&ada, "one"), Client::named(&ada, "two"));
        one.sync(&first(5)).await;
        assert_eq!(rooms(&two.sync(&first(5)).await), [&room]);
        ada.say(&room, "x").await;
        assert_eq!(rooms(&one.sync(&first(5)).await), [&room]);
        assert_eq!(rooms(&two.sync(&first(5)).await), [&room]);
        // A position is its connection's, its device's and its user's.
        for user in [&ada.another_device().await, &server.register("bob").await] {
            let mut thief = Client::named(user, "one");
            thief.pos = one.pos.clone();
            thief.is_unknown(&first(5)).await;
        }
        two.pos = one.pos.clone();
        two.is_unknown(&first(5)).await;
        // Who begins anew ends what was there.
        let mut again = Client::named(&ada, "one");
        again.sync(&first(5)).await;
        one.is_unknown(&first(5)).await;
        again.sync(&first(5)).await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_goes_on_after_a_restart() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let server = Server::new(store.clone());
        let ada = server.register("ada").await;
        let (one, two) = (ada.create_public().await, ada.create_public().await);
        let three = ada.create_public().await;
        let mut client = Client::of(&ada);
        let body = |count| list(count, 1, json!([["m.room.create", ""]]));
        client.sync(&body(1)).await;
        client.sync(&body(2)).await;
        client.sync(&body(2)).await;
        let unconfirmed = client.clone().sync(&body(3)).await;
        assert_eq!(rooms(&unconfirmed), [&one]);
        is_written(&server).await;
        store.close().await;

        let store = database.open().await;
        let server = Server::new(store.clone());
        let ada = at(&ada, &server);
        client.user = ada.clone();
        // The same question, and one that goes on from the answer.
        assert_eq!(rooms(&client.clone().sync(&body(3)).await), [&one]);
        let mut arrived = client.clone();
        arrived.pos = Some(unconfirmed["pos"].as_str().unwrap().to_owned());
        assert_eq!(rooms(&arrived.sync(&body(3)).await), Vec::<&str>::new());
        let said = ada.say(&two, "hello").await;
        let answer = arrived.sync(&body(3)).await;
        assert_eq!(
            (rooms(&answer), timeline(&answer, &two)),
            (vec![two.as_str()], vec![said])
        );
        assert_eq!(answer["rooms"][&two].get("initial"), None);
        // It was confirmed; what it stands at is found again.
        ada.say(&one, "below").await;
        ada.say(&three, "above").await;
        arrived.sync(&body(1)).await;
        is_written(&server).await;
        store.close().await;

        let store = database.open().await;
        let server = Server::new(store.clone());
        arrived.user = at(&ada, &server);
        let answer = arrived.sync(&body(3)).await;
        assert_eq!(rooms(&answer), [&one], "it fell behind");
        assert_eq!(answer["rooms"][&one]["num_live"], 0);
        assert_eq!(answer["rooms"][&one].get("initial"), None);
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn another_process_goes_on_with_a_connection() {
    for database in TestDatabase::both().await {
        if database.dialect() == Dialect::Sqlite {
            continue;
        }
        let stores = [database.open().await, database.open().await];
        let servers = stores.clone().map(Server::new);
        let ada = servers[0].register("ada").await;
        let mut all = Vec::new();
        for _ in 0..8 {
            all.push(ada.create_public().await);
        }
        let mut client = Client::of(&ada);
        for count in 1..=8 {
            client.user = at(&ada, &servers[count % 2]);
            let answer = client.sync(&first(count)).await;
            assert_eq!(rooms(&answer), [&all[8 - count]], "{count}");
        }
        for (n, room) in all.iter().enumerate() {
            let said = at(&ada, &servers[n % 2]).say(room, "hello").await;
            client.user = at(&ada, &servers[(n / 2) % 2]);
            let answer = client.sync(&first(8)).await;
            assert_eq!(
                (rooms(&answer), timeline(&answer, room)),
                (vec![room.as_str()], vec![said])
            );
        }
        for store in stores {
            store.close().await;
        }
        database.remove().await;
    }
}

#[tokio::test]
async fn connections_go_with_their_device_and_the_oldest_when_there_are_many() {
    story(|server| async move {
        let ada = server.register("ada").await;
        ada.create_public().await;
        let phone = ada.another_device().await;
        let names = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q",
            "r",
        ];
        for name in names {
            Client::named(&phone, name).sync(&first(5)).await;
            is_written(&server).await;
        }
        let (user, device) = (
            ada.id.as_str().try_into().unwrap(),
            crate::to_device::device_of(&phone).await,
        );
        let user = server.store.known_user(user).await.unwrap().unwrap();
        let known = async |name: &str| {
            let device = device.as_str().into();
            server
                .store
                .sliding_connection(user, device, name)
                .await
                .unwrap()
                .is_some()
        };
        assert!(!known("a").await && !known("b").await && known("c").await && known("r").await);
        phone.ok(Method::POST, "/logout", json!({})).await;
        assert!(!known("c").await && !known("r").await);
    })
    .await;
}

#[tokio::test]
async fn who_was_away_for_long_is_told_what_they_missed() {
    for database in TestDatabase::both().await {
        let options = Options {
            tail_entries: 8,
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let server = Server::new(store.clone());
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(ada.create_public().await);
        }
        for room in &all {
            bob.join(room).await;
        }
        let mut client = Client::of(&bob);
        client.sync(&first(5)).await;
        ada.set_state(&all[1], "m.room.name", "", json!({ "name": "N" }))
            .await;
        let mut last = String::new();
        for n in 0..30 {
            last = ada.say(&all[n % 2], &n.to_string()).await;
        }
        ada.leave(&all[4]).await;
        let narrow = client.clone().sync(&first(2)).await;
        assert_eq!(rooms(&narrow).len(), 2, "{narrow}");
        let answer = client.sync(&first(5)).await;
        let mut expected = [all[0].as_str(), &all[1], &all[4]];
        expected.sort_unstable();
        assert_eq!(rooms(&answer), expected);
        assert_eq!(timeline(&answer, &all[1]), [last]);
        let told = &answer["rooms"][&all[1]];
        assert_eq!(
            (&told["name"], &told["limited"]),
            (&json!("N"), &json!(true))
        );
        assert_eq!(told.get("initial"), None);
        assert_eq!(client.sync(&first(5)).await["rooms"], json!({}));
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn answers_to_the_same_position_do_not_mix_up_what_state_they_told() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let room = ada
            .create(json!({ "name": "name", "topic": "topic" }))
            .await;
        let wanting = |kind: &str| list(5, 1, json!([[kind, ""]]));
        let mut client = Client::of(&ada);
        client.sync(&wanting("m.room.create")).await;
        client.sync(&wanting("m.room.create")).await;
        let mut other = client.clone();
        let answer = other.sync(&wanting("m.room.name")).await;
        assert_eq!(
            state(&answer, &room),
            [("m.room.name".to_owned(), String::new())]
        );
        let answer = client.sync(&wanting("m.room.topic")).await;
        assert_eq!(
            state(&answer, &room),
            [("m.room.topic".to_owned(), String::new())]
        );
        // Who was told the topic hasn't got the name.
        let answer = client.sync(&wanting("m.room.name")).await;
        assert_eq!(
            state(&answer, &room),
            [("m.room.name".to_owned(), String::new())]
        );
        assert_eq!(
            client.sync(&wanting("m.room.topic")).await["rooms"],
            json!({})
        );
    })
    .await;
}

#[tokio::test]
async fn members_that_a_lost_answer_told_are_told_again() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        bob.join(&room).await;
        ada.say(&room, "hello").await;
        let other = ada.create_public().await;
        let lazy = |count: usize| list(count, 1, json!([["m.room.member", "$LAZY"]]));
        let mut client = Client::of(&ada);
        client.sync(&lazy(5)).await;
        let of_bob = [("m.room.member".to_owned(), bob.id.clone())];
        bob.say(&room, "hello").await;
        let lost = client.clone().sync(&lazy(5)).await;
        assert_eq!(state(&lost, &room), of_bob);
        // The next answer has only the other room: this one falls behind.
        ada.say(&other, "on top").await;
        assert_eq!(rooms(&client.sync(&lazy(1)).await), [&other]);
        let answer = client.sync(&lazy(5)).await;
        assert_eq!(state(&answer, &room), of_bob);
    })
    .await;
}
