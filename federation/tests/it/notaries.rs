//! Keys by way of notaries.

use axum::{Router, routing::get};
use http::Method;
use rhizome_federation::{FederationConfig, Outbound, outbound::Limits};

use crate::support::{Ca, Server, config, key};

#[tokio::test]
async fn every_notary_spelling_answers_with_both_signatures() {
    let ca = Ca::new();
    let notary = Server::start("localhost", 3, &ca, config(Some(&ca))).await;
    let other = Server::start("127.0.0.1", 2, &ca, config(Some(&ca))).await;
    let asker = Outbound::new(
        "localhost:1".try_into().unwrap(),
        key(6),
        &config(Some(&ca)),
    )
    .unwrap();
    let batch = format!(r#"{{"server_keys":{{"{}":{{}}}}}}"#, other.name);
    for (method, target, body) in [
        (
            Method::GET,
            format!("/_matrix/key/v2/query/{}", other.name),
            None,
        ),
        (
            Method::GET,
            format!("/_matrix/key/v2/query/{}/ed25519:k2", other.name),
            None,
        ),
        (
            Method::POST,
            "/_matrix/key/v2/query".to_owned(),
            Some(batch),
        ),
    ] {
        let answer = asker
            .call_canonical(&notary.name, method, &target, body, Limits::default())
            .await
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let keys = &answer["server_keys"][0];
        assert_eq!(keys["server_name"], other.name.as_str(), "{target}");
        for signer in [&other, &notary] {
            rhizome_protocol::sign::verify_json(
                keys.as_object().unwrap(),
                &signer.name,
                signer.key.key_id(),
                &signer.key.public(),
            )
            .unwrap();
        }
    }
    // Our own keys, in both spellings.
    for target in [
        "/_matrix/key/v2/server",
        "/_matrix/key/v2/server/ed25519:k3",
    ] {
        let answer = asker
            .call(&notary.name, Method::GET, target, None, Limits::default())
            .await;
        let object = rhizome_protocol::canonical::parse_object(&answer.unwrap()).unwrap();
        let keys = rhizome_protocol::server_keys::verify(&object, &notary.name).unwrap();
        assert_eq!(keys.verify_keys["ed25519:k3"], notary.key.public());
    }
}

/// A notary is believed only what the server has signed itself, and only under its own signature.
#[tokio::test]
async fn a_lying_notary_is_not_believed() {
    use rhizome_protocol::{canonical, server_keys, sign};
    use ruma::server_name;

    let (victim, notary) = (
        server_name!("victim.example"),
        server_name!("notary.example"),
    );
    let until = 4_000_000_000_000;
    let true_keys = server_keys::build(victim, &[&key(2)], &[], until).unwrap();
    let forged_key = sign::KeyPair::from_seed("k2", &[9; 32]).unwrap();
    let mut stolen_name = true_keys.clone();
    let forged = server_keys::build(victim, &[&forged_key], &[], until).unwrap();
    stolen_name.insert("verify_keys".to_owned(), forged["verify_keys"].clone());

    for (keys, signer, expected) in [
        (&true_keys, Some(key(3)), Some(key(2).public())),
        (&true_keys, None, None),
        (&true_keys, Some(key(7)), None),
        (&stolen_name, Some(key(3)), None),
    ] {
        let mut keys = keys.clone();
        if let Some(signer) = &signer {
            sign::sign_json(&mut keys, notary, signer).unwrap();
        }
        let answer = serde_json::json!({ "server_keys": [keys] }).to_string();
        let own = server_keys::build(notary, &[&key(3)], &[], until).unwrap();
        let own = canonical::to_canonical(&own).unwrap();
        let router = Router::new()
            .route("/_matrix/key/v2/server", get(async move || own.clone()))
            .route(
                "/_matrix/key/v2/query",
                axum::routing::post(async move || answer.clone()),
            );
        let network = rhizome_federation::testing::Network::default();
        network.attach(notary, router);
        let database = rhizome_storage::testing::TestDatabase::sqlite();
        let store = database.open().await;
        let rooms = crate::support::rooms(&store, "a.example", key(1));
        let config = FederationConfig {
            trusted_key_servers: vec![notary.to_owned()],
            ..FederationConfig::default()
        };
        let fed =
            rhizome_federation::Federation::in_process(rooms, store, config, &network).unwrap();
        assert_eq!(fed.keys().current_key(victim, "ed25519:k2").await, expected);
    }
}

/// The one that has the keys is asked beside the one that is silent.
#[tokio::test]
async fn a_silent_notary_holds_nobody_up() {
    use rhizome_protocol::{canonical, server_keys, sign};
    use ruma::server_name;

    let (owner, silent, notary) = (
        server_name!("owner.example"),
        server_name!("silent.example"),
        server_name!("notary.example"),
    );
    let until = 4_000_000_000_000;
    let mut keys = server_keys::build(owner, &[&key(2)], &[], until).unwrap();
    sign::sign_json(&mut keys, notary, &key(3)).unwrap();
    let answer = serde_json::json!({ "server_keys": [keys] }).to_string();
    let network = rhizome_federation::testing::Network::default();
    let asked = std::sync::Arc::new(tokio::sync::Notify::new());
    for (name, seed) in [(silent, 4), (notary, 3)] {
        let own = server_keys::build(name, &[&key(seed)], &[], until).unwrap();
        let own = canonical::to_canonical(&own).unwrap();
        let (answer, asked) = (answer.clone(), asked.clone());
        // One answers when the other, who never does, has been asked.
        let query = if name == silent {
            axum::routing::post(async move || {
                asked.notify_one();
                std::future::pending::<String>().await
            })
        } else {
            axum::routing::post(async move || {
                asked.notified().await;
                answer.clone()
            })
        };
        let router = Router::new()
            .route("/_matrix/key/v2/server", get(async move || own.clone()))
            .route("/_matrix/key/v2/query", query);
        network.attach(name, router);
    }
    let database = rhizome_storage::testing::TestDatabase::sqlite();
    let store = database.open().await;
    let rooms = crate::support::rooms(&store, "a.example", key(1));
    let config = FederationConfig {
        trusted_key_servers: vec![silent.to_owned(), notary.to_owned()],
        ..FederationConfig::default()
    };
    let fed = rhizome_federation::Federation::in_process(rooms, store, config, &network).unwrap();
    // It is given 12 seconds before it counts as failing.
    let began = std::time::Instant::now();
    let found = fed.keys().current_key(owner, "ed25519:k2").await;
    assert_eq!(found, Some(key(2).public()));
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
}
