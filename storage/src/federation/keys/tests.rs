//! Keys are stored as answers say, and forgotten.

use ruma::server_name;

use super::*;
use crate::testing::each_database;

fn key(id: &str, valid_until: Option<i64>, expired: Option<i64>) -> StoredKey {
    StoredKey {
        key_id: id.to_owned(),
        public: format!("public of {id}"),
        valid_until,
        expired,
    }
}

#[tokio::test]
async fn keys_are_replaced_and_old_ones_kept() {
    each_database(async |store: Store| {
        let server = server_name!("a.example:8448");
        assert_eq!(store.server_keys(server).await.unwrap(), (vec![], 0));
        assert_eq!(store.key_responses(server).await.unwrap(), []);
        let mut answer = KeyResponse {
            server: server.to_owned(),
            response: r#"{"hostile":"\u0000 ' \" é"}"#.to_owned(),
            valid_until: 50,
            fetched: 10,
        };
        let keys = [
            key("ed25519:1", Some(50), None),
            key("ed25519:2", None, Some(5)),
        ];
        let stored = store.store_server_keys(&answer, &[], &keys, 0);
        assert!(stored.await.unwrap());
        assert_eq!(
            store.server_keys(server).await.unwrap(),
            (keys.to_vec(), 10)
        );
        let first = answer.clone();
        let responses = store.key_responses(server).await.unwrap();
        assert_eq!(responses, std::slice::from_ref(&first));
        answer.fetched = 20;
        let newer = [
            key("ed25519:1", None, Some(15)),
            key("ed25519:3", Some(90), None),
        ];
        let former = [first.clone(), first.clone()];
        let stored = store.store_server_keys(&answer, &former, &newer, 10);
        assert!(stored.await.unwrap());
        let responses = store.key_responses(server).await.unwrap();
        assert_eq!(responses, [answer.clone(), first.clone(), first.clone()]);
        answer.fetched = 30;
        let stored = store.store_server_keys(&answer, &former[..1], &newer, 20);
        assert!(stored.await.unwrap());
        let responses = store.key_responses(server).await.unwrap();
        assert_eq!(responses, [answer.clone(), first]);
        // Who has seen something else changes nothing.
        answer.fetched = 40;
        let unseen = [key("ed25519:1", Some(500), None)];
        for seen in [0, 10, 20, 31] {
            let stored = store.store_server_keys(&answer, &[], &unseen, seen);
            assert!(!stored.await.unwrap(), "{seen}");
        }
        assert_eq!(store.key_responses(server).await.unwrap().len(), 2);
        let all = vec![newer[0].clone(), keys[1].clone(), newer[1].clone()];
        assert_eq!(store.server_keys(server).await.unwrap(), (all, 30));
        assert_eq!(
            store
                .server_keys(server_name!("b.example"))
                .await
                .unwrap()
                .0,
            vec![]
        );
    })
    .await;
}

#[tokio::test]
async fn servers_are_told_whose_keys_end() {
    each_database(async |store: Store| {
        let joins = async |room: i64, server: &ServerName, joined: i64| {
            let no = store.server_nos(&[server]).await.unwrap()[0];
            let query = store
                .sql("INSERT INTO room_server (room, server, joined) VALUES ($1, $2, $3)")
                .bind(room)
                .bind(no)
                .bind(joined);
            store.execute(query).await.unwrap();
        };
        // We have left the second room.
        let us = server_name!("us");
        joins(1, us, 1).await;
        joins(2, us, 0).await;
        for (server, ends, room, joined) in [
            ("ended", [50, 99], 1, 1),
            ("late", [150, 199], 1, 1),
            ("early", [50, 100], 1, 2),
            ("lasting", [120, 200], 1, 1),
            ("left", [50, 150], 1, 0),
            ("elsewhere", [50, 150], 2, 1),
        ] {
            let answer = KeyResponse {
                server: server.try_into().unwrap(),
                response: "{}".to_owned(),
                valid_until: 500,
                fetched: 1,
            };
            let mut keys = vec![key("ed25519:o", None, Some(150))];
            for ends in ends {
                keys.push(key(&format!("ed25519:{ends}"), Some(ends), None));
            }
            let stored = store.store_server_keys(&answer, &[], &keys, 0);
            assert!(stored.await.unwrap());
            joins(room, &answer.server, joined).await;
        }
        let ending = async |limit| {
            let servers = store.servers_whose_keys_end(us, 100, 200, limit).await;
            let servers = servers.unwrap();
            servers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ending(9).await, ["early", "late"]);
        assert_eq!(ending(1).await, ["early"]);
    })
    .await;
}

#[tokio::test]
async fn keys_of_strangers_are_forgotten() {
    each_database(async |store: Store| {
        let store_keys = async |server: &str, fetched| {
            let answer = KeyResponse {
                server: server.try_into().unwrap(),
                response: "{}".to_owned(),
                valid_until: 50,
                fetched,
            };
            let keys = [key("ed25519:1", Some(50), None)];
            let former = std::slice::from_ref(&answer);
            let stored = store.store_server_keys(&answer, former, &keys, 0);
            assert!(stored.await.unwrap());
        };
        for (server, fetched) in [("old", 1), ("a", 10), ("b", 11), ("c", 12), ("member", 2)] {
            store_keys(server, fetched).await;
        }
        // One of them had a member in a room.
        let no = store.server_nos(&[server_name!("member")]).await.unwrap()[0];
        let query = store
            .sql("INSERT INTO room_server (room, server, joined) VALUES (1, $1, 0)")
            .bind(no);
        store.execute(query).await.unwrap();

        assert_eq!(store.forget_strangers_keys(2, 5).await.unwrap(), 2);
        for (server, is_there) in [
            ("old", false),
            ("a", false),
            ("b", true),
            ("c", true),
            ("member", true),
        ] {
            let server: OwnedServerName = server.try_into().unwrap();
            let (keys, _) = store.server_keys(&server).await.unwrap();
            assert_eq!(!keys.is_empty(), is_there, "{server}");
            let responses = store.key_responses(&server).await.unwrap();
            assert_eq!(responses.len(), if is_there { 2 } else { 0 }, "{server}");
        }
        assert_eq!(store.forget_strangers_keys(9, 20).await.unwrap(), 2);
    })
    .await;
}
