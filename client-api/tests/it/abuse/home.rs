//! Who guesses an account's password doesn't keep its owner out.

use std::net::IpAddr;

use rhizome_client_api::{ClientConfig, config::Network};
use serde_json::json;

use super::{LOGIN, REGISTER, by_mail, by_name, login, post, stranger, strict, user};
use crate::contact::each_with;

const PASSWORD: &str = "a good password";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn an_owner_gets_in_from_where_they_were_seen_last() {
    each_with(strict, async |world| {
        user(world, "ada").await;
        let good = login(&by_name("ada"), PASSWORD);
        let (home, neighbour) = (address("2001:db8:ada::1"), address("2001:db8:ada::2"));
        assert_eq!(post(world, home, LOGIN, good.clone()).await.status, 200);
        let guess = login(&by_name("ada"), "guess");
        // One of ten was hers.
        for n in 0..9 {
            let tried = post(world, stranger(n), LOGIN, guess.clone()).await;
            assert_eq!(tried.code(), "M_FORBIDDEN");
        }
        // Nobody else gets in now, whatever they know.
        let elsewhere = post(world, stranger(20), LOGIN, good.clone()).await;
        assert_eq!(elsewhere.code(), "M_LIMIT_EXCEEDED");
        // Neighbours who guess are told what strangers are.
        let guessed = post(world, neighbour, LOGIN, guess).await;
        assert_eq!(guessed, elsewhere);
        for identifier in [
            by_name("ada"),
            by_name("@ADA:here"),
            by_mail("ada@example.org"),
        ] {
            let body = login(&identifier, PASSWORD);
            let answer = post(world, neighbour, LOGIN, body).await;
            assert_eq!(answer.status, 200, "{identifier}: {:?}", answer.json());
        }
    })
    .await;
}

fn few(config: &mut ClientConfig) {
    strict(config);
    config.rate_limits.login.burst = 4;
    // Or the address would have had its own before.
    config.rate_limits.exempt_networks = vec![Network {
        address: address("192.0.2.0"),
        bits: 24,
    }];
}

/// Nor may who is at home guess for ever.
#[tokio::test]
async fn who_is_at_home_has_so_many_tries_too() {
    each_with(few, async |world| {
        user(world, "ada").await;
        let good = login(&by_name("ada"), PASSWORD);
        let home = address("192.0.2.1");
        assert_eq!(post(world, home, LOGIN, good.clone()).await.status, 200);
        for n in 0..3 {
            let guess = login(&by_name("ada"), "guess");
            post(world, stranger(n), LOGIN, guess).await;
        }
        let begun = || world.server.app.hashing().begun;
        let before = begun();
        for _ in 0..4 {
            let guess = login(&by_name("ada"), "guess");
            let wrong = post(world, home, LOGIN, guess).await;
            assert_eq!(wrong.code(), "M_LIMIT_EXCEEDED");
        }
        assert_eq!(begun() - before, 4);
        let refused = post(world, home, LOGIN, good).await;
        assert_eq!(refused.code(), "M_LIMIT_EXCEEDED");
        assert_eq!(begun() - before, 4);
    })
    .await;
}

/// Nor does who guesses there learn that it is somebody's home, or that there is somebody.
#[tokio::test]
async fn neighbours_learn_nothing_of_who_lives_there() {
    each_with(few, async |world| {
        user(world, "ada").await;
        let (home, elsewhere) = (address("192.0.2.1"), address("192.0.2.2"));
        let good = login(&by_name("ada"), PASSWORD);
        assert_eq!(post(world, home, LOGIN, good).await.status, 200);
        let begun = || world.server.app.hashing().begun;
        let mut told = Vec::new();
        for (name, from) in [("ada", home), ("ada", elsewhere), ("nobody", home)] {
            world.clock.advance(std::time::Duration::from_hours(1));
            let mut all = Vec::new();
            for _ in 0..10 {
                let before = begun();
                let guess = login(&by_name(name), "guess");
                let answer = post(world, from, LOGIN, guess).await;
                all.push((answer, begun() - before));
            }
            told.push(all);
        }
        let hashed: Vec<_> = told[0].iter().map(|(_, hashed)| *hashed).collect();
        assert_eq!(hashed, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert!(told.iter().all(|all| *all == told[0]), "{told:#?}");
    })
    .await;
}

/// Who asks again for the answer to a registration has the tries of who logs in.
#[tokio::test]
async fn registering_again_is_no_way_around() {
    each_with(strict, async |world| {
        let mut body = json!({ "username": "ada", "password": PASSWORD, "inhibit_login": true });
        let begun = post(world, stranger(0), REGISTER, body.clone()).await;
        body["auth"] = json!({ "type": "m.login.dummy", "session": begun.json()["session"] });
        let made = post(world, stranger(0), REGISTER, body.clone()).await;
        assert_eq!(made.status, 200);
        body["password"] = "guess".into();
        for n in 1..6 {
            let again = post(world, stranger(n), REGISTER, body.clone()).await;
            assert_eq!(again.code(), "M_USER_IN_USE");
        }
        let guess = login(&by_name("ada"), "guess");
        for n in 6..11 {
            let tried = post(world, stranger(n), LOGIN, guess.clone()).await;
            assert_eq!(tried.code(), "M_FORBIDDEN");
        }
        for (path, body) in [(REGISTER, body), (LOGIN, guess)] {
            let refused = post(world, stranger(11), path, body).await;
            assert_eq!(refused.code(), "M_LIMIT_EXCEEDED");
        }
    })
    .await;
}
