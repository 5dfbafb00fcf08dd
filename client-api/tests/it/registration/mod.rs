//! What it takes to register, and to confirm who one is: stages, tokens, policies, captchas, approval, and the same in a
//! browser.

mod approval;
mod captcha;
mod confirm;
mod email;
mod flows;
mod names;
mod pages;
mod tokens;

use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use rhizome_client_api::{
    ClientConfig,
    config::{Document, Registration, TermsPolicy},
};
use rhizome_storage::{Store, testing::each_database};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::Server;

const REGISTER: &str = "/_matrix/client/v3/register";
const TOKEN: &str = "m.login.registration_token";
const TERMS: &str = "m.login.terms";

/// Runs a story with servers of these settings on both databases.
async fn story(change: impl Fn(&mut ClientConfig), tell: impl AsyncFn(&Server)) {
    each_database(async |store: Store| {
        tell(&Server::with(store, |config| change(config))).await;
    })
    .await;
}

/// Who has a token and accepts the terms may register.
fn token_and_terms(config: &mut ClientConfig) {
    config.registration = Registration::Token;
    config.registration_rules.terms = vec![TermsPolicy {
        id: "privacy".into(),
        version: "1.2".into(),
        documents: [("en", "Privacy <b>& \"all\"</b>"), ("de", "Datenschutz")]
            .into_iter()
            .map(|(language, name)| Document {
                language: language.into(),
                name: name.into(),
                url: format!("https://here/privacy?a=1&l={language}"),
            })
            .collect(),
    }];
}

async fn post(server: &Server, path: &str, body: Value) -> (StatusCode, Value) {
    server.request(Method::POST, path, None, Some(body)).await
}

/// Asks to register as `name`, with something to authenticate that.
async fn register(server: &Server, name: &str, auth: Value) -> (StatusCode, Value) {
    let mut body = json!({ "username": name, "password": "a good password" });
    if !auth.is_null() {
        body["auth"] = auth;
    }
    post(server, REGISTER, body).await
}

/// A challenge: its session.
#[track_caller]
fn session((status, answer): &(StatusCode, Value)) -> String {
    assert_eq!(*status, StatusCode::UNAUTHORIZED, "{answer}");
    answer["session"].as_str().unwrap().to_owned()
}

/// A challenge with this code, or none, and these stages completed.
#[track_caller]
fn challenged((status, answer): (StatusCode, Value), code: Option<&str>, completed: &[&str]) {
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    assert_eq!(
        answer.get("errcode").and_then(Value::as_str),
        code,
        "{answer}"
    );
    let done = answer.get("completed").cloned().unwrap_or(json!([]));
    assert_eq!(done, json!(completed), "{answer}");
}

#[track_caller]
fn refused((status, answer): (StatusCode, Value), with: u16, code: &str) {
    assert_eq!(
        (status.as_u16(), answer["errcode"].as_str()),
        (with, Some(code)),
        "{answer}"
    );
}

#[track_caller]
fn ok((status, answer): (StatusCode, Value)) -> Value {
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// A token with so many uses.
async fn token(server: &Server, token: &str, uses: Option<i64>) {
    let added = server.store.add_registration_token(token, uses, None);
    assert!(added.await.unwrap());
}

/// Registrations under way with a token, and accounts that were made with it.
async fn uses(server: &Server, token: &str) -> (i64, i64) {
    let tokens = server
        .store
        .registration_tokens(None, (0, 9))
        .await
        .unwrap();
    let found = tokens.into_iter().find(|one| one.token == token).unwrap();
    (found.pending, found.completed)
}

/// Any request, whose answer needn't be JSON.
async fn browse(server: &Server, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let answer = server.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (parts.status, parts.headers, text)
}
