//! Many addresses at once. `RHIZOME_STORM_ADDRESSES=1000` makes it so many (100 unless set).

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use http::Method;
use rhizome_client_api::ClientConfig;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use super::{Answer, LOGIN, REGISTER, ask, by_mail, by_name, login, post, stranger, with_tokens};
use crate::contact::{RESET, World, each_with};

/// How many passwords are hashed at once.
const SLOTS: usize = 2;
const PASSWORD: &str = "a good password";

fn addresses() -> usize {
    std::env::var("RHIZOME_STORM_ADDRESSES").map_or(100, |count| {
        count.parse().expect("RHIZOME_STORM_ADDRESSES is a number")
    })
}

/// Passwords that take as long as in earnest, compared with all the rest.
fn costly(config: &mut ClientConfig) {
    with_tokens(config);
    config.password_cost.memory_kib = 32 * 1024;
    config.password_cost.concurrency = SLOTS;
}

/// What a stranger tries, one after the other.
async fn try_all(world: &World, n: usize, answered: &AtomicUsize) -> Vec<Answer> {
    let from = stranger(n);
    let guess = |identifier: Value| login(&identifier, "guess");
    let register = json!({ "username": format!("mallory{n}"), "password": PASSWORD,
        "auth": { "type": "m.login.registration_token", "token": format!("guess{n}") } });
    let reset = json!({ "client_secret": "secret", "email": format!("{n}@example.org"),
        "send_attempt": 1 });
    let token = json!({ "type": "m.login.token", "token": format!("guess{n}") });
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=guess";
    let available = format!("{REGISTER}/available?username=mallory{n}");
    let mut answers = Vec::new();
    for (method, path, body) in [
        (Method::POST, LOGIN, guess(by_name(&format!("nobody{n}")))),
        (Method::POST, LOGIN, guess(by_name("ada"))),
        (
            Method::POST,
            LOGIN,
            guess(by_mail(&format!("{n}@example.org"))),
        ),
        (Method::POST, LOGIN, token),
        (Method::POST, REGISTER, register),
        (
            Method::POST,
            &*format!("/_matrix/client/v3{RESET}/email/requestToken"),
            reset,
        ),
        (Method::GET, validity, Value::Null),
        (Method::GET, available.as_str(), Value::Null),
    ] {
        answers.push(ask(world, from, method, path, body).await);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    answers
}

/// Where Ada has been before, …
fn home() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

/// … and where nobody has.
fn ordinary() -> IpAddr {
    "192.0.2.2".parse().unwrap()
}

/// There are Ada and Bob; each stranger has tried a name already, and all that there may be of Ada's tries are made.
async fn prepare(world: &World, many: usize) {
    for name in ["ada", "bob"] {
        let token = world
            .server
            .store
            .add_registration_token(name, Some(1), None);
        assert!(token.await.unwrap());
        make(world, name).await;
    }
    let ada = login(&by_name("ada"), PASSWORD);
    assert_eq!(post(world, home(), LOGIN, ada).await.status, 200);
    let begun = world.server.app.hashing().begun;
    let first = stream::iter(0..many).map(|n| async move {
        // One of Ada's ten was her own.
        let name = match n {
            0..9 => "ada".to_owned(),
            n => format!("nobody{n}"),
        };
        let tried = post(world, stranger(n), LOGIN, login(&by_name(&name), "guess")).await;
        assert_eq!(tried.code(), "M_FORBIDDEN");
    });
    first.buffer_unordered(50).collect::<Vec<()>>().await;
    let hashed = world.server.app.hashing().begun - begun;
    assert_eq!(hashed, many as u64, "each is compared, or looks so");
}

/// Others log in meanwhile.
async fn log_in(world: &World, many: usize, answered: &AtomicUsize) {
    let hashing = || world.server.app.hashing();
    let enough = (many * 3 / 4).min(SLOTS * 100);
    eventually("strangers wait for their turn", async || {
        hashing().waiting >= enough
    })
    .await;
    let before = hashing();
    let (ada, bob) = tokio::join!(
        post(world, home(), LOGIN, login(&by_name("ada"), PASSWORD)),
        post(world, ordinary(), LOGIN, login(&by_name("bob"), PASSWORD))
    );
    assert_eq!((ada.status.as_u16(), bob.status.as_u16()), (200, 200));
    // They were answered before those were who had come before them.
    let meanwhile = hashing().begun - before.begun;
    assert!(meanwhile < before.waiting as u64, "{meanwhile}, {before:?}");
    assert!(answered.load(Ordering::Relaxed) < many * 8);
}

async fn tell(world: &World) {
    let many = addresses();
    prepare(world, many).await;
    let begun = world.server.app.hashing().begun;
    let answered = AtomicUsize::new(0);
    let storm = join_all((0..many).map(|n| try_all(world, n, &answered)));
    let (all, ()) = tokio::join!(storm, log_in(world, many, &answered));

    let hashing = world.server.app.hashing();
    assert!(hashing.most_at_once <= SLOTS, "{hashing:?}");
    // Who isn't at home is hashed for as who is.
    assert!(hashing.begun - begun <= many as u64 * 3 + 2, "{hashing:?}");
    let codes = |at: usize| all.iter().map(move |answers| answers[at].code());
    // Nobody got in, and who was tried doesn't show; of Ada's tries none was left.
    for at in [0, 2] {
        assert!(codes(at).all(|code| code == "M_FORBIDDEN" || code == "M_LIMIT_EXCEEDED"));
        if many <= SLOTS * 100 {
            // Nor was anybody sent away because there were so many.
            assert!(codes(at).all(|code| code == "M_FORBIDDEN"));
        }
    }
    assert!(codes(1).all(|code| code == "M_LIMIT_EXCEEDED"));
    let rest = [
        (3, "M_FORBIDDEN"),
        (4, "M_UNAUTHORIZED"),
        (5, ""),
        (6, ""),
        (7, ""),
    ];
    for (at, code) in rest {
        let first = all[0][at].masked();
        let same = all.iter().all(|answers| answers[at].masked() == first);
        assert!(same, "{at}");
        assert_eq!(all[0][at].code(), code);
    }
}

/// An account with a password of this cost.
async fn make(world: &World, name: &str) {
    let from = "192.0.2.9".parse().unwrap();
    let mut body = json!({ "username": name, "password": PASSWORD, "inhibit_login": true });
    let begun = post(world, from, REGISTER, body.clone()).await;
    for auth in [
        json!({ "type": "m.login.registration_token", "token": name }),
        json!({ "type": "m.login.dummy" }),
    ] {
        body["auth"] = auth;
        body["auth"]["session"] = begun.json()["session"].clone();
        let answer = post(world, from, REGISTER, body.clone()).await;
        if answer.status == 200 {
            return;
        }
        assert_eq!(
            answer.json()["completed"],
            json!(["m.login.registration_token"])
        );
    }
    panic!("{name} isn't registered");
}

#[tokio::test]
async fn a_storm_is_weathered() {
    each_with(costly, tell).await;
}
