//! Whoever there is and isn't, the same is answered, after the same work.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::Method;
use rhizome_client_api::ClientConfig;
use rhizome_storage::{AccountFlag, Admission, NewAccount};
use ring::digest;
use ruma::{DeviceId, UserId, user_id};
use serde_json::{Value, json};

use super::{
    Answer, LOGIN, REGISTER, ask, by_mail, by_name, login, post, stranger, strict, user,
    with_tokens,
};
use crate::contact::{RESET, World, each_with};

fn hash(text: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// Some strangers ask the same, one after the other; what they are answered, and how often a password was hashed for each.
async fn tried(world: &World, first: usize, path: &str, body: &Value) -> Vec<(Answer, u64)> {
    let begun = || world.server.app.hashing().begun;
    let mut all = Vec::new();
    for n in 0..12 {
        let before = begun();
        let answer = post(world, stranger(first + n), path, body.clone()).await;
        all.push((answer, begun() - before));
    }
    all
}

/// Accounts in every state: each is tried like one that there isn't.
#[tokio::test]
async fn a_wrong_password_says_nothing_of_the_account() {
    each_with(strict, async |world| {
        user(world, "ada").await;
        let store = &world.server.store;
        let make = async |name: &UserId, waits: bool| {
            let admission = Admission {
                awaits_approval: waits,
                ..Admission::default()
            };
            let account = NewAccount {
                password_hash: Some(
                    "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA".into(),
                ),
                admission,
                ..NewAccount::default()
            };
            let made = store.create_account(name, account, None);
            made.await.unwrap().unwrap()
        };
        make(user_id!("@waits:here"), true).await;
        let locked = make(user_id!("@locked:here"), false).await;
        let flag = AccountFlag::Locked;
        assert!(store.set_account_flag(locked, flag, true).await.unwrap());
        let gone = make(user_id!("@gone:here"), false).await;
        store.deactivate_account(gone, false).await.unwrap();
        let phone =
            |number: &str| json!({ "type": "m.id.phone", "country": "GB", "phone": number });
        let known = [
            by_name("ada"),
            by_name("waits"),
            by_name("locked"),
            by_name("gone"),
            by_mail("ada@example.org"),
            phone("07700 900001"),
        ];
        let mut first = 0;
        let mut next = || {
            first += 20;
            first
        };
        let nobody = tried(world, next(), LOGIN, &login(&by_name("nobody"), "guess")).await;
        let at_nobody = login(&by_mail("nobody@example.org"), "guess");
        let no_address = tried(world, next(), LOGIN, &at_nobody).await;
        // Ten of an account, whoever tries: each is hashed once. So is what would let in who is at home; of an address none is.
        for (all, then) in [(&nobody, 1), (&no_address, 0)] {
            for (n, (answer, hashed)) in all.iter().enumerate() {
                let expected = if n < 10 {
                    ("M_FORBIDDEN", 1)
                } else {
                    ("M_LIMIT_EXCEEDED", then)
                };
                assert_eq!((&*answer.code(), *hashed), expected, "{n}");
            }
        }
        let no_phone = login(&phone("07700 900002"), "guess");
        assert_eq!(tried(world, next(), LOGIN, &no_phone).await, no_address);
        for identifier in known {
            // The account's bucket is full again, and how it was tried before says nothing.
            world.clock.advance(std::time::Duration::from_hours(1));
            let by_its_name = identifier["type"] == "m.id.user";
            let expected = if by_its_name { &nobody } else { &no_address };
            let body = login(&identifier, "guess");
            assert_eq!(
                &tried(world, next(), LOGIN, &body).await,
                expected,
                "{body}"
            );
        }
        // One that was tried too often by its name is as any other by its address.
        let by_address = login(&by_mail("ada@example.org"), "guess");
        world.clock.advance(std::time::Duration::from_hours(1));
        let by_its_name = login(&by_name("ada"), "guess");
        assert_eq!(tried(world, next(), LOGIN, &by_its_name).await, nobody);
        assert_eq!(tried(world, next(), LOGIN, &by_address).await, no_address);
    })
    .await;
}

#[tokio::test]
async fn a_token_to_log_in_is_wrong_however_it_came_to_be() {
    each_with(strict, async |world| {
        let ada = user(world, "ada").await;
        let store = &world.server.store;
        let no = store.account(user_id!("@ada:here")).await.unwrap().unwrap();
        let device = store.devices(no.user).await.unwrap().remove(0).device_id;
        let device: &DeviceId = &device;
        let now = store.clock().now_ms();
        for (token, until) in [("used", now + 60_000), ("expired", now + 1)] {
            let hashed = hash(token);
            let add = store.add_login_token((no.user, device), &hashed, until, 10);
            assert!(add.await.unwrap());
        }
        let with = |token: &str| json!({ "type": "m.login.token", "token": token });
        let used = post(world, stranger(1), LOGIN, with("used")).await;
        assert_eq!(used.status, 200);
        world.clock.advance(std::time::Duration::from_secs(2));
        let wrong = post(world, stranger(2), LOGIN, with("nonsense")).await;
        assert_eq!(wrong.code(), "M_FORBIDDEN");
        for (n, token) in ["used", "expired", "", &*ada.token].into_iter().enumerate() {
            let answer = post(world, stranger(3 + n), LOGIN, with(token)).await;
            assert_eq!(answer, wrong, "{token}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_has_a_code_sent_learns_of_no_account() {
    each_with(strict, async |world| {
        user(world, "ada").await;
        let mut first = 0;
        for what in [RESET, "/register"] {
            let path = format!("/_matrix/client/v3{what}/email/requestToken");
            let mut begun = Vec::new();
            for address in ["ada@example.org", "nobody@example.org"] {
                first += 20;
                let body = |attempt: usize| {
                    json!({ "client_secret": "secret", "email": address, "send_attempt": attempt })
                };
                let mut all = Vec::new();
                for n in 0..7 {
                    let answer = post(world, stranger(first + n), &path, body(n + 1)).await;
                    all.push(answer);
                }
                begun.push(all);
            }
            let masked = |all: &[Answer]| all.iter().map(Answer::masked).collect::<Vec<_>>();
            assert_eq!(masked(&begun[0]), masked(&begun[1]), "{what}");
            assert_eq!(begun[0][0].status, 200);
            assert_eq!(begun[0][6].code(), "M_LIMIT_EXCEEDED");
            // A wrong code, and what wasn't confirmed.
            let mut after = Vec::new();
            for all in &begun {
                let sid = all[0].json()["sid"].clone();
                let creds = json!({ "sid": sid, "client_secret": "secret" });
                let submitted =
                    json!({ "sid": sid, "client_secret": "secret", "token": "abcdefgh" });
                let submit = "/_matrix/client/unstable/org.rhizome.mail/submit";
                let wrong = post(world, stranger(first + 10), submit, submitted).await;
                assert_eq!(wrong.code(), "M_TOKEN_INCORRECT");
                let set = json!({ "new_password": "mine now", "auth":
                    { "type": "m.login.email.identity", "threepid_creds": creds } });
                let path = "/_matrix/client/v3/account/password";
                let unproved = post(world, stranger(first + 11), path, set).await;
                assert_eq!(unproved.code(), "M_THREEPID_AUTH_FAILED");
                after.push((wrong, unproved.masked()));
            }
            assert_eq!(after[0], after[1], "{what}");
        }
    })
    .await;
}

/// The specification has a client told that nobody has an address, unless the operator thinks otherwise.
#[tokio::test]
async fn who_resets_a_password_is_told_that_nobody_has_the_address() {
    let told = |config: &mut ClientConfig| {
        strict(config);
        config.identity.hide_known = false;
    };
    each_with(told, async |world| {
        user(world, "ada").await;
        let path = format!("/_matrix/client/v3{RESET}/email/requestToken");
        for (n, (address, status, code)) in [
            ("ada@example.org", 200, ""),
            ("nobody@example.org", 400, "M_THREEPID_NOT_FOUND"),
        ]
        .into_iter()
        .enumerate()
        {
            let body = json!({ "client_secret": "secret", "email": address, "send_attempt": 1 });
            let answer = post(world, stranger(n), &path, body).await;
            assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code));
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_to_register_is_wrong_however_it_came_to_be() {
    each_with(with_tokens, async |world| {
        let store = &world.server.store;
        let now = store.clock().now_ms();
        for (token, uses, until) in [
            ("exhausted", Some(1), None),
            ("expired", None, Some(now - 1)),
            ("deleted", None, None),
        ] {
            let added = store.add_registration_token(token, uses, until);
            assert!(added.await.unwrap());
        }
        let held = store.reserve_registration_token("exhausted", "another", now + 3_600_000);
        assert!(held.await.unwrap());
        assert!(store.delete_registration_token("deleted").await.unwrap());
        let mut all = Vec::new();
        for (n, token) in ["nonsense", "exhausted", "expired", "deleted"]
            .into_iter()
            .enumerate()
        {
            let from = stranger(n);
            let body = json!({ "username": "eve", "password": "a good password" });
            let begun = post(world, from, REGISTER, body.clone()).await;
            assert_eq!(begun.status, 401);
            let mut with = body;
            with["auth"] = json!({ "type": "m.login.registration_token", "token": token,
                "session": begun.json()["session"] });
            let wrong = post(world, from, REGISTER, with).await;
            assert_eq!(wrong.code(), "M_UNAUTHORIZED");
            let path = "/_matrix/client/v1/register/m.login.registration_token/validity?token=";
            let path = format!("{path}{token}");
            let valid = ask(world, from, Method::GET, &path, Value::Null).await;
            assert_eq!(valid.json(), json!({ "valid": false }));
            all.push((begun.masked(), wrong.masked(), valid));
        }
        assert!(all.iter().all(|one| *one == all[0]), "{all:#?}");
        assert_eq!(world.server.app.hashing().begun, 0);
    })
    .await;
}
