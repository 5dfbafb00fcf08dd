//! Accounts, sessions, devices.

use http::Method;
use rhizome_client_api::{
    ClientConfig,
    config::{PasswordCost, Registration},
    users,
};
use rhizome_storage::{
    Clock, Options, Store,
    testing::{TestDatabase, eventually},
};
use ring::hmac;
use serde_json::{Value, json};

use crate::asking::{
    HOSTILE, SERVER, START_MS, Server, User, config, each_server, each_server_with, encoded, text,
};

const REGISTER: &str = "/_matrix/client/v3/register";
pub const LOGIN: &str = "/_matrix/client/v3/login";
const ADMIN: &str = "/_synapse/admin/v1/register";

pub async fn register(server: &Server, body: Value) -> crate::asking::HttpAnswer {
    server.ask(Method::POST, REGISTER, body).await
}

pub fn password(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
    })
}

#[tokio::test]
async fn registration_by_the_book() {
    each_server(async |server| {
        let flows = register(&server, json!({ "username": "ada", "password": "p" })).await;
        assert_eq!(flows.status, 401);
        assert_eq!(
            flows.body["flows"],
            json!([{ "stages": ["m.login.dummy"] }])
        );
        assert_eq!(flows.body.get("errcode"), None);
        let session = &flows.body["session"];
        let done = register(
            &server,
            json!({
                "username": "Ada", "password": "p", "device_id": "PHONE",
                "initial_device_display_name": "Ada's phone",
                "auth": { "type": "m.login.dummy", "session": session },
            }),
        )
        .await
        .ok();
        assert_eq!(done["user_id"], "@ada:here.test");
        assert_eq!(done["device_id"], "PHONE");
        let ada = server.user_of(&done);
        let device = ada.get("/devices/PHONE").await.ok();
        assert_eq!(device["display_name"], "Ada's phone");

        let dummy = json!({ "type": "m.login.dummy" });
        let body = json!({ "username": "ada", "password": "p", "auth": dummy });
        register(&server, body).await.fails(400, "M_USER_IN_USE");
        // A session serves once, and for what it was begun.
        let body = json!({
            "username": "eve", "password": "p",
            "auth": { "type": "m.login.dummy", "session": session },
        });
        assert_eq!(register(&server, body).await.status, 401);
        // Nothing is made without a password; no login without a wish for it; a name if none is given.
        register(&server, json!({ "auth": dummy }))
            .await
            .fails(400, "M_MISSING_PARAM");
        let quiet = json!({ "password": "p", "inhibit_login": true, "auth": dummy });
        let made = register(&server, quiet).await.ok();
        assert_eq!(made.get("access_token"), None);
        server
            .ask(Method::POST, LOGIN, password(&text(&made["user_id"]), "p"))
            .await
            .ok();
        let guest = server
            .ask(Method::POST, &format!("{REGISTER}?kind=guest"), json!({}))
            .await;
        guest.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    })
    .await;
}

/// The answer to a registration is lost on the way: asked again, the server gives the same account and device.
#[tokio::test]
async fn a_registration_whose_answer_was_lost_is_repeated() {
    each_server(async |server| {
        for name in [Some("ada"), None] {
            let flows = register(&server, json!({ "username": name, "password": "p" })).await;
            let auth = json!({ "type": "m.login.dummy", "session": flows.body["session"] });
            let body = json!({ "username": name, "password": "p", "auth": auth });
            let lost = register(&server, body.clone()).await.ok();
            let again = register(&server, body.clone()).await.ok();
            for key in ["user_id", "device_id"] {
                assert_eq!(again[key], lost[key]);
            }
            let user = server.user_of(&again);
            let devices = user.get("/devices").await.ok();
            assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
            // The lost token is nobody's.
            let old = server.user_of(&lost);
            old.get("/devices").await.fails(401, "M_UNKNOWN_TOKEN");
            // Only with that password, and for that name.
            let mut other = body.clone();
            other["password"] = "q".into();
            register(&server, other).await.fails(400, "M_USER_IN_USE");
            let mut other = body.clone();
            other["username"] = "eve".into();
            assert_eq!(register(&server, other).await.status, 401);
            // Nor once the account has ended.
            let auth = password(&text(&lost["user_id"]), "p");
            let end = user.post("/account/deactivate", json!({ "auth": auth }));
            end.await.ok();
            register(&server, body).await.fails(400, "M_USER_IN_USE");
        }
    })
    .await;
}

#[tokio::test]
async fn names_that_cannot_be() {
    each_server(async |server| {
        let long = "x".repeat(250);
        let names = ["", "a b", "a:b", "@a", "ä", "a\u{0}", long.as_str()];
        for name in names
            .into_iter()
            .chain(HOSTILE.into_iter().filter(|name| *name != "null"))
        {
            let body = json!({
                "username": name, "password": "p", "auth": { "type": "m.login.dummy" },
            });
            register(&server, body)
                .await
                .fails(400, "M_INVALID_USERNAME");
            let path = format!("{REGISTER}/available?username={}", encoded(name));
            server
                .ask(Method::GET, &path, Value::Null)
                .await
                .fails(400, "M_INVALID_USERNAME");
        }
        server.register("a.b_c=d-e/f+1").await;
        let path = format!("{REGISTER}/available?username=free");
        let free = server.ask(Method::GET, &path, Value::Null).await.ok();
        assert_eq!(free["available"], true);
        let path = format!("{REGISTER}/available?username=A.b_c%3Dd-e/f%2B1");
        server
            .ask(Method::GET, &path, Value::Null)
            .await
            .fails(400, "M_USER_IN_USE");
    })
    .await;
}

/// Nobody may register by themselves.
fn closed() -> ClientConfig {
    let mut config = config();
    config.registration = Registration::Closed;
    config
}

#[tokio::test]
async fn closed_registration_and_the_shared_secret() {
    each_server_with(closed, async |server| {
        let body = json!({ "username": "ada", "password": "p" });
        register(&server, body).await.fails(403, "M_FORBIDDEN");

        let nonce = text(&server.ask(Method::GET, ADMIN, Value::Null).await.ok()["nonce"]);
        let mac = |secret: &str, message: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
            let tag = hmac::sign(&key, message.as_bytes());
            let hex = |out: String, byte: &u8| out + &format!("{byte:02x}");
            tag.as_ref().iter().fold(String::new(), hex)
        };
        let body = |nonce: &str, mac: String| {
            json!({
                "nonce": nonce, "username": "ada", "password": "p", "admin": false,
                "displayname": "Ada", "mac": mac,
            })
        };
        let message = format!("{nonce}\0ada\0p\0notadmin");
        let made = server
            .ask(Method::POST, ADMIN, body(&nonce, mac("shared", &message)))
            .await
            .ok();
        assert_eq!(made["user_id"], "@ada:here.test");
        let ada = server.user_of(&made);
        let name = ada.get("/profile/@ada:here.test/displayname").await.ok();
        assert_eq!(name["displayname"], "Ada");
        let again = server
            .ask(Method::POST, ADMIN, body(&nonce, mac("shared", &message)))
            .await;
        again.fails(400, "M_UNKNOWN");
        let nonce = text(&server.ask(Method::GET, ADMIN, Value::Null).await.ok()["nonce"]);
        let message = format!("{nonce}\0ada\0p\0notadmin");
        let wrong = server
            .ask(Method::POST, ADMIN, body(&nonce, mac("guess", &message)))
            .await;
        wrong.fails(403, "M_FORBIDDEN");
        // A session of another kind is no nonce.
        let body = body("x", mac("shared", "x\0ada\0p\0notadmin"));
        server
            .ask(Method::POST, ADMIN, body)
            .await
            .fails(400, "M_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn the_operator_can_always_make_accounts() {
    each_server_with(closed, async |server| {
        let server_name = SERVER.try_into().unwrap();
        let cost = PasswordCost {
            memory_kib: 64,
            passes: 1,
            concurrency: 1,
        };
        let store = &server.app.store;
        users::create(store, server_name, "bob", "p", true, cost)
            .await
            .unwrap();
        let taken = users::create(store, server_name, "bob", "p", true, cost)
            .await
            .unwrap_err();
        assert_eq!(taken.errcode, "M_USER_IN_USE");
        let bob = server
            .ask(Method::POST, LOGIN, password("bob", "p"))
            .await
            .ok();
        let bob = server.user_of(&bob);
        users::set_password(store, server_name, "bob", "q", cost)
            .await
            .unwrap();
        bob.get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        server
            .ask(Method::POST, LOGIN, password("bob", "p"))
            .await
            .fails(403, "M_FORBIDDEN");
        server
            .ask(Method::POST, LOGIN, password("bob", "q"))
            .await
            .ok();
    })
    .await;
}

#[tokio::test]
async fn passwords_change_and_accounts_end() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let phone = server.login("ada").await;
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        let bob = server.register("bob").await;
        bob.join(&room).await;

        let auth = |password: &str| {
            json!({
                "type": "m.login.password", "password": password,
                "identifier": { "type": "m.id.user", "user": "ada" },
            })
        };
        let new = json!({ "new_password": "changed", "auth": auth("guess") });
        ada.post("/account/password", new)
            .await
            .fails(401, "M_FORBIDDEN");
        let new = json!({ "new_password": "changed", "auth": auth("secret") });
        ada.post("/account/password", new).await.ok();
        ada.get("/account/whoami").await.ok();
        phone
            .get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        server
            .ask(Method::POST, LOGIN, password("ada", "secret"))
            .await
            .fails(403, "M_FORBIDDEN");
        let path = "/_matrix/client/v3/account/password";
        server
            .ask(Method::POST, path, json!({ "new_password": "x" }))
            .await
            .fails(401, "M_MISSING_TOKEN");

        let end = json!({ "auth": auth("changed") });
        let ended = ada.post("/account/deactivate", end).await.ok();
        assert_eq!(ended["id_server_unbind_result"], "success");
        ada.get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        let login = server
            .ask(Method::POST, LOGIN, password("ada", "changed"))
            .await;
        login.fails(403, "M_USER_DEACTIVATED");
        // Who doesn't know the password doesn't learn that there was an account.
        let guess = async |name: &str| {
            let guess = password(name, "secret");
            server.ask(Method::POST, LOGIN, guess).await
        };
        let ended = guess("ada").await.fails(403, "M_FORBIDDEN");
        assert_eq!(ended, guess("nobody").await.body);
        let member = bob.state(&room, "m.room.member", &ada.id).await.ok();
        assert_eq!(member["membership"], "leave");
        let again = json!({
            "username": "ada", "password": "p", "auth": { "type": "m.login.dummy" },
        });
        register(&server, again).await.fails(400, "M_USER_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn two_processes_are_one_server() {
    let database = TestDatabase::postgres().await;
    let clock = Clock::manual(START_MS);
    let mut servers = Vec::new();
    for _ in 0..2 {
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        servers.push(Server::new(store, clock.clone(), config()));
    }
    let [one, two] = [servers[0].clone(), servers[1].clone()];
    let challenge = register(&one, json!({ "username": "ada", "password": "secret" })).await;
    let auth = json!({ "type": "m.login.dummy", "session": challenge.body["session"] });
    let body = json!({ "username": "ada", "password": "secret", "auth": auth });
    let ada = two.user_of(&register(&two, body).await.ok());
    let elsewhere = User {
        server: one.clone(),
        ..ada.clone()
    };
    elsewhere.get("/account/whoami").await.ok();
    ada.post("/logout", json!({})).await.ok();
    ada.get("/account/whoami")
        .await
        .fails(401, "M_UNKNOWN_TOKEN");
    // Without anybody asking the database: the log brings the revocation.
    eventually("the other knows", async || {
        elsewhere.get("/account/whoami").await.status == 401
    })
    .await;
    elsewhere
        .get("/account/whoami")
        .await
        .fails(401, "M_UNKNOWN_TOKEN");
    for server in servers {
        server.app.store.close().await;
    }
    database.remove().await;
}
