//! Guests: what they may do, where they may go, and how they become users like others.

use http::{Method, StatusCode};
use rhizome_client_api::PutOutGuests;
use rhizome_storage::{
    AccountFlag, LogReader, Store,
    testing::{each_database, eventually},
};
use ruma::UserId;
use serde_json::{Value, json};

use crate::e2ee::several::several;
use crate::harness::{Server, User, esc, events, next};

async fn story(tell: impl AsyncFn(&Server)) {
    each_database(async |store: Store| {
        tell(&Server::with(store, |config| config.guests = true)).await;
    })
    .await;
}

const REGISTER: &str = "/_matrix/client/v3/register";

async fn post(server: &Server, path: &str, body: Value) -> (StatusCode, Value) {
    server.request(Method::POST, path, None, Some(body)).await
}

async fn guest(server: &Server) -> User {
    let path = format!("{REGISTER}?kind=guest");
    let wish = json!({ "initial_device_display_name": "browser", "device_id": "MINE", "username": "admin" });
    let (status, answer) = post(server, &path, wish).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_ne!(answer["device_id"], "MINE");
    User {
        server: server.clone(),
        id: answer["user_id"].as_str().unwrap().to_owned(),
        token: answer["access_token"].as_str().unwrap().to_owned(),
    }
}

/// A room that lets guests in, or doesn't.
async fn room(user: &User, guests: &str) -> String {
    let access = json!([{ "type": "m.room.guest_access", "state_key": "",
        "content": { "guest_access": guests } }]);
    let request = json!({ "preset": "public_chat", "initial_state": access });
    user.create(request).await
}

async fn refused(user: &User, method: Method, path: &str, body: Option<Value>) {
    let (status, error) = user.call(method, path, body).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {error}");
    assert_eq!(
        error["errcode"], "M_GUEST_ACCESS_FORBIDDEN",
        "{path}: {error}"
    );
}

#[tokio::test]
async fn without_the_operators_wish_there_are_none() {
    each_database(async |store: Store| {
        let server = Server::new(store);
        let (status, error) = post(&server, &format!("{REGISTER}?kind=guest"), json!({})).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(error["errcode"], "M_GUEST_ACCESS_FORBIDDEN");
        // But there may have been some, and everybody else is none.
        let alice = server.register("alice").await;
        assert_ne!(alice.read("/account/whoami").await["is_guest"], true);
    })
    .await;
}

#[tokio::test]
async fn guests_do_what_is_for_them() {
    story(async |server| {
        let alice = server.register("alice").await;
        let guest = guest(server).await;
        let who = guest.read("/account/whoami").await;
        assert_eq!(who["is_guest"], true);
        let device = who["device_id"].as_str().unwrap();
        let path = format!("/devices/{device}");
        assert_eq!(guest.read(&path).await["display_name"], "browser");
        let room = room(&alice, "can_join").await;
        guest.join(&room).await;
        guest.say(&room, "hello").await;
        let profile = |field: &str| format!("/profile/{}/{field}", esc(&guest.id));
        let name = json!({ "displayname": "Passer-by" });
        guest.ok(Method::PUT, &profile("displayname"), name).await;
        let told = guest.sync(None, "").await;
        assert!(!told["rooms"]["join"][&room].is_null(), "{told}");
        assert!(
            events(
                &alice.sync(None, "").await,
                &["rooms", "join", &room, "timeline", "events"]
            )
            .len()
                > 1
        );
        for path in ["state", "messages?dir=b", "members", "initialSync"] {
            guest.read(&format!("/rooms/{}/{path}", esc(&room))).await;
        }
        guest.leave(&room).await;

        let picture = json!({ "avatar_url": "mxc://here/x" });
        refused(&guest, Method::PUT, &profile("avatar_url"), Some(picture)).await;
        for (method, path, body) in [
            (Method::POST, "/createRoom", json!({})),
            (Method::POST, "/keys/signatures/upload", json!({})),
            (
                Method::POST,
                "/account/password",
                json!({ "new_password": "a good password" }),
            ),
            (Method::POST, "/publicRooms", json!({})),
            (
                Method::PUT,
                "/pushrules/global/override/x",
                json!({ "actions": [] }),
            ),
        ] {
            let (status, error) = guest.call(method, path, Some(body)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {error}");
        }
        refused(&guest, Method::GET, "/joined_rooms", None).await;
        let join = format!("/join/{}", esc(&room));
        refused(&guest, Method::POST, &join, Some(json!({}))).await;
    })
    .await;
}

#[tokio::test]
async fn guests_come_in_where_they_are_let_in() {
    story(async |server| {
        let alice = server.register("alice").await;
        let guest = guest(server).await;
        for closed in [room(&alice, "forbidden").await, alice.create_public().await] {
            let path = format!("/rooms/{}/join", esc(&closed));
            refused(&guest, Method::POST, &path, Some(json!({}))).await;
            // Nor by saying that they are there.
            let path = format!(
                "/rooms/{}/state/m.room.member/{}",
                esc(&closed),
                esc(&guest.id)
            );
            let there = json!({ "membership": "join" });
            refused(&guest, Method::PUT, &path, Some(there)).await;
            alice.invite(&closed, &guest).await;
            let path = format!("/rooms/{}/join", esc(&closed));
            refused(&guest, Method::POST, &path, Some(json!({}))).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_go_when_a_room_closes_to_them() {
    story(async |server| {
        let reader = PutOutGuests::new(&server.federation);
        let reader = LogReader::new(&server.store, "guests", reader);
        let stop = server.shutdown.clone();
        let reading = tokio::spawn(async move { reader.run(&stop).await });
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let open = room(&alice, "can_join").await;
        bob.join(&open).await;
        let guests = [guest(server).await, guest(server).await];
        for guest in &guests {
            guest.join(&open).await;
        }
        let kept = json!({ "guest_access": "can_join", "x": 1 });
        alice
            .set_state(&open, "m.room.guest_access", "", kept)
            .await;
        guests[0].say(&open, "still here").await;
        let closed = json!({ "guest_access": "forbidden" });
        alice
            .set_state(&open, "m.room.guest_access", "", closed)
            .await;
        let members = format!("/rooms/{}/joined_members", esc(&open));
        eventually("the guests go", async || {
            let joined = alice.read(&members).await;
            joined["joined"].as_object().unwrap().len() == 2
        })
        .await;
        let told = guests[0].sync(None, "").await;
        assert!(told["rooms"]["join"].get(&open).is_none(), "{told}");
        server.shutdown.cancel();
        reading.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_guest_becomes_a_user() {
    story(async |server| {
        let alice = server.register("alice").await;
        let guest = guest(server).await;
        let room = room(&alice, "can_join").await;
        guest.join(&room).await;
        let name = guest.id.split_once(':').unwrap().0[1..].to_owned();
        let wish = |name: &str, token: &str| {
            json!({ "username": name, "password": "a good password", "guest_access_token": token,
                "auth": { "type": "m.login.dummy" } })
        };
        for (body, code) in [
            (wish(&name, "wrong"), "M_FORBIDDEN"),
            (wish("other", &guest.token), "M_FORBIDDEN"),
            (wish(&name, &alice.token), "M_FORBIDDEN"),
            (wish("alice", &alice.token), "M_FORBIDDEN"),
        ] {
            let (status, error) = post(server, REGISTER, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
            assert_eq!(error["errcode"], code);
        }
        let mut nameless = wish(&name, &guest.token);
        nameless.as_object_mut().unwrap().remove("username");
        let (status, error) = post(server, REGISTER, nameless).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");

        let (status, answer) = post(server, REGISTER, wish(&name, &guest.token)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["user_id"], guest.id.as_str());
        let user = User {
            token: answer["access_token"].as_str().unwrap().to_owned(),
            ..guest.clone()
        };
        assert_ne!(user.read("/account/whoami").await["is_guest"], true);
        user.create_public().await;
        user.say(&room, "still there").await;
        let other = user.another_device().await;
        next(&other.sync(None, "").await);
        // The guest's session is over, and their account theirs no more.
        let (status, _) = guest.get("/account/whoami").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let (status, error) = post(server, REGISTER, wish(&name, &guest.token)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
        // Where guests aren't let in, users are.
        let closed = alice.create_public().await;
        user.join(&closed).await;
    })
    .await;
}

#[tokio::test]
async fn a_guest_who_is_locked_out_becomes_no_user() {
    story(async |server| {
        let guest = guest(server).await;
        let id = <&UserId>::try_from(guest.id.as_str()).unwrap();
        let user = server.store.user_no(id).await.unwrap();
        let wish = json!({ "username": id.localpart(), "password": "a good password",
            "guest_access_token": guest.token, "auth": { "type": "m.login.dummy" } });
        for (flag, status, code) in [
            (AccountFlag::Locked, 401, "M_USER_LOCKED"),
            (AccountFlag::Suspended, 403, "M_USER_SUSPENDED"),
        ] {
            let set = async |on| server.store.set_account_flag(user, flag, on).await.unwrap();
            assert!(set(true).await);
            let (refused, error) = post(server, REGISTER, wish.clone()).await;
            assert_eq!(
                (refused.as_u16(), &error["errcode"]),
                (status, &json!(code))
            );
            assert!(set(false).await);
        }
        let (status, answer) = post(server, REGISTER, wish).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    })
    .await;
}

/// Of a room elsewhere its server says whether guests may come in.
#[tokio::test(flavor = "multi_thread")]
async fn guests_come_into_rooms_elsewhere() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let store = all.server(1).store.clone();
        let name = all.name(1).to_owned();
        let server = Server::named(&name, 21, store, &all.network, |config| {
            config.guests = true;
        });
        let guest = guest(&server).await;
        let with = |guests: &str| {
            json!({ "preset": "public_chat", "room_version": "11", "initial_state": [{
                "type": "m.room.guest_access", "state_key": "", "content": { "guest_access": guests } }] })
        };
        let (open, closed) = (
            alice.create(with("can_join")).await,
            alice.create(with("forbidden")).await,
        );
        let path = format!("/rooms/{}/join", esc(&closed));
        refused(&guest, Method::POST, &path, Some(json!({}))).await;
        guest.join(&open).await;
        guest.say(&open, "from afar").await;
    })
    .await;
}
