//! The same thing asked by many at once: one gets it, or all get the same.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::asking::{each_server, encoded, text};

#[tokio::test]
async fn one_transaction_is_one_event() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let room = ada.create_room(json!({})).await;
        let path = format!("/rooms/{}/send/m.room.message/same", encoded(&room));
        let tasks = (0..16).map(|n| {
            let (ada, path) = (ada.clone(), path.clone());
            tokio::spawn(async move { ada.put(&path, json!({ "body": n })).await.ok() })
        });
        let ids: BTreeSet<String> = join_all(tasks)
            .await
            .into_iter()
            .map(|sent| text(&sent.unwrap()["event_id"]))
            .collect();
        assert_eq!(ids.len(), 1);
        let page = ada
            .get(&format!("/rooms/{}/messages?dir=b", encoded(&room)))
            .await
            .ok();
        let said = page["chunk"].as_array().unwrap().iter();
        assert_eq!(
            said.filter(|event| event["type"] == "m.room.message")
                .count(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn one_name_is_one_account_and_one_alias_one_room() {
    each_server(async |server| {
        let body = json!({
            "username": "ada", "password": "p", "auth": { "type": "m.login.dummy" },
        });
        let tasks = (0..8).map(|_| {
            let (server, body) = (server.clone(), body.clone());
            tokio::spawn(async move {
                server
                    .ask(Method::POST, "/_matrix/client/v3/register", body)
                    .await
            })
        });
        let answers: Vec<_> = join_all(tasks)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let (made, refused): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .partition(|answer| answer.status.is_success());
        assert_eq!(made.len(), 1);
        for answer in refused {
            answer.fails(400, "M_USER_IN_USE");
        }
        let ada = server.user_of(&made[0].body);
        let tasks = (0..8).map(|n| {
            let ada = ada.clone();
            tokio::spawn(async move {
                ada.post(
                    "/createRoom",
                    json!({ "name": n.to_string(), "room_alias_name": "den" }),
                )
                .await
            })
        });
        let answers: Vec<_> = join_all(tasks)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let (made, refused): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .partition(|answer| answer.status.is_success());
        assert_eq!(made.len(), 1);
        for answer in refused {
            answer.fails(400, "M_ROOM_IN_USE");
        }
        let joined = ada.get("/joined_rooms").await.ok();
        assert_eq!(joined["joined_rooms"], json!([made[0].body["room_id"]]));
    })
    .await;
}

#[tokio::test]
async fn no_field_and_no_room_is_lost() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let tasks = (0..8).map(|n| {
            let ada = ada.clone();
            tokio::spawn(async move {
                let field = format!("org.f{n}");
                let path = format!("/profile/{}/{field}", ada.id);
                ada.put(&path, json!({ field: n })).await.ok();
                ada.create_room(json!({})).await
            })
        });
        let rooms: BTreeSet<String> = join_all(tasks)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rooms.len(), 8);
        let profile = ada.get(&format!("/profile/{}", ada.id)).await.ok();
        assert_eq!(profile.as_object().map(serde_json::Map::len), Some(8));
        // Refreshing at once: each answer is good or refused, and the last good pair works.
        let login = json!({
            "type": "m.login.password", "user": "ada", "password": "secret", "refresh_token": true,
        });
        let session = server
            .ask(Method::POST, "/_matrix/client/v3/login", login)
            .await
            .ok();
        let old = json!({ "refresh_token": session["refresh_token"] });
        let tasks = (0..8).map(|_| {
            let (server, old) = (server.clone(), old.clone());
            tokio::spawn(async move {
                server
                    .ask(Method::POST, "/_matrix/client/v3/refresh", old)
                    .await
                    .ok()
            })
        });
        let pairs: Vec<Value> = join_all(tasks)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let mut good = 0;
        for pair in &pairs {
            let next = json!({ "refresh_token": pair["refresh_token"] });
            let answer = server
                .ask(Method::POST, "/_matrix/client/v3/refresh", next)
                .await;
            good += u32::from(answer.status.is_success());
        }
        assert_eq!(good, 1);
    })
    .await;
}

#[tokio::test]
async fn rooms_that_are_nowhere() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        for room in [
            "!nowhere:here.test",
            "!B6dtPPzdwsYNPHRS85ni9T4-COjNnAQ6UBWpKAPE3u0",
        ] {
            for verb in ["join", "leave", "kick", "ban", "unban", "invite", "forget"] {
                let path = format!("/rooms/{}/{verb}", encoded(room));
                let answer = ada.post(&path, json!({ "user_id": "@b:here.test" })).await;
                assert!(matches!(answer.status.as_u16(), 403 | 404), "{answer:?}");
            }
            let join = ada
                .post(&format!("/join/{}", encoded(room)), json!({}))
                .await;
            assert!(matches!(join.status.as_u16(), 403 | 404), "{join:?}");
        }
        let alias = format!("/join/{}", encoded("#nowhere:here.test"));
        ada.post(&alias, json!({})).await.fails(404, "M_NOT_FOUND");
        // A server that can't be reached is said to be so.
        let remote = ada
            .get(&format!("/profile/{}", encoded("@x:unreachable.test")))
            .await;
        assert!(
            matches!(remote.status.as_u16(), 404 | 502 | 503 | 504),
            "{remote:?}"
        );
        let alias = format!("/directory/room/{}", encoded("#x:unreachable.test"));
        let remote = ada.get(&alias).await;
        assert!(
            matches!(remote.status.as_u16(), 404 | 502 | 503 | 504),
            "{remote:?}"
        );
    })
    .await;
}
