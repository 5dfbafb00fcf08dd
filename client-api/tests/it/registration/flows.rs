//! Registrations of several stages.

use http::Method;
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use serde_json::{Value, json};

use super::{
    REGISTER, TERMS, TOKEN, challenged, ok, post, refused, register, session, story, token,
    token_and_terms, uses,
};
use crate::harness::Server;

#[tokio::test]
async fn stages_are_completed_one_after_the_other() {
    story(token_and_terms, async |server| {
        token(server, "spring", Some(2)).await;
        let first = register(server, "ada", Value::Null).await;
        let id = session(&first);
        let answer = &first.1;
        assert_eq!(answer["flows"], json!([{ "stages": [TOKEN, TERMS] }]));
        let policy = &answer["params"][TERMS]["policies"]["privacy"];
        assert_eq!(policy["version"], "1.2");
        assert_eq!(policy["de"]["name"], "Datenschutz");
        challenged(first, None, &[]);

        let with = |kind: &str| json!({ "type": kind, "session": id });
        let token = |token: &str| json!({ "type": TOKEN, "session": id, "token": token });
        let ask = async |auth: Value| {
            let answer = register(server, "ada", auth).await;
            // The session stays the same.
            assert_eq!(session(&answer), id);
            answer
        };
        challenged(ask(with(TERMS)).await, Some("M_FORBIDDEN"), &[]);
        for wrong in ["autumn", "", "Spring", &"x".repeat(65), "\u{0}"] {
            challenged(ask(token(wrong)).await, Some("M_UNAUTHORIZED"), &[]);
        }
        challenged(ask(with("m.login.dummy")).await, Some("M_FORBIDDEN"), &[]);
        challenged(ask(with("m.login.sso")).await, Some("M_FORBIDDEN"), &[]);
        challenged(ask(with("org.example.odd")).await, Some("M_FORBIDDEN"), &[]);
        challenged(ask(token("spring")).await, None, &[TOKEN]);
        assert_eq!(uses(server, "spring").await, (1, 0));
        // What is completed can't be tried again, nor be lost.
        challenged(ask(token("autumn")).await, None, &[TOKEN]);
        challenged(ask(json!({ "session": id })).await, None, &[TOKEN]);

        let made = ok(register(server, "ada", with(TERMS)).await);
        assert_eq!(made["user_id"], "@ada:here");
        assert_eq!(uses(server, "spring").await, (0, 1));
        let ada = server
            .store
            .account(ruma::user_id!("@ada:here"))
            .await
            .unwrap();
        let terms = server
            .store
            .accepted_terms(ada.unwrap().user)
            .await
            .unwrap();
        assert_eq!(terms, [("privacy".to_owned(), "1.2".to_owned())]);

        // The answer was lost: the same account and device, and the token counts once.
        for auth in [with(TERMS), json!({ "session": id })] {
            let again = ok(register(server, "ada", auth).await);
            for key in ["user_id", "device_id"] {
                assert_eq!(again[key], made[key]);
            }
        }
        assert_eq!(uses(server, "spring").await, (0, 1));
        let other = register(server, "eve", with(TERMS)).await;
        assert_ne!(session(&other), id);
        challenged(other, Some("M_UNKNOWN"), &[]);
    })
    .await;
}

#[tokio::test]
async fn who_has_no_session_gets_one() {
    story(token_and_terms, async |server| {
        token(server, "spring", None).await;
        let auth = json!({ "type": TOKEN, "token": "spring" });
        let first = register(server, "ada", auth).await;
        let id = session(&first);
        challenged(first, None, &[TOKEN]);
        // A name is chosen, and a password, at the end.
        let end = json!({ "auth": { "type": TERMS, "session": id } });
        refused(post(server, REGISTER, end).await, 400, "M_MISSING_PARAM");
        let end =
            json!({ "password": "p", "username": "eve", "auth": { "type": TERMS, "session": id } });
        assert_eq!(
            ok(post(server, REGISTER, end).await)["user_id"],
            "@eve:here"
        );
        assert_eq!(uses(server, "spring").await, (0, 1));
        // Names are refused before anything is asked.
        refused(
            register(server, "eve", Value::Null).await,
            400,
            "M_USER_IN_USE",
        );
        refused(
            register(server, "e e", Value::Null).await,
            400,
            "M_INVALID_USERNAME",
        );
    })
    .await;
}

#[tokio::test]
async fn a_session_serves_what_it_was_begun_for() {
    let settings = |config: &mut rhizome_client_api::ClientConfig| {
        config.registration_shared_secret = Some("shared".into());
    };
    story(settings, async |server| {
        let ada = server.register("ada").await;
        let wish = json!({ "devices": ["X"] });
        let (_, challenge) = ada.call(Method::POST, "/delete_devices", Some(wish)).await;
        let of_devices = challenge["session"].clone();
        let admin = "/_synapse/admin/v1/register";
        let (_, nonce) = server.request(Method::GET, admin, None, None).await;
        for foreign in [&of_devices, &nonce["nonce"], &json!("guess"), &json!("")] {
            let auth = json!({ "type": "m.login.dummy", "session": foreign });
            let answer = register(server, "bob", auth).await;
            assert_ne!(&json!(session(&answer)), foreign);
            challenged(answer, Some("M_UNKNOWN"), &[]);
        }
        let of_registration = session(&register(server, "bob", Value::Null).await);
        let auth = json!({ "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": "ada" }, "session": of_registration });
        let wish = json!({ "devices": ["X"], "auth": auth });
        let answer = ada.call(Method::POST, "/delete_devices", Some(wish)).await;
        challenged(answer, Some("M_UNKNOWN"), &[]);
        let nonce =
            json!({ "nonce": of_registration, "username": "eve", "password": "p", "mac": "00" });
        refused(post(server, admin, nonce).await, 400, "M_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn nobody_has_any_number_of_sessions() {
    story(
        |_| {},
        async |server| {
            let first = session(&register(server, "ada", Value::Null).await);
            for _ in 0..250 {
                session(&register(server, "ada", Value::Null).await);
            }
            let last = session(&register(server, "ada", Value::Null).await);
            let auth = |id: &str| json!({ "type": "m.login.dummy", "session": id });
            let gone = register(server, "ada", auth(&first)).await;
            challenged(gone, Some("M_UNKNOWN"), &[]);
            ok(register(server, "ada", auth(&last)).await);
        },
    )
    .await;
}

/// What one process has begun another goes on with, and ends.
#[tokio::test]
async fn stages_are_completed_by_any_process() {
    let database = TestDatabase::postgres().await;
    let clock = Clock::manual(1_700_000_000_000);
    let mut servers = Vec::new();
    for _ in 0..2 {
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        servers.push(Server::with(store, token_and_terms));
    }
    let [one, two] = [servers[0].clone(), servers[1].clone()];
    token(&one, "spring", Some(1)).await;
    let id = session(&register(&one, "ada", Value::Null).await);
    let auth = json!({ "type": TOKEN, "session": id, "token": "spring" });
    challenged(register(&two, "ada", auth).await, None, &[TOKEN]);
    let auth = json!({ "type": TERMS, "session": id });
    let made = ok(register(&one, "ada", auth.clone()).await);
    let again = ok(register(&two, "ada", auth).await);
    assert_eq!(again["device_id"], made["device_id"]);
    assert_eq!(uses(&two, "spring").await, (0, 1));
    for server in servers {
        server.store.close().await;
    }
    database.remove().await;
}

/// A client sends the last request of a registration several times at once: one account is made of it.
#[tokio::test(flavor = "multi_thread")]
async fn one_session_makes_one_account() {
    story(token_and_terms, async |server| {
        token(server, "spring", Some(1)).await;
        let body = json!({ "password": "a good password" });
        let id = session(&post(server, REGISTER, body).await);
        let with = |auth: Value| json!({ "password": "a good password", "auth": auth });
        let auth = json!({ "type": TOKEN, "session": id, "token": "spring" });
        challenged(post(server, REGISTER, with(auth)).await, None, &[TOKEN]);
        let auth = json!({ "type": TERMS, "session": id });
        let asking = (0..6).map(|_| {
            let (server, body) = (server.clone(), with(auth.clone()));
            tokio::spawn(async move { post(&server, REGISTER, body).await })
        });
        let mut users = Vec::new();
        for answer in asking.collect::<Vec<_>>() {
            users.push(ok(answer.await.unwrap())["user_id"].clone());
        }
        users.dedup();
        assert_eq!(users.len(), 1, "{users:?}");
        assert_eq!(uses(server, "spring").await, (0, 1));
    })
    .await;
}
