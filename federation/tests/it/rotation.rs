//! A server changes its signing key: what it has signed before and after is verified by all, and what somebody else signs
//! with the old key is not. And others' keys are renewed before they end.

use std::time::Duration;

use axum::{
    Router,
    routing::{get, post},
};
use http::{Method, StatusCode};
use rhizome_federation::{
    FederationConfig, OldVerifyKey, Outbound, keys::Wanted, outbound::Limits, testing::Network,
};
use rhizome_protocol::{
    Membership, Object, canonical,
    receive::{KeyLookup, Keys as _},
    server_keys, sign,
};
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use ruma::{RoomId, RoomVersionId, ServerName, server_name};
use serde_json::json;

use crate::{
    inbound::{forge, newest, take},
    support::key,
    world::{Server, enc, eventually, json_of},
};

const START: i64 = 1_700_000_000_000;
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// For so long an answer about keys is good, ms.
const DAY: i64 = 24 * 3_600_000;

/// Where servers live whose clocks are one, which the story moves on. They send nothing by themselves.
struct Town {
    network: Network,
    clock: Clock,
    databases: Vec<TestDatabase>,
}

impl Town {
    async fn new(postgres: bool, servers: usize) -> Self {
        let databases = TestDatabase::several(postgres, servers).await;
        Self {
            network: Network::default(),
            clock: Clock::manual(START),
            databases,
        }
    }

    /// The server with this number, which signs with the key of this seed.
    async fn start(&self, index: usize, seed: u8, config: FederationConfig) -> Server {
        let options = Options {
            clock: self.clock.clone(),
            ..self.databases[index].options()
        };
        let store = Store::open(options).await.unwrap();
        Server::signing(&self.network, store, index, key(seed), config)
    }

    /// How often this server was asked for its keys.
    fn asked(&self, server: &ServerName) -> usize {
        let requests = self.network.requests();
        let asked = requests
            .iter()
            .filter(|(to, line)| to == server && line.contains("/_matrix/key/v2/server"));
        asked.count()
    }

    async fn remove(self) {
        for database in self.databases {
            database.remove().await;
        }
    }
}

fn trusting(notary: &Server) -> FederationConfig {
    FederationConfig {
        trusted_key_servers: vec![notary.name.clone()],
        ..Server::config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_changed_and_nothing_is_lost() {
    for postgres in [false, true] {
        let town = Town::new(postgres, 4).await;
        Box::pin(change(&town)).await;
        town.remove().await;
    }
}

async fn change(town: &Town) {
    let a = town.start(0, 1, Server::config()).await;
    let b = town.start(1, 2, Server::config()).await;
    let c = town.start(2, 3, Server::config()).await;
    let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
    // From version 5 on it counts when a key was in use.
    let lax = a.create(&alice, &RoomVersionId::V4).await;
    let strict = a.create(&alice, &RoomVersionId::V5).await;
    c.join(&carol, &strict, &a).await.unwrap();
    for room in [&lax, &strict] {
        b.join(&bob, room, &a).await.unwrap();
    }
    let prev = newest(&a, &strict).await;
    let message = |text: &str| json!({ "body": text });
    let kind = "m.room.message";
    // Signed before the change, and told after it.
    let content = message("before");
    let before = forge(&a, 1, &alice, &strict, &[&prev], kind, None, content).await;
    take(&a, &before).await;

    town.clock.advance(MINUTE);
    let expired = town.clock.now_ms();
    let config = FederationConfig {
        old_verify_keys: vec![OldVerifyKey {
            key_id: key(1).key_id().to_owned(),
            public: key(1).public_base64(),
            expired_ts: expired,
        }],
        ..Server::config()
    };
    a.end().await;
    let a = town.start(0, 21, config).await;
    town.clock.advance(MINUTE);

    // The new key is asked for once.
    let asked = town.asked(&a.name);
    let path = format!("/_matrix/federation/v1/event/{}", enc(&prev));
    for _ in 0..2 {
        a.get(&b, &path).await.unwrap();
    }
    assert_eq!(town.asked(&a.name), asked + 1);
    let told = a.transaction(&b, "before", &[json_of(&before)], &[]).await;
    assert_eq!(told, json!({ before.event_id(): {} }));
    let after = a.say(&alice, &strict, "after").await;
    let stored = a.event(&after).await.unwrap();
    let told = a
        .transaction(&b, "after", &[json_of(&stored.pdu)], &[])
        .await;
    assert_eq!(told, json!({ after.as_str(): {} }));
    assert_eq!(b.heard(&strict).await, ["before", "after"]);

    steal(town, &a, &b, [&lax, &strict], &path).await;
    assert_eq!(town.asked(&a.name), asked + 1);

    // C is told of the change, and tells others of it when A is gone.
    let path = format!(
        "/_matrix/federation/v1/event/{}",
        enc(newest(&c, &strict).await)
    );
    a.get(&c, &path).await.unwrap();
    town.network.cut(&a.name);
    let d = town.start(3, 4, trusting(&c)).await;
    comes_late(town, [&a, &b, &c, &d], &strict, expired).await;
    d.backfill(&strict, 100).await;
    for id in [before.event_id(), &*after] {
        assert!(d.event(id).await.is_some(), "{id}");
    }
    for server in [a, b, c, d] {
        server.end().await;
    }
}

/// Who has A's old key can do nothing with it any more, but where the room's version doesn't mind.
async fn steal(town: &Town, a: &Server, b: &Server, [lax, strict]: [&RoomId; 2], path: &str) {
    let alice = a.user("alice");
    for (room, is_taken) in [(lax, true), (strict, false)] {
        let prev = newest(a, room).await;
        let content = json!({ "body": "late" });
        let kind = "m.room.message";
        let late = forge(a, 1, &alice, room, &[&prev], kind, None, content).await;
        let txn = if is_taken { "lax" } else { "strict" };
        let told = a.transaction(b, txn, &[json_of(&late)], &[]).await;
        let refused = told[late.event_id().as_str()]["error"].is_string();
        assert_eq!(refused, !is_taken, "{told}");
        assert_eq!(b.event(late.event_id()).await.is_some(), is_taken);
    }
    let (name, network) = (a.name.clone(), town.network.clone());
    let thief = Outbound::in_process(name, key(1), &Server::config(), network);
    let stolen = thief.call(&b.name, Method::GET, path, None, Limits::default());
    let refused = stolen.await.unwrap_err();
    assert_eq!(refused.status(), Some(StatusCode::UNAUTHORIZED));
}

/// D joins the room through B, and has A's keys from the notary C.
async fn comes_late(town: &Town, [a, b, c, d]: [&Server; 4], room: &RoomId, expired: i64) {
    d.join(&d.user("dora"), room, b).await.unwrap();
    let alice = a.user("alice");
    assert_eq!(d.membership(room, &alice).await, Some(Membership::Join));
    let requests = town.network.requests();
    let notaries: Vec<_> = requests
        .iter()
        .filter(|(_, line)| line.contains("/_matrix/key/v2/query"))
        .map(|(to, _)| to)
        .collect();
    assert!(notaries.iter().all(|to| **to == c.name), "{notaries:?}");
    assert!(!notaries.is_empty());
    let (first, second) = (key(1), key(21));
    let now = town.clock.now_ms();
    for (key, at, found) in [
        (&first, expired, KeyLookup::Found(first.public())),
        (&first, expired + 1, KeyLookup::Expired),
        (&second, now, KeyLookup::Found(second.public())),
    ] {
        let wanted = Wanted {
            server: a.name.clone(),
            key_id: key.key_id().to_owned(),
            valid_at: at,
        };
        let gathered = d.fed.keys().prefetch(&[wanted]).await;
        assert_eq!(gathered.key(&a.name, key.key_id(), at), found, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_before_they_end() {
    for postgres in [false, true] {
        let town = Town::new(postgres, 3).await;
        Box::pin(renewal(&town)).await;
        town.remove().await;
    }
}

async fn renewal(town: &Town) {
    let a = town.start(0, 1, Server::config()).await;
    let c = town.start(2, 3, Server::config()).await;
    let mut b = town.start(1, 2, trusting(&c)).await;
    let room = a.create(&a.user("alice"), &RoomVersionId::V11).await;
    b.join(&b.user("bob"), &room, &a).await.unwrap();
    // Until when a server knows A's keys.
    let ends = async |knowing: &Server| {
        let (keys, _) = knowing.store().server_keys(&a.name).await.unwrap();
        keys.iter().filter_map(|key| key.valid_until).max().unwrap()
    };
    let first = ends(&b).await;
    assert_eq!(first, START + DAY);
    let asked = town.asked(&a.name);
    b.run();
    town.clock.advance(17 * HOUR);
    eventually("they are renewed", async || {
        town.clock.advance(10 * MINUTE);
        ends(&b).await > first
    })
    .await;
    assert_eq!(town.asked(&a.name), asked + 1);

    // It is gone when it is to be asked again, and the notary has asked it since.
    let second = ends(&b).await;
    town.clock.advance(12 * HOUR);
    let none = c.fed.keys().current_key(&a.name, "ed25519:none").await;
    assert_eq!(none, None);
    assert!(ends(&c).await > second);
    town.network.cut(&a.name);
    eventually("the notary is asked", async || {
        town.clock.advance(10 * MINUTE);
        ends(&b).await > second
    })
    .await;
    for server in [a, b, c] {
        server.end().await;
    }
}

/// What a notary passes on from before a change takes nothing back, though it comes to a process that hasn't heard of it:
/// neither in the database that it shares with another that has, nor for those who ask it.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_notary_takes_nothing_back() {
    let town = Town::new(true, 2).await;
    Box::pin(late(&town)).await;
    town.remove().await;
}

async fn late(town: &Town) {
    let a = town.start(0, 1, Server::config()).await;
    let notary = server_name!("notary.example");
    let before = server_keys::build(&a.name, &[&key(1)], &[], START + 100 * DAY).unwrap();
    attach_notary(town, notary, before);
    let config = FederationConfig {
        trusted_key_servers: vec![notary.to_owned()],
        ..Server::config()
    };
    // Two processes on one database.
    let one = town.start(1, 2, config.clone()).await;
    let other = town.start(1, 2, config).await;
    let (first, second) = (key(1), key(21));
    for process in [&one, &other] {
        let found = process.fed.keys().current_key(&a.name, first.key_id());
        assert_eq!(found.await, Some(first.public()));
    }

    town.clock.advance(MINUTE);
    let expired = town.clock.now_ms();
    let changed = FederationConfig {
        old_verify_keys: vec![OldVerifyKey {
            key_id: first.key_id().to_owned(),
            public: first.public_base64(),
            expired_ts: expired,
        }],
        ..Server::config()
    };
    let name = a.name.clone();
    a.end().await;
    let a = town.start(0, 21, changed).await;
    town.clock.advance(MINUTE);
    let found = one.fed.keys().current_key(&name, second.key_id()).await;
    assert_eq!(found, Some(second.public()));

    town.network.cut(&name);
    town.clock.advance(MINUTE);
    let none = other.fed.keys().current_key(&name, "ed25519:none").await;
    assert_eq!(none, None);
    let requests = town.network.requests();
    assert!(requests.iter().any(|(to, _)| to == notary));
    for process in [&one, &other] {
        let (keys, _) = process.store().server_keys(&name).await.unwrap();
        let old = keys.iter().find(|key| key.key_id == first.key_id());
        assert_eq!(old.unwrap().expired, Some(expired));
        let told = process.store().key_responses(&name).await.unwrap();
        assert!(told[0].response.contains(second.key_id()));
        let wanted = Wanted {
            server: name.clone(),
            key_id: first.key_id().to_owned(),
            valid_at: expired + 1,
        };
        let gathered = process.fed.keys().prefetch(&[wanted]).await;
        let found = gathered.key(&name, first.key_id(), expired + 1);
        assert_eq!(found, KeyLookup::Expired);
    }
    for server in [a, one, other] {
        server.end().await;
    }
}

/// A notary that gives these keys to whoever asks.
fn attach_notary(town: &Town, notary: &ServerName, mut keys: Object) {
    let until = START + 100 * DAY;
    sign::sign_json(&mut keys, notary, &key(3)).unwrap();
    let answer = json!({ "server_keys": [keys] }).to_string();
    let own = server_keys::build(notary, &[&key(3)], &[], until).unwrap();
    let own = canonical::to_canonical(&own).unwrap();
    let router = Router::new()
        .route("/_matrix/key/v2/server", get(async move || own.clone()))
        .route("/_matrix/key/v2/query", post(async move || answer.clone()));
    town.network.attach(notary, router);
}
