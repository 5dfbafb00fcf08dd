//! Strangers at many addresses who try passwords, tokens, resets, registrations and names.

mod answers;
mod home;
mod storm;

use std::net::{IpAddr, SocketAddr};

use axum::{body::Body, extract::ConnectInfo};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use rhizome_client_api::{
    ClientConfig,
    config::{ContactRule, RateLimits, Registration},
};
use rhizome_storage::{Medium, ThirdParty};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{contact::World, harness::User};

const LOGIN: &str = "/_matrix/client/v3/login";
const REGISTER: &str = "/_matrix/client/v3/register";

/// What somebody is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errcode"].as_str().unwrap_or("").to_owned()
    }

    /// Without what is made up anew for each: ids, by their length.
    fn masked(&self) -> (StatusCode, HeaderMap, String) {
        let mut body = self.json();
        for key in ["sid", "session"] {
            if let Some(Value::String(id)) = body.get_mut(key) {
                *id = "x".repeat(id.len());
            }
        }
        (self.status, self.headers.clone(), body.to_string())
    }
}

/// A request from an address.
async fn ask(world: &World, from: IpAddr, method: Method, path: &str, body: Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .extension(ConnectInfo(SocketAddr::new(from, 1)));
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    let router = world.server.router.clone();
    let answer = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: axum::body::to_bytes(body, 1 << 20).await.unwrap(),
    }
}

async fn post(world: &World, from: IpAddr, path: &str, body: Value) -> Answer {
    ask(world, from, Method::POST, path, body).await
}

/// A stranger's address: each is another subscriber's, every second with IPv6.
fn stranger(n: usize) -> IpAddr {
    let n = u32::try_from(n).unwrap();
    if n.is_multiple_of(2) {
        return std::net::Ipv4Addr::from_bits(0xC612_0000 + n).into();
    }
    std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) | (u128::from(n) << 80) | 1).into()
}

fn by_name(name: &str) -> Value {
    json!({ "type": "m.id.user", "user": name })
}

fn by_mail(address: &str) -> Value {
    json!({ "type": "m.id.thirdparty", "medium": "email", "address": address })
}

fn login(identifier: &Value, password: &str) -> Value {
    json!({ "type": "m.login.password", "identifier": identifier, "password": password })
}

/// Limits as they usually are, and nothing told of who has an account.
fn strict(config: &mut ClientConfig) {
    config.rate_limits = RateLimits::default();
    config.identity.hide_known = true;
    config.registration_rules.email = ContactRule::Optional;
}

/// The same, and who registers needs a token.
fn with_tokens(config: &mut ClientConfig) {
    strict(config);
    config.registration = Registration::Token;
}

/// A user with an address and a telephone number, whoever may register.
async fn user(world: &World, name: &str) -> User {
    let user = world.server.register(name).await;
    let no = world
        .server
        .store
        .account(user.id.as_str().try_into().unwrap());
    let no = no.await.unwrap().unwrap().user;
    for (medium, address) in [
        (Medium::Email, format!("{name}@example.org")),
        (Medium::Msisdn, "447700900001".to_owned()),
    ] {
        let third_party = ThirdParty { medium, address };
        let added = world.server.store.add_third_party(no, third_party, 1);
        assert!(added.await.unwrap());
    }
    user
}
