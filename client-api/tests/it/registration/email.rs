//! Accounts with an address that mails come to. That it is confirmed is written as if its owner had followed the mail's link.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rhizome_client_api::{
    ClientConfig,
    config::{ContactRule, Registration},
};
use rhizome_storage::{Medium, NewValidation, ThirdParty, Tried};
use ring::digest;
use ruma::user_id;
use serde_json::{Value, json};

use super::{
    REGISTER, TERMS, challenged, ok, post, refused, register, session, story, token_and_terms,
};
use crate::harness::Server;

const EMAIL: &str = "m.login.email.identity";

fn with_address(config: &mut ClientConfig) {
    token_and_terms(config);
    config.registration = Registration::Open;
    let rules = &mut config.registration_rules;
    rules.email = ContactRule::Required;
    rules.denied_email_domains = vec!["*.bad.example".into()];
}

fn hash(text: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// A session in which an address is to be confirmed for something, with the client's secret `secret`.
async fn begun(server: &Server, sid: &str, purpose: &str, address: &str) {
    let third_party = ThirdParty {
        medium: Medium::Email,
        address: address.to_owned(),
    };
    let new = NewValidation {
        sid,
        purpose,
        third_party: &third_party,
        owner: None,
        secret: &hash("secret"),
        code: &hash("code"),
        send_attempt: 1,
        next_link: None,
        expires_ms: i64::MAX,
    };
    let (begun, _) = server.store.begin_validation(&new).await.unwrap();
    assert_eq!(begun, sid);
}

/// Its owner follows the link.
async fn confirm(server: &Server, sid: &str) {
    let code = hash("code");
    let tried = server.store.try_code(sid, None, &code, i64::MAX);
    assert!(matches!(tried.await.unwrap(), Tried::Right(_)));
}

fn creds(session: &str, sid: &str, secret: &str) -> Value {
    json!({ "type": EMAIL, "session": session,
        "threepid_creds": { "sid": sid, "client_secret": secret } })
}

#[tokio::test]
async fn an_account_has_the_address_that_was_confirmed() {
    story(with_address, async |server| {
        let first = register(server, "ada", Value::Null).await;
        let id = session(&first);
        assert_eq!(first.1["flows"], json!([{ "stages": [EMAIL, TERMS] }]));
        let ask =
            async |sid: &str, secret: &str| register(server, "ada", creds(&id, sid, secret)).await;
        begun(server, "mine", "register", "ada@good.example").await;
        begun(server, "reset", "password", "ada@good.example").await;
        begun(server, "bad", "register", "ada@very.bad.example").await;
        let failed = Some("M_THREEPID_AUTH_FAILED");
        challenged(ask("mine", "secret").await, failed, &[]);
        for sid in ["mine", "reset", "bad"] {
            confirm(server, sid).await;
        }
        challenged(ask("mine", "guess").await, failed, &[]);
        challenged(ask("reset", "secret").await, failed, &[]);
        challenged(ask("none", "secret").await, failed, &[]);
        challenged(ask("bad", "secret").await, Some("M_THREEPID_DENIED"), &[]);
        challenged(ask("mine", "secret").await, None, &[EMAIL]);
        let terms = json!({ "type": TERMS, "session": id });
        ok(register(server, "ada", terms.clone()).await);
        let ada = server.store.account(user_id!("@ada:here")).await.unwrap();
        let ada = ada.unwrap().user;
        let owner = server
            .store
            .third_party_owner(Medium::Email, "ada@good.example");
        assert_eq!(owner.await.unwrap(), Some(ada));
        // The address has served; the answer may still be lost.
        assert_eq!(server.store.validation("mine").await.unwrap(), None);
        ok(register(server, "ada", terms).await);

        // Whose address it is confirms who they are by it.
        let ada = ok(login(server).await);
        let auth = |address: &str| {
            json!({ "type": "m.login.password", "password": "a good password", "identifier": {
                "type": "m.id.thirdparty", "medium": "email", "address": address } })
        };
        let token = ada["access_token"].as_str().unwrap();
        let path = "/_matrix/client/v3/delete_devices";
        let ask = async |address: &str| {
            let body = json!({ "devices": ["X"], "auth": auth(address) });
            let asked = server.request(http::Method::POST, path, Some(token), Some(body));
            asked.await
        };
        refused(ask("bob@good.example").await, 403, "M_FORBIDDEN");
        refused(ask("no address").await, 403, "M_FORBIDDEN");
        ok(ask("Ada@Good.Example").await);
    })
    .await;
}

async fn login(server: &Server) -> (http::StatusCode, Value) {
    let body = json!({ "type": "m.login.password", "password": "a good password",
        "identifier": { "type": "m.id.user", "user": "ada" } });
    post(server, "/_matrix/client/v3/login", body).await
}

/// Two who have confirmed the same address, each in a session of their own, don't both get it.
#[tokio::test]
async fn an_address_is_one_accounts() {
    story(with_address, async |server| {
        let mut sessions = Vec::new();
        for name in ["ada", "bob"] {
            let id = session(&register(server, name, Value::Null).await);
            let third_party = ThirdParty {
                medium: Medium::Email,
                address: "one@good.example".to_owned(),
            };
            let new = NewValidation {
                sid: name,
                purpose: "register",
                third_party: &third_party,
                owner: None,
                secret: &hash(name),
                code: &hash("code"),
                send_attempt: 1,
                next_link: None,
                expires_ms: i64::MAX,
            };
            server.store.begin_validation(&new).await.unwrap();
            confirm(server, name).await;
            let answer = register(server, name, creds(&id, name, name)).await;
            challenged(answer, None, &[EMAIL]);
            sessions.push(json!({ "type": TERMS, "session": id }));
        }
        ok(register(server, "ada", sessions[0].clone()).await);
        let late = register(server, "bob", sessions[1].clone()).await;
        refused(late, 400, "M_THREEPID_IN_USE");
        let account = server.store.account(user_id!("@bob:here"));
        assert_eq!(account.await.unwrap(), None);
        // Who comes later is told earlier.
        begun(server, "later", "register", "one@good.example").await;
        confirm(server, "later").await;
        let id = session(&register(server, "eve", Value::Null).await);
        let answer = register(server, "eve", creds(&id, "later", "secret")).await;
        challenged(answer, Some("M_THREEPID_IN_USE"), &[]);
    })
    .await;
}

/// A guest who becomes a user has one too.
#[tokio::test]
async fn guests_confirm_theirs() {
    let settings = |config: &mut ClientConfig| {
        with_address(config);
        config.guests = true;
        config.registration_rules.terms.clear();
    };
    story(settings, async |server| {
        let path = format!("{REGISTER}?kind=guest");
        let guest = ok(post(server, &path, json!({})).await);
        let id = guest["user_id"].as_str().unwrap();
        begun(server, "guest", "register", "guest@good.example").await;
        confirm(server, "guest").await;
        let wish = json!({ "username": id.split_once(':').unwrap().0[1..], "password": "p",
            "guest_access_token": guest["access_token"],
            "auth": { "type": EMAIL,
                "threepid_creds": { "sid": "guest", "client_secret": "secret" } } });
        ok(post(server, REGISTER, wish).await);
        let owner = server
            .store
            .third_party_owner(Medium::Email, "guest@good.example");
        assert!(owner.await.unwrap().is_some());
    })
    .await;
}
