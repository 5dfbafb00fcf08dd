//! Rooms are shut for the users of this server.

use http::Method;
use rhizome_client_api::tasks;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::redacting::{administrator, ask, working};
use crate::{
    e2ee::several::several,
    harness::{User, esc, story},
};

fn v2(room: &str) -> String {
    format!("/v2/rooms/{}", esc(room))
}

/// Asks for it, and waits until it is done; gives what is told of it then.
async fn shut(by: &User, room: &str, wish: Value) -> Value {
    let (status, begun) = ask(by, Method::DELETE, &v2(room), Some(wish)).await;
    assert_eq!(status, 200, "{begun}");
    let id = begun["delete_id"].as_str().unwrap();
    let path = format!("/v2/rooms/delete_status/{id}");
    eventually("the room is shut", async || {
        let (status, told) = ask(by, Method::GET, &path, None).await;
        assert_eq!(status, 200, "{told}");
        !["scheduled", "active"].contains(&told["status"].as_str().unwrap())
    })
    .await;
    ask(by, Method::GET, &path, None).await.1
}

async fn is_joined(user: &User, room: &str) -> bool {
    let joined = user.read("/joined_rooms").await;
    let rooms = joined["joined_rooms"].as_array().unwrap();
    rooms.iter().any(|one| one == room)
}

fn sorted(ids: &Value) -> Vec<String> {
    let ids = ids.as_array().unwrap().iter();
    let mut ids: Vec<_> = ids.map(|id| id.as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn everybody_leaves_and_is_told_why() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let (ada, bob, eve) = (
            server.register("ada").await,
            server.register("bob").await,
            server.register("eve").await,
        );
        let request = json!({
            "preset": "public_chat", "visibility": "public", "room_alias_name": "lair",
        });
        let room = ada.create(request).await;
        bob.join(&room).await;
        ada.invite(&room, &eve).await;
        let stop = working(&server);
        let wish = json!({
            "new_room_user_id": boss.id, "room_name": "Closed", "message": "Not here", "block": true,
        });
        let told = shut(&boss, &room, wish).await;
        assert_eq!(told["status"], "complete", "{told}");
        assert_eq!(told["room_id"], json!(room));
        let done = &told["shutdown_room"];
        let mut all = [&ada, &bob, &eve].map(|user| user.id.clone());
        all.sort();
        assert_eq!(sorted(&done["kicked_users"]), all);
        assert_eq!(done["failed_to_kick_users"], json!([]));
        assert_eq!(done["local_aliases"], json!(["#lair:here"]));
        let new = done["new_room_id"].as_str().unwrap();
        for user in [&ada, &bob, &eve] {
            assert!(!is_joined(user, &room).await);
            assert!(is_joined(user, new).await);
            // Only who has made it speaks there.
            let path = format!("/rooms/{}/send/m.room.message/1", esc(new));
            let body = json!({ "msgtype": "m.text", "body": "why" });
            assert_eq!(user.call(Method::PUT, &path, Some(body)).await.0, 403);
            // It is gone from their lists.
            let sync = user.sync(None, "").await;
            assert_eq!(sync["rooms"]["leave"].get(&room), None);
            let join = format!("/join/{}", esc(&room));
            assert_eq!(user.call(Method::POST, &join, Some(json!({}))).await.0, 403);
        }
        let page = ada.read(&format!("/rooms/{}/messages?dir=b", esc(new))).await;
        let said = page["chunk"].as_array().unwrap();
        let said: Vec<_> = said.iter().filter(|event| event["type"] == "m.room.message").collect();
        assert_eq!(said.len(), 1);
        assert_eq!(said[0]["content"]["body"], "Not here");
        let led = ada.read(&format!("/directory/room/{}", esc("#lair:here"))).await;
        assert_eq!(led["room_id"], new);
        let listed = ada.read("/publicRooms").await;
        assert_eq!(listed["chunk"], json!([]));
        let (_, of_room) = ask(&boss, Method::GET, &format!("{}/delete_status", v2(&room)), None).await;
        assert_eq!(of_room["results"], json!([told]));
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn a_room_is_shut_without_another_one() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let alias = json!({ "room_alias_name": "lair" });
        let (kept, room) = (
            ada.create(json!({ "room_alias_name": "kept" })).await,
            ada.create(alias).await,
        );
        let said = ada.say(&room, "something").await;
        let stop = working(&server);
        // The first API answers when it is done.
        let path = format!("/v1/rooms/{}", esc(&room));
        let (status, done) = ask(&boss, Method::DELETE, &path, Some(json!({}))).await;
        assert_eq!(status, 200, "{done}");
        let expected = json!({
            "kicked_users": [ada.id], "failed_to_kick_users": [], "local_aliases": ["#lair:here"],
            "new_room_id": null,
        });
        assert_eq!(done, expected);
        let gone = format!("/directory/room/{}", esc("#lair:here"));
        assert_eq!(ada.get(&gone).await.0, 404);
        // What was said there is kept.
        let path = format!("/v1/fetch_event/{}", esc(&said));
        let (status, event) = ask(&boss, Method::GET, &path, None).await;
        assert_eq!(
            (status, &event["event"]["content"]["body"]),
            (200, &json!("something"))
        );
        // Aliases stay where nothing is to go.
        let told = shut(&boss, &kept, json!({ "purge": false })).await;
        assert_eq!(told["status"], "complete", "{told}");
        let stays = format!("/directory/room/{}", esc("#kept:here"));
        assert_eq!(ada.read(&stays).await["room_id"], json!(kept));
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn a_room_is_shut_once_at_a_time_and_after_a_restart() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        let mut users = Vec::new();
        for n in 0..7 {
            let user = server.register(&format!("u{n}")).await;
            user.join(&room).await;
            users.push(user);
        }
        // Nobody works yet.
        let wish = json!({ "new_room_user_id": boss.id });
        let (status, begun) = ask(&boss, Method::DELETE, &v2(&room), Some(wish)).await;
        assert_eq!(status, 200, "{begun}");
        let id = begun["delete_id"].as_str().unwrap();
        let path = format!("/v2/rooms/delete_status/{id}");
        assert_eq!(
            ask(&boss, Method::GET, &path, None).await.1["status"],
            "scheduled"
        );
        let (status, again) = ask(&boss, Method::DELETE, &v2(&room), Some(json!({}))).await;
        assert_eq!((status, &again["errcode"]), (400, &json!("M_UNKNOWN")));
        // Who was to leave when the server stopped has left, or not, when it goes on.
        let no: i64 = id.parse().unwrap();
        let first = CancellationToken::new();
        let running = tokio::spawn(tasks::run(server.app.clone(), first.clone()));
        eventually("somebody has left", async || {
            server.store.task(no).await.unwrap().unwrap().progress > 0
        })
        .await;
        first.cancel();
        running.await.unwrap().unwrap();
        let second = working(&server);
        eventually("the room is shut", async || {
            ask(&boss, Method::GET, &path, None).await.1["status"] == "complete"
        })
        .await;
        let told = ask(&boss, Method::GET, &path, None).await.1;
        let done = &told["shutdown_room"];
        assert_eq!(sorted(&done["kicked_users"]).len(), 8, "{done}");
        let new = done["new_room_id"].as_str().unwrap();
        for user in &users {
            assert!(is_joined(user, new).await && !is_joined(user, &room).await);
        }
        second.cancel();
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_shut_is_said() {
    story(|server| async move {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        let long = "x".repeat(256);
        for (wish, status, code) in [
            (json!({ "block": 1 }), 400, "M_BAD_JSON"),
            (json!({ "new_room_user_id": "ada" }), 400, "M_BAD_JSON"),
            (
                json!({ "new_room_user_id": "@a:b" }),
                400,
                "M_INVALID_PARAM",
            ),
            (
                json!({ "new_room_user_id": "@nobody:here" }),
                404,
                "M_NOT_FOUND",
            ),
            (json!({ "room_name": long }), 400, "M_INVALID_PARAM"),
        ] {
            let answer = ask(&boss, Method::DELETE, &v2(&room), Some(wish)).await;
            assert_eq!(
                (answer.0, &answer.1["errcode"]),
                (status, &json!(code)),
                "{}",
                answer.1
            );
        }
        let unknown = v2("!none:elsewhere");
        let answer = ask(&boss, Method::DELETE, &unknown, Some(json!({}))).await;
        assert_eq!(
            (answer.0, &answer.1["errcode"]),
            (404, &json!("M_NOT_FOUND"))
        );
        for path in [
            format!("{unknown}/delete_status"),
            "/v2/rooms/delete_status/x".into(),
        ] {
            let answer = ask(&boss, Method::GET, &path, None).await;
            assert_eq!(answer.0, 404);
        }
        // But nobody comes into it, if that is wanted.
        let stop = working(&server);
        let told = shut(&boss, "!none:elsewhere", json!({ "block": true })).await;
        assert_eq!(told["status"], "complete");
        let blocks = server.store.blocks().await.unwrap();
        assert!(blocks.room(ruma::room_id!("!none:elsewhere")));
        // Another kind of task is none of these.
        let other = server.store.add_task(tasks::REDACT, &ada.id).await.unwrap();
        let path = format!("/v2/rooms/delete_status/{other}");
        assert_eq!(ask(&boss, Method::GET, &path, None).await.0, 404);
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn users_of_other_servers_stay() {
    several(2, async |all| {
        let (here, there) = (all.server(0), all.server(1));
        let boss = administrator(here, "boss").await;
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let room = ada.create_public().await;
        let join = format!("/join/{}?via={}", esc(&room), esc("a.example"));
        bob.ok(Method::POST, &join, json!({})).await;
        let stop = working(here);
        let told = shut(&boss, &room, json!({ "block": true })).await;
        assert_eq!(told["shutdown_room"]["kicked_users"], json!([ada.id]));
        eventually("the other server hears of it", async || {
            let path = format!("/rooms/{}/state/m.room.member/{}", esc(&room), esc(&ada.id));
            bob.read(&path).await["membership"] == "leave"
        })
        .await;
        assert!(is_joined(&bob, &room).await);
        stop.cancel();
    })
    .await;
}
