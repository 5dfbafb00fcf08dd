//! Looking at the way to a server, over TLS.

use axum::Router;
use rhizome_federation::{
    FederationConfig,
    check::{Check, Finding, Level},
    servers::{ServerLists, ServerRules},
};
use rhizome_protocol::sign::KeyPair;
use rhizome_storage::Clock;
use ruma::{OwnedServerName, ServerName};

use crate::support::{Ca, Server, bind, config, key, listen};

async fn check(
    config: &FederationConfig,
    server: &ServerName,
    own: Option<&KeyPair>,
) -> Vec<Finding> {
    let check = Check {
        config,
        server,
        own,
        clock: &Clock::system(),
    };
    let mut told = Vec::new();
    let found = check
        .run(&mut |finding: &Finding| told.push(finding.clone()))
        .await;
    let found = found.unwrap();
    assert_eq!(found, told, "each is told as it is found");
    found
}

fn bad(findings: &[Finding]) -> Vec<&'static str> {
    let bad = findings.iter().filter(|one| one.level == Level::Bad);
    bad.map(|one| one.step).collect()
}

#[tokio::test]
async fn a_server_that_is_well_is_found_well_at_each_step() {
    let ca = Ca::new();
    let config = config(Some(&ca));
    let b = Server::start("127.0.0.1", 2, &ca, config.clone()).await;
    for own in [None, Some(&b.key)] {
        let found = check(&config, &b.name, own).await;
        assert_eq!(bad(&found), [] as [&str; 0], "{found:#?}");
        for step in ["place", "dns", "tcp", "tls", "version", "clock", "keys"] {
            assert!(
                found.iter().any(|one| one.step == step),
                "{step}: {found:#?}"
            );
        }
        let own_key = found.iter().any(|one| one.step == "own key");
        assert_eq!(own_key, own.is_some());
    }
    let found = check(&config, &b.name, Some(&key(7))).await;
    assert_eq!(bad(&found), ["own key"], "{found:#?}");
}

#[tokio::test]
async fn what_is_wrong_is_found_at_its_step() {
    let (ca, other) = (Ca::new(), Ca::new());
    let open = config(Some(&ca));
    let b = Server::start("127.0.0.1", 2, &ca, open.clone()).await;
    // Nobody trusts who has issued the certificate.
    let found = check(&config(Some(&other)), &b.name, None).await;
    assert_eq!(bad(&found), ["tls"], "{found:#?}");
    // The address isn't one to connect to; whose own server it is means it.
    let closed = FederationConfig {
        allowed_ranges: Vec::new(),
        ..open.clone()
    };
    assert_eq!(bad(&check(&closed, &b.name, None).await), ["dns"]);
    let found = check(&closed, &b.name, Some(&b.key)).await;
    assert_eq!(bad(&found), [] as [&str; 0], "{found:#?}");
    assert!(found.iter().any(|one| one.what.contains("isn't public")));
    // The lists are against it.
    let denied = ["127.*".to_owned()];
    let listed = FederationConfig {
        servers: ServerRules {
            outbound: ServerLists::new(&[], &denied),
            ..ServerRules::default()
        },
        ..open.clone()
    };
    assert_eq!(bad(&check(&listed, &b.name, None).await), ["lists"]);

    // Something else answers there.
    let (listener, address) = bind().await;
    let listening = listen(listener, ca.acceptor(&["127.0.0.1"]), Router::new());
    let name: OwnedServerName = address.to_string().try_into().unwrap();
    assert_eq!(bad(&check(&open, &name, None).await), ["version", "keys"]);
    listening.stop().await;
    // Nobody does.
    assert_eq!(bad(&check(&open, &name, None).await), ["tcp"]);

    // It shows a certificate for another name.
    let (listener, address) = bind().await;
    let _listening = listen(listener, ca.acceptor(&["b.example"]), Router::new());
    let name: OwnedServerName = address.to_string().try_into().unwrap();
    let found = check(&open, &name, None).await;
    assert_eq!(bad(&found), ["tls"], "{found:#?}");
    assert!(
        found
            .iter()
            .any(|one| one.what.contains("isn't for 127.0.0.1"))
    );
}
