//! What it costs to join a large room through another server, then to send in it, and to describe it to
//! others. On SQLite with full durability; the room's servers are routers in the same process that hold
//! nothing: the answer comes from a file which another process has made.
//!
//! `cargo bench -p rhizome-federation --bench join -- [members…] [--version 12] [--servers 10] [--changed 50]`
//!
//! With `--partial yes` the large room is joined before its members are known: when it can be used, and when it is complete.
//!
//! `--postgres yes` uses the PostgreSQL that `RHIZOME_TEST_POSTGRES` names (`scripts/with-postgres` starts one);
//! its own CPU and memory are not counted.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, missing_docs)]
#![allow(clippy::cast_precision_loss, reason = "a table of rounded numbers")]

#[path = "shared/cost.rs"]
mod cost;
#[path = "../tests/it/crowd.rs"]
mod crowd;
#[path = "join/partial.rs"]
mod partial;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use cost::{Cost, Spent, memory};
use crowd::{Crowd, Told};
use futures_util::{StreamExt as _, stream};
use http::{Request, header};
use rhizome_federation::{
    Federation, FederationConfig, local, membership::join, testing::Network, xmatrix::Signed,
};
use rhizome_protocol::{Object, draft::Draft, sign::KeyPair};
use rhizome_rooms::{Rooms, send::SendOptions};
use rhizome_storage::{Options, Store, testing::TestDatabase};
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tower::ServiceExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SENDS: usize = 500;
const ROUNDS: usize = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("make") => make(&arguments[1..]),
        Some("measure") => measure(
            Path::new(&arguments[1]),
            arguments[2].parse().unwrap(),
            arguments[3] == "yes",
            arguments[4] == "yes",
        ),
        _ => all(&arguments),
    }
}

/// Every size in processes of its own.
fn all(arguments: &[String]) {
    let mut sizes = Vec::new();
    let mut options = [
        ("--version", "10"),
        ("--servers", "10"),
        ("--changed", "0"),
        ("--postgres", "no"),
        ("--partial", "no"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
    while let Some(argument) = rest.next() {
        match options.iter_mut().find(|(name, _)| name == argument) {
            Some((_, value)) => value.clone_from(rest.next().unwrap()),
            None => sizes.push(argument.clone()),
        }
    }
    if sizes.is_empty() {
        sizes = ["1000", "10000", "100000"].map(ToOwned::to_owned).to_vec();
    }
    let [
        (_, version),
        (_, servers),
        (_, changed),
        (_, postgres),
        (_, partial),
    ] = &options;
    println!(
        "room version {version}, {servers} servers, {changed} % of the members with an older join"
    );
    if partial == "yes" {
        println!("members | {}", partial::COLUMNS);
    } else {
        println!("{COLUMNS}");
    }
    let own = std::env::current_exe().unwrap();
    for members in &sizes {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        for (what, members) in [("small", "10"), ("large", members.as_str())] {
            let made = Command::new(&own)
                .args(["make", at, what, members, version, servers, changed])
                .status();
            assert!(made.unwrap().success());
        }
        let measured = Command::new(&own)
            .args(["measure", at, servers, postgres, partial])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        print!("{members} | {}", String::from_utf8_lossy(&measured.stdout));
        assert!(measured.status.success());
    }
}

const COLUMNS: &str = "members | events | answer MiB | join s | CPU s | CPU µs/event | peak MiB | kept MiB | slowest message meanwhile, ms | state bytes/event \
         | send µs, 10 members | here | ratio | /state CPU ms | peak MiB | /state_ids CPU ms | peak MiB";

/// Writes a room's answer to files.
fn make(arguments: &[String]) {
    let [folder, what, members, version, servers, changed] = arguments else {
        panic!("make FOLDER WHAT MEMBERS VERSION SERVERS CHANGED")
    };
    let told = Crowd {
        servers: servers.parse().unwrap(),
        changed: changed.parse().unwrap(),
        name: what.clone(),
        ..Crowd::new(version, members.parse().unwrap())
    }
    .tell();
    let folder = Path::new(folder);
    fs::write(folder.join(what), told.answer()).unwrap();
    let few = told.answer_without_members(servers.parse().unwrap());
    fs::write(folder.join(format!("{what}.few")), few).unwrap();
    fs::write(folder.join(format!("{what}.state")), told.state()).unwrap();
    fs::write(folder.join(format!("{what}.ids")), told.state_ids()).unwrap();
    fs::write(folder.join(format!("{what}.head")), told.head().to_string()).unwrap();
    let events = told.state.len() + told.auth_chain.len();
    fs::write(folder.join(format!("{what}.events")), events.to_string()).unwrap();
}

fn measure(folder: &Path, servers: usize, postgres: bool, partial: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let database = TestDatabase::new(postgres).await;
        let store = Store::open(Options::new(database.url())).await.unwrap();
        if partial {
            partial::run(folder, servers, &store).await;
        } else {
            run(folder, servers, &store).await;
        }
        store.close().await;
        database.remove().await;
    });
}

async fn run(folder: &Path, servers: usize, store: &Store) {
    let network = Network::default();
    let key = Arc::new(KeyPair::from_seed("k", &[1; 32]).unwrap());
    let rooms = Rooms::new(store.clone(), "here.example".try_into().unwrap(), key);
    let config = FederationConfig::default();
    let fed = Federation::in_process(rooms, store.clone(), config, &network).unwrap();
    network.attach(fed.server_name(), fed.router());
    let small = told(folder, "small");
    let large = told(folder, "large");
    let bodies = [(&small, "small"), (&large, "large")]
        .map(|(told, what)| (told.clone(), body_of(folder.join(what))));
    crowd::attach(&network, servers, bodies.into());
    let user: OwnedUserId = "@alice:here.example".try_into().unwrap();
    let enter = async |room: &RoomId| {
        let via = [crowd::server(0).0];
        join::join(&fed, &user, room.into(), &via, Object::new())
            .await
            .unwrap();
    };
    enter(&small.room_id).await;
    tokio::time::sleep(Duration::from_millis(200)).await;

    let size = fs::metadata(folder.join("large")).unwrap().len();
    let events: u32 = fs::read_to_string(folder.join("large.events"))
        .unwrap()
        .parse()
        .unwrap();
    let cost = Cost::begin();
    let meanwhile = tokio::spawn(chat(fed.clone(), user.clone(), small.room_id.clone()));
    enter(&large.room_id).await;
    let joined = cost.end();
    JOINED.store(true, Ordering::Relaxed);
    let waited = meanwhile.await.unwrap() * 1_000.0;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kept = memory("VmRSS") - cost.rss;
    let no = store.room(&large.room_id).await.unwrap().unwrap().room;
    let (entries, bytes) = store.state_size(no).await.unwrap();

    let mut took = [f64::INFINITY; 2];
    for round in 0..=ROUNDS {
        for (took, told) in took.iter_mut().zip([&small, &large]) {
            let cost = Cost::begin();
            for number in 0..SENDS {
                say(&fed, &user, &told.room_id, number).await;
            }
            // The first round warms the caches.
            if round > 0 {
                *took = took.min(cost.end().cpu * 1e6 / SENDS as f64);
            }
        }
    }
    let state = serve(&fed, &large, "state").await;
    let ids = serve(&fed, &large, "state_ids").await;
    println!(
        "{events} | {:.1} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0}",
        size as f64 / 1_048_576.0,
        joined.wall,
        joined.cpu,
        joined.cpu * 1e6 / f64::from(events),
        joined.peak,
        kept,
        waited,
        bytes as f64 / entries as f64,
        took[0],
        took[1],
        took[1] / took[0],
        state.cpu * 1000.0,
        state.peak,
        ids.cpu * 1000.0,
        ids.peak,
    );
}

fn told(folder: &Path, what: &str) -> Told {
    let head = fs::read_to_string(folder.join(format!("{what}.head"))).unwrap();
    Told::of_head(serde_json::from_str(&head).unwrap())
}

/// A body that is read from a file piece by piece.
fn body_of(path: PathBuf) -> impl Fn() -> Body + Clone + Send + Sync + 'static {
    move || {
        let path = path.clone();
        let pieces = stream::unfold(None, move |file| {
            let path = path.clone();
            async move {
                let mut file = match file {
                    Some(file) => file,
                    None => tokio::fs::File::open(&path).await.unwrap(),
                };
                let mut piece = vec![0; 64 << 10];
                let read = file.read(&mut piece).await.unwrap();
                piece.truncate(read);
                (read > 0).then(|| (Ok::<_, std::io::Error>(piece), Some(file)))
            }
        });
        Body::from_stream(pieces)
    }
}

async fn say(fed: &Federation, user: &OwnedUserId, room: &RoomId, number: usize) {
    let content: Value = json!({ "msgtype": "m.text", "body": format!("message {number}") });
    let draft = Draft {
        room_id: Some(room.to_owned()),
        sender: user.clone(),
        kind: "m.room.message".to_owned(),
        state_key: None,
        content: content.as_object().unwrap().clone(),
        redacts: None,
    };
    local::send(fed, draft, SendOptions::default())
        .await
        .unwrap();
}

static JOINED: AtomicBool = AtomicBool::new(false);

/// Says something every now and then while the large room is joined; gives how long the slowest message
/// took, in seconds.
async fn chat(fed: Federation, user: OwnedUserId, room: OwnedRoomId) -> f64 {
    let mut slowest: f64 = 0.0;
    while !JOINED.load(Ordering::Relaxed) {
        let start = Instant::now();
        say(&fed, &user, &room, 0).await;
        slowest = slowest.max(start.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    slowest
}

/// One of the room's servers asks for the state at the newest event; the answer goes nowhere.
async fn serve(fed: &Federation, told: &Told, what: &str) -> Spent {
    let head = fed.store().room(&told.room_id).await.unwrap().unwrap();
    let event = &head.extremities[0].event_id;
    let (name, key) = crowd::server(0);
    let room = told
        .room_id
        .as_str()
        .replace('!', "%21")
        .replace(':', "%3A");
    let event = event.as_str().replace('$', "%24");
    let target = format!("/_matrix/federation/v1/{what}/{room}?event_id={event}");
    let signed = Signed::canonical("GET", &target, None);
    let header = signed.header(&name, fed.server_name(), &key);
    let request = Request::get(&target)
        .header(header::AUTHORIZATION, header)
        .body(Body::empty())
        .unwrap();
    let cost = Cost::begin();
    let response = fed.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        piece.unwrap();
    }
    cost.end()
}
