//! What servers cost that can't be reached, and what one costs the others that floods us with events that can't be
//! taken. On SQLite with full durability; the other servers are routers in the same process that hold nothing.
//!
//! `cargo bench -p rhizome-federation --bench hostile -- dead [--servers 1000] [--seconds 60] [--silent yes]`
//! `cargo bench -p rhizome-federation --bench hostile -- flood [--rate 2000] [--seconds 20] [--kind loose]`
//!
//! `--kind forged` (or none): their signatures are wrong; `loose`: they are right, and what they build on is nowhere.
//! `--silent yes`: connections to them are neither made nor refused, instead of refused at once.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, missing_docs)]

#[path = "shared/cost.rs"]
mod cost;
#[path = "../tests/it/crowd.rs"]
mod crowd;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use cost::Cost;
use crowd::{Crowd, Told};
use http::{Request, StatusCode, header};
use rhizome_federation::{
    Federation, FederationConfig, local, membership::join, testing::Network, xmatrix::Signed,
};
use rhizome_protocol::{
    Object, Pdu, RoomRules,
    draft::{self, Draft, Place},
    sign::KeyPair,
};
use rhizome_rooms::{Rooms, send::SendOptions};
use rhizome_storage::{Options, Store, testing::TestDatabase};
use ruma::{EventId, OwnedEventId, OwnedUserId};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VERSION: &str = "10";
/// Events of a transaction, as many as there may be.
const EVENTS: u64 = 50;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let option = |name: &str, otherwise: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        let value = at.and_then(|at| arguments.get(at + 1));
        value.map_or(otherwise, String::as_str).to_owned()
    };
    let seconds = |otherwise| option("--seconds", otherwise).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    match arguments.first().map(String::as_str) {
        Some("dead") => {
            let servers = option("--servers", "1000").parse().unwrap();
            let silent = option("--silent", "no") == "yes";
            runtime.block_on(dead(servers, silent, seconds("60")));
        }
        Some("flood") => {
            let rate = option("--rate", "2000").parse().unwrap();
            let loose = option("--kind", "forged") == "loose";
            runtime.block_on(flood(rate, loose, seconds("20")));
        }
        _ => println!("hostile dead | flood; see the first lines of federation/benches/hostile.rs"),
    }
}

/// A server of ours, and the room that its user is in with the crowd.
struct Here {
    fed: Federation,
    network: Network,
    told: Told,
    user: OwnedUserId,
    stop: CancellationToken,
    database: TestDatabase,
}

impl Here {
    async fn join(crowd: Crowd) -> Self {
        let network = Network::default();
        let database = TestDatabase::new(false).await;
        let store = Store::open(Options::new(database.url())).await.unwrap();
        let key = Arc::new(KeyPair::from_seed("k", &[1; 32]).unwrap());
        let rooms = Rooms::new(store.clone(), "here.example".try_into().unwrap(), key);
        let config = FederationConfig::default();
        let fed = Federation::in_process(rooms, store, config, &network).unwrap();
        network.attach(fed.server_name(), fed.router());
        let told = crowd.tell();
        let answer = told.answer();
        let body = move || Body::from(answer.clone());
        crowd::attach(&network, crowd.servers, vec![(told.clone(), body)]);
        let user: OwnedUserId = "@alice:here.example".try_into().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn({
            let (fed, stop) = (fed.clone(), stop.clone());
            async move { fed.run(async move { stop.cancelled().await }).await }
        });
        let via = [crowd::server(0).0];
        join::join(&fed, &user, (&*told.room_id).into(), &via, Object::new())
            .await
            .unwrap();
        Self {
            fed,
            network,
            told,
            user,
            stop,
            database,
        }
    }

    async fn say(&self, text: &str) {
        let content = json!({ "msgtype": "m.text", "body": text });
        let draft = self.draft(&self.user, &content);
        local::send(&self.fed, draft, SendOptions::default())
            .await
            .unwrap();
    }

    fn draft(&self, sender: &OwnedUserId, content: &Value) -> Draft {
        Draft {
            room_id: Some(self.told.room_id.clone()),
            sender: sender.clone(),
            kind: "m.room.message".to_owned(),
            state_key: None,
            content: content.as_object().unwrap().clone(),
            redacts: None,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.fed.store().close().await;
        self.database.remove().await;
    }
}

/// A room with a member on each of so many servers, of which none but the first can be reached any more.
async fn dead(servers: usize, silent: bool, seconds: u64) {
    let here = Here::join(Crowd {
        servers,
        others: 50,
        ..Crowd::new(VERSION, servers)
    })
    .await;
    let window = Duration::from_secs(10);
    sleep(window).await;
    let before = cost::memory("VmRSS");
    let cost = Cost::begin();
    sleep(window).await;
    println!("{servers} servers, silent: {silent}");
    println!("what | % of a core | most MiB above before");
    report("before", &cost, before);
    if silent {
        here.network.go_by(|_| Box::pin(std::future::pending()));
    } else {
        for number in 0..servers {
            here.network.detach(&crowd::server(number).0);
        }
    }
    let cost = Cost::begin();
    here.say("nobody hears this").await;
    sleep(window).await;
    report("a message, and the 10 s after it", &cost, before);
    let cost = Cost::begin();
    sleep(Duration::from_secs(seconds)).await;
    report(&format!("the next {seconds} s, in silence"), &cost, before);
    let cost = Cost::begin();
    let mut tick = interval(Duration::from_secs(1));
    for number in 0..seconds {
        tick.tick().await;
        here.say(&format!("message {number}")).await;
    }
    report(
        &format!("{seconds} s, a message each second"),
        &cost,
        before,
    );
    here.end().await;
}

fn report(what: &str, cost: &Cost, before: f64) {
    let spent = cost.end();
    println!(
        "{what} | {:.2} | {:.1}",
        100.0 * spent.cpu / spent.wall,
        spent.peak + cost.rss - before
    );
}

/// A server of the room says something now and then, without and with another one that sends so many events a second
/// that can't be taken.
async fn flood(rate: u64, loose: bool, seconds: u64) {
    let here = Here::join(Crowd {
        servers: 3,
        others: 50,
        ..Crowd::new(VERSION, 9)
    })
    .await;
    println!("{rate} events a second, loose: {loose}");
    println!(
        "what | another server's message until answered: p50, p90, p99, most ms | % of a core | flooding transactions answered, refused"
    );
    let mut fair = Peer::new(&here, 1);
    fair.say(&here, seconds / 2, "warming up").await;
    let cost = Cost::begin();
    let took = fair.say(&here, seconds, "alone").await;
    line("alone", took, &cost, (0, 0));
    let flooding = Arc::new(Flooding::default());
    let flooder = Arc::new(Peer::new(&here, 2));
    let bodies = flooder.untakeable(&here, loose, rate * seconds / EVENTS + 1);
    let task = flooding
        .clone()
        .run(flooder, bodies, here.fed.clone(), rate);
    let task = tokio::spawn(task);
    let cost = Cost::begin();
    let took = fair.say(&here, seconds, "flooded").await;
    flooding.over.store(true, Relaxed);
    task.await.unwrap();
    let counts = (
        flooding.answered.load(Relaxed),
        flooding.refused.load(Relaxed),
    );
    line("beside the flood", took, &cost, counts);
    here.end().await;
}

fn line(what: &str, mut took: Vec<f64>, cost: &Cost, (answered, refused): (u64, u64)) {
    let spent = cost.end();
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{what} | {:.2}, {:.2}, {:.2}, {:.2} | {:.0} | {answered}, {refused}",
        at(50),
        at(90),
        at(99),
        took[took.len() - 1],
        100.0 * spent.cpu / spent.wall,
    );
}

/// A server of the crowd that sends events.
struct Peer {
    name: ruma::OwnedServerName,
    key: KeyPair,
    user: OwnedUserId,
    auth_events: Vec<OwnedEventId>,
    last: OwnedEventId,
    depth: i64,
}

impl Peer {
    fn new(here: &Here, index: usize) -> Self {
        let (name, key) = crowd::server(index);
        // Whoever is `index` is from there: see `Crowd::tell`.
        let user: OwnedUserId = format!("@member{index}:{name}").try_into().unwrap();
        let rules = RoomRules::named(VERSION).unwrap();
        let state = here.told.state.iter();
        let mut state = state.map(|json| {
            let json: Object = serde_json::from_str(json).unwrap();
            Pdu::parse(rules, json).unwrap()
        });
        let own = state.find(|pdu| pdu.is_state("m.room.member", user.as_str()));
        let mut auth_events = here.told.auth_events.clone();
        auth_events.push(own.unwrap().event_id().to_owned());
        Self {
            name,
            key,
            user,
            auth_events,
            last: here.told.last.clone(),
            depth: here.told.depth,
        }
    }

    fn event(&self, here: &Here, text: &str, key: &KeyPair) -> Pdu {
        self.upon(&self.last, here, text, key)
    }

    fn upon(&self, last: &EventId, here: &Here, text: &str, key: &KeyPair) -> Pdu {
        let draft = here.draft(&self.user, &json!({ "msgtype": "m.text", "body": text }));
        let place = Place {
            prev_events: vec![last.to_owned()],
            auth_events: self.auth_events.clone(),
            depth: self.depth + 1,
            origin_server_ts: crowd::now(),
            ..Place::default()
        };
        let rules = RoomRules::named(VERSION).unwrap();
        draft::build(rules, &draft, &place, &self.name, key).unwrap()
    }

    /// So many transactions of events that are all different: with another key's signatures, or upon nothing.
    fn untakeable(&self, here: &Here, loose: bool, count: u64) -> Vec<Value> {
        let wrong = KeyPair::from_seed("crowd", &[9; 32]).unwrap();
        let event = |body: u64, number: u64| {
            let text = format!("{body} {number}");
            let pdu = if loose {
                let nowhere = self.event(here, &format!("nowhere {text}"), &self.key);
                self.upon(nowhere.event_id(), here, &text, &self.key)
            } else {
                self.event(here, &text, &wrong)
            };
            serde_json::from_str::<Value>(pdu.json()).unwrap()
        };
        let bodies = (0..count).map(|body| (0..EVENTS).map(|number| event(body, number)).collect());
        bodies.collect()
    }

    /// Says something 20 times a second; gives how long each took, in milliseconds.
    async fn say(&mut self, here: &Here, seconds: u64, text: &str) -> Vec<f64> {
        let mut tick = interval(Duration::from_millis(50));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut took = Vec::new();
        for number in 0..20 * seconds {
            tick.tick().await;
            let event = self.event(here, &format!("{text} {number}"), &self.key);
            let events: Value = serde_json::from_str(event.json()).unwrap();
            let start = Instant::now();
            let txn = format!("{text}{number}").replace(' ', "_");
            let (status, answer) = self.send(&here.fed, &txn, &json!([events])).await;
            took.push(start.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert!(!answer.contains("error"), "{answer}");
            self.last = event.event_id().to_owned();
            self.depth += 1;
        }
        took
    }

    async fn send(&self, fed: &Federation, txn: &str, events: &Value) -> (StatusCode, String) {
        let body = json!({ "origin": self.name, "origin_server_ts": crowd::now(), "pdus": events, "edus": [] });
        let target = format!("/_matrix/federation/v1/send/{txn}");
        let signed = Signed::canonical("PUT", &target, Some(body.to_string()));
        let header = signed.header(&self.name, fed.server_name(), &self.key);
        let body = signed.into_content().unwrap();
        let request = Request::put(&target)
            .header(header::AUTHORIZATION, header)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap();
        let response = fed.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        (status, String::from_utf8_lossy(&body.unwrap()).into_owned())
    }
}

/// Sends events whose signatures are wrong until it is over, whatever is answered.
#[derive(Default)]
struct Flooding {
    over: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
}

impl Flooding {
    async fn run(self: Arc<Self>, peer: Arc<Peer>, bodies: Vec<Value>, fed: Federation, rate: u64) {
        let mut tick = interval(Duration::from_millis(1_000 * EVENTS / rate));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut under_way = tokio::task::JoinSet::new();
        for number in 0.. {
            tick.tick().await;
            if self.over.load(Relaxed) {
                break;
            }
            let (own, peer, fed) = (self.clone(), peer.clone(), fed.clone());
            let Some(body) = bodies.get(number).cloned() else {
                break;
            };
            under_way.spawn(async move {
                let (status, _) = peer.send(&fed, &format!("flood{number}"), &body).await;
                let count = match status {
                    StatusCode::OK => &own.answered,
                    _ => &own.refused,
                };
                count.fetch_add(1, Relaxed);
            });
            while under_way.try_join_next().is_some() {}
        }
    }
}
