//! What the operator tells users.

use http::Method;
use rhizome_client_api::{ClientConfig, config::Notices};
use serde_json::{Value, json};

use crate::asking::{
    HttpAnswer, Server, User, config, each_server, each_server_with, encoded, text,
};

const SPEAKER: &str = "@_server:here.test";

fn with_notices() -> ClientConfig {
    let mut config = config();
    config.notices = Some(Notices {
        user: SPEAKER.try_into().unwrap(),
        display_name: Some("The server".into()),
        avatar_url: Some("mxc://here.test/logo".into()),
        room_name: Some("Notices".into()),
    });
    config
}

/// Somebody who administers the server.
async fn administrator(server: &Server) -> User {
    let config = config();
    rhizome_client_api::users::create(
        &server.app.store,
        &config.server_name,
        "boss",
        "secret",
        true,
        config.password_cost,
    )
    .await
    .unwrap();
    server.login("boss").await
}

async fn send(user: &User, txn: Option<&str>, body: Value) -> HttpAnswer {
    let path = "/_synapse/admin/v1/send_server_notice";
    let (method, path) = match txn {
        None => (Method::POST, path.to_owned()),
        Some(txn) => (Method::PUT, format!("{path}/{txn}")),
    };
    let server = &user.server;
    server
        .text(method, &path, Some(&user.token), body.to_string())
        .await
}

fn notice(to: &User, body: &str) -> Value {
    json!({ "user_id": to.id, "content": { "msgtype": "m.text", "body": body } })
}

/// The only room to which the user is invited.
async fn invited(user: &User) -> String {
    let sync = user.get("/sync").await.ok();
    let rooms = sync["rooms"]["invite"].as_object().unwrap();
    assert_eq!(rooms.len(), 1, "{sync}");
    let (room, invite) = rooms.iter().next().unwrap();
    let state = invite["invite_state"]["events"].as_array().unwrap();
    assert_eq!(state[0]["sender"], SPEAKER);
    room.clone()
}

#[tokio::test]
async fn a_notice_comes_into_a_room_of_its_own_which_cannot_be_refused() {
    each_server_with(with_notices, async |server| {
        let boss = administrator(&server).await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let sent = send(&boss, None, notice(&ada, "hello")).await.ok();
        let first = text(&sent["event_id"]);
        let room = invited(&ada).await;
        let leave = format!("/rooms/{}/leave", encoded(&room));
        let code = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM";
        ada.post(&leave, json!({})).await.fails(403, code);
        let kick = format!("/rooms/{}/kick", encoded(&room));
        let kick = ada.post(&kick, json!({ "user_id": ada.id })).await;
        kick.fails(403, code);
        let gone = json!({ "membership": "leave" });
        let left = ada.set_state(&room, "m.room.member", &ada.id, gone).await;
        left.fails(403, code);

        ada.join(&room).await;
        let sync = ada.get("/sync").await.ok();
        let joined = &sync["rooms"]["join"][&room];
        assert!(joined["timeline"].to_string().contains(&first), "{joined}");
        let tags = &joined["account_data"]["events"][0];
        assert_eq!(
            *tags,
            json!({ "type": "m.tag", "content": { "tags": { "m.server_notice": {} } } })
        );
        assert_eq!(
            ada.state(&room, "m.room.name", "").await.ok()["name"],
            "Notices"
        );
        assert_eq!(
            ada.state(&room, "m.room.avatar", "").await.ok()["url"],
            "mxc://here.test/logo"
        );
        let speaker = ada.state(&room, "m.room.member", SPEAKER).await.ok();
        assert_eq!(speaker["displayname"], "The server");
        // Nobody but the server speaks there, or lets others in.
        let say = format!("/rooms/{}/send/m.room.message/1", encoded(&room));
        ada.put(&say, json!({ "body": "no" }))
            .await
            .fails(403, "M_FORBIDDEN");
        let invite = format!("/rooms/{}/invite", encoded(&room));
        let invite = ada.post(&invite, json!({ "user_id": bob.id })).await;
        invite.fails(403, "M_FORBIDDEN");

        // Who has left is asked again, into the same room.
        ada.post(&leave, json!({})).await.ok();
        send(&boss, None, notice(&ada, "again")).await.ok();
        assert_eq!(invited(&ada).await, room);
        // Others have rooms of their own.
        send(&boss, None, notice(&bob, "hello")).await.ok();
        assert_ne!(invited(&bob).await, room);

        let once = send(&boss, Some("1"), notice(&bob, "once")).await.ok();
        let again = send(&boss, Some("1"), notice(&bob, "twice")).await.ok();
        assert_eq!(once["event_id"], again["event_id"]);
    })
    .await;
}

#[tokio::test]
async fn only_administrators_send_notices_and_only_to_users_here() {
    each_server_with(with_notices, async |server| {
        let boss = administrator(&server).await;
        let ada = server.register("ada").await;
        send(&ada, None, notice(&boss, "x")).await.fails(403, "M_FORBIDDEN");
        send(&ada, Some("1"), json!({})).await.fails(403, "M_FORBIDDEN");
        let path = "/_synapse/admin/v1/send_server_notice";
        server.ask(Method::POST, path, json!({})).await.fails(401, "M_MISSING_TOKEN");
        let to = |id: &str| json!({ "user_id": id, "content": {} });
        send(&boss, None, to("@ada:there.test")).await.fails(400, "M_INVALID_PARAM");
        send(&boss, None, to("@nobody:here.test")).await.fails(404, "M_NOT_FOUND");
        send(&boss, None, json!({ "user_id": ada.id })).await.fails(400, "M_BAD_JSON");
        send(&boss, None, json!({ "user_id": ada.id, "content": [] })).await.fails(400, "M_BAD_JSON");
        // The name is the server's.
        send(&boss, None, notice(&ada, "x")).await.ok();
        let taken = json!({ "username": "_server", "password": "secret", "auth": { "type": "m.login.dummy" } });
        let taken = server.ask(Method::POST, "/_matrix/client/v3/register", taken).await;
        taken.fails(400, "M_INVALID_USERNAME");
    })
    .await;
    each_server(async |server| {
        let boss = administrator(&server).await;
        send(&boss, None, notice(&boss, "x"))
            .await
            .fails(400, "M_UNKNOWN");
    })
    .await;
}

/// Several at once make one room.
#[tokio::test]
async fn the_first_notices_share_a_room() {
    each_server_with(with_notices, async |server| {
        let boss = administrator(&server).await;
        let ada = server.register("ada").await;
        let all = (0..4).map(|n| {
            let (boss, body) = (boss.clone(), notice(&ada, &n.to_string()));
            tokio::spawn(async move { send(&boss, None, body).await.ok() })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        let room = invited(&ada).await;
        ada.join(&room).await;
        let page = ada
            .get(&format!("/rooms/{}/messages?dir=b&limit=4", encoded(&room)))
            .await
            .ok();
        let messages = page["chunk"].as_array().unwrap().iter();
        let messages = messages.filter(|event| event["type"] == "m.room.message");
        assert!(messages.count() >= 3, "{page}");
    })
    .await;
}
