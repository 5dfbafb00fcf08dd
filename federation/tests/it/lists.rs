//! Servers that one isn't let talk to, in one direction or both.

use http::{Method, StatusCode};
use rhizome_federation::{
    Federation, FederationConfig,
    keys::Wanted,
    outbound::{Limits, OutboundError},
    servers::{ServerLists, ServerRules},
    testing::Network,
};
use rhizome_storage::testing::TestDatabase;
use ruma::ServerName;

use crate::support::{key, rooms, watch};

const VERSION: &str = "/_matrix/federation/v1/version";

/// A server on a network, with the database that it has.
struct One {
    fed: Federation,
    _database: TestDatabase,
}

impl One {
    async fn start(network: &Network, name: &str, seed: u8, config: FederationConfig) -> Self {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        let rooms = rooms(&store, name, key(seed));
        let fed = Federation::in_process(rooms, store, config, network).unwrap();
        network.attach(fed.server_name(), watch().over(fed.router()));
        Self {
            fed,
            _database: database,
        }
    }

    fn name(&self) -> &ServerName {
        self.fed.server_name()
    }

    /// Asks for a profile that isn't there, signed.
    async fn ask(&self, other: &Self) -> OutboundError {
        let to = other.name();
        let target = format!("/_matrix/federation/v1/query/profile?user_id=%40nobody%3A{to}");
        let call = self
            .fed
            .outbound()
            .call(to, Method::GET, &target, None, Limits::default());
        call.await.unwrap_err()
    }
}

fn lists(allowed: &[&str], denied: &[&str]) -> ServerLists {
    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    ServerLists::new(&owned(allowed), &owned(denied))
}

fn asked(network: &Network, name: &ServerName) -> bool {
    network
        .requests()
        .iter()
        .any(|(to, _)| to.as_str() == name.as_str())
}

#[tokio::test]
async fn who_isnt_let_in_is_told_so_before_its_keys_are_fetched() {
    let network = Network::default();
    let a = One::start(&network, "a.example", 1, FederationConfig::default()).await;
    let config = FederationConfig {
        servers: ServerRules {
            inbound: lists(&[], &["A.*"]),
            ..ServerRules::default()
        },
        ..FederationConfig::default()
    };
    let b = One::start(&network, "b.example", 2, config).await;
    let OutboundError::Remote(error) = a.ask(&b).await else {
        panic!("it answers")
    };
    assert_eq!(error.status, StatusCode::FORBIDDEN);
    assert_eq!(error.errcode, "M_FORBIDDEN");
    assert!(error.message.contains("is denied"), "{}", error.message);
    assert!(!asked(&network, a.name()), "nobody asks for its keys");
    // What is for everybody is for it, too.
    let version = (a.fed.outbound()).call(b.name(), Method::GET, VERSION, None, Limits::default());
    version.await.unwrap();
    // And it can be asked.
    assert_eq!(b.ask(&a).await.status(), Some(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn who_isnt_among_the_allowed_is_never_connected_to() {
    let network = Network::default();
    let c = One::start(&network, "c.example", 3, FederationConfig::default()).await;
    let b = One::start(&network, "b.example", 2, FederationConfig::default()).await;
    let config = FederationConfig {
        servers: ServerRules {
            both: lists(&["a.example", "B.example"], &[]),
            ..ServerRules::default()
        },
        trusted_key_servers: vec![c.name().to_owned()],
        ..FederationConfig::default()
    };
    let a = One::start(&network, "a.example", 1, config).await;
    assert_eq!(a.ask(&b).await.status(), Some(StatusCode::NOT_FOUND));
    let error = a.ask(&c).await;
    assert!(error.is_unreachable(), "{error}");
    assert!(
        error.to_string().contains("not among the servers"),
        "{error}"
    );
    // Neither for keys, nor as a notary, nor because it asks.
    let wanted = ["c.example", "gone.b.example"].map(|server| Wanted {
        server: server.try_into().unwrap(),
        key_id: "ed25519:k3".to_owned(),
        valid_at: 1,
    });
    a.fed.keys().prefetch(&wanted).await;
    assert_eq!(c.ask(&a).await.status(), Some(StatusCode::FORBIDDEN));
    assert!(!asked(&network, c.name()));
}
