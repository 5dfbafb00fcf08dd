//! An identity server.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::HeaderMap,
    routing::{get, post},
};
use http::StatusCode;
use rhizome_federation::{
    Federation,
    testing::Network,
    xmatrix::{Signed, XMatrix},
};
use rhizome_protocol::{
    Object, hash,
    sign::{KeyPair, sign_json},
};
use ruma::server_name;
use serde_json::{Value, json};

/// The token that users have there.
pub const TOKEN: &str = "token of a user";
pub const NAME: &str = "id.example";
const PEPPER: &str = "matrixrocks";

/// An identity server that knows what a test says.
#[derive(Clone, Default)]
pub struct Directory {
    state: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// Whose an address is, by the address.
    bound: HashMap<String, String>,
    /// What was asked to be kept.
    stored: Vec<Value>,
    /// Bodies of requests to unbind, with how they were signed.
    unbound: Vec<(String, String)>,
    /// Whether its keys are valid.
    revoked: bool,
}

type Answer = (StatusCode, Json<Value>);

fn key() -> KeyPair {
    KeyPair::from_seed("0", &[9; 32]).unwrap()
}

fn is_user(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|it| *it == *format!("Bearer {TOKEN}"))
}

fn unauthorized() -> Answer {
    let error = json!({ "errcode": "M_UNAUTHORIZED", "error": "who are you?" });
    (StatusCode::UNAUTHORIZED, Json(error))
}

fn ok(answer: Value) -> Answer {
    (StatusCode::OK, Json(answer))
}

async fn bind(State(it): State<Directory>, headers: HeaderMap, Json(asked): Json<Value>) -> Answer {
    if !is_user(&headers) {
        return unauthorized();
    }
    let text = |key: &str| asked[key].as_str().unwrap().to_owned();
    if text("client_secret") != "secret" {
        let error = json!({ "errcode": "M_NO_VALID_SESSION", "error": "no" });
        return (StatusCode::NOT_FOUND, Json(error));
    }
    // Its sessions are called by their addresses, in the characters that may be.
    let (address, user) = (text("sid").replace("=40", "@"), text("mxid"));
    it.binds(&address, &user);
    ok(json!({
        "medium": "email", "address": address, "mxid": user,
        "ts": 1, "not_before": 1, "not_after": 2, "signatures": {},
    }))
}

async fn unbind(State(it): State<Directory>, headers: HeaderMap, body: String) -> Answer {
    let signed = headers["authorization"].to_str().unwrap().to_owned();
    let asked: Value = serde_json::from_str(&body).unwrap();
    let address = asked["threepid"]["address"].as_str().unwrap();
    let mut known = it.state.lock().unwrap();
    let gone = known.bound.remove(address);
    known.unbound.push((body.clone(), signed));
    if gone.is_none() {
        let error = json!({ "errcode": "M_NOT_FOUND", "error": "isn't bound" });
        return (StatusCode::NOT_FOUND, Json(error));
    }
    ok(json!({}))
}

async fn hash_details(headers: HeaderMap) -> Answer {
    if !is_user(&headers) {
        return unauthorized();
    }
    ok(json!({ "lookup_pepper": PEPPER, "algorithms": ["none", "sha256"] }))
}

async fn lookup(
    State(it): State<Directory>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> Answer {
    if !is_user(&headers) {
        return unauthorized();
    }
    // Never the address itself.
    assert_eq!(
        (&asked["algorithm"], &asked["pepper"]),
        (&json!("sha256"), &json!(PEPPER))
    );
    let known = it.state.lock().unwrap();
    let hashed = known.bound.iter().map(|(address, user)| {
        let text = format!("{address} email {PEPPER}");
        (
            hash::to_url_base64(&hash::sha256(text.as_bytes())),
            user.clone(),
        )
    });
    let asked = asked["addresses"].as_array().unwrap();
    let found: HashMap<_, _> = hashed
        .filter(|(hash, _)| asked.contains(&json!(hash)))
        .collect();
    ok(json!({ "mappings": found }))
}

async fn store(
    State(it): State<Directory>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> Answer {
    if !is_user(&headers) {
        return unauthorized();
    }
    let mut known = it.state.lock().unwrap();
    known.stored.push(asked);
    let valid = format!("https://{NAME}/_matrix/identity/v2/pubkey/isvalid");
    ok(json!({
        "token": format!("token{}", known.stored.len()),
        "public_keys": [{ "public_key": key().public_base64(), "key_validity_url": valid }],
        "display_name": "b...@e...",
    }))
}

async fn is_valid(
    State(it): State<Directory>,
    Query(asked): Query<HashMap<String, String>>,
) -> Answer {
    let is_ours = asked["public_key"] == key().public_base64();
    ok(json!({ "valid": is_ours && !it.state.lock().unwrap().revoked }))
}

impl Directory {
    pub fn attach(network: &Network) -> Self {
        let directory = Self::default();
        let at = |what: &str| format!("/_matrix/identity/v2/{what}");
        let router = Router::new()
            .route(&at("3pid/bind"), post(bind))
            .route(&at("3pid/unbind"), post(unbind))
            .route(&at("hash_details"), get(hash_details))
            .route(&at("lookup"), post(lookup))
            .route(&at("store-invite"), post(store))
            .route(&at("pubkey/isvalid"), get(is_valid))
            .with_state(directory.clone());
        network.attach(server_name!("id.example"), router);
        directory
    }

    /// Whose an address is from now on.
    pub fn binds(&self, address: &str, user: &str) {
        let mut known = self.state.lock().unwrap();
        known.bound.insert(address.to_owned(), user.to_owned());
    }

    /// What was asked to be kept.
    pub fn stored(&self) -> Vec<Value> {
        self.state.lock().unwrap().stored.clone()
    }

    /// Its keys aren't valid any more.
    pub fn revoke(&self) {
        self.state.lock().unwrap().revoked = true;
    }

    /// How many identifiers it was asked to forget, each time signed by this server.
    pub fn unbound(&self, by: &Federation) -> usize {
        let known = self.state.lock().unwrap();
        for (body, header) in &known.unbound {
            let header = XMatrix::parse(header).unwrap().unwrap();
            assert_eq!(header.origin, by.server_name());
            assert_eq!(
                header.destination.as_deref(),
                Some(server_name!("id.example"))
            );
            let target = "/_matrix/identity/v2/3pid/unbind";
            let signed = Signed::new("POST", target, body.as_bytes()).unwrap();
            let public = by.signing_key().public();
            assert!(header.verifies(&public, server_name!("id.example"), &signed));
        }
        known.unbound.len()
    }

    /// What it says of who has shown that an address is theirs.
    pub fn signs(&self, token: &str, user: &str) -> Value {
        self.signs_for(token, user, None)
    }

    /// The same, with who has invited them.
    #[expect(clippy::unused_self, reason = "it is who signs")]
    pub fn signs_for(&self, token: &str, user: &str, inviter: Option<&str>) -> Value {
        let mut signed = json!({ "mxid": user, "token": token });
        if let Some(inviter) = inviter {
            signed["sender"] = inviter.into();
        }
        let mut signed: Object = signed.as_object().unwrap().clone();
        sign_json(&mut signed, server_name!("id.example"), &key()).unwrap();
        signed.into()
    }
}
