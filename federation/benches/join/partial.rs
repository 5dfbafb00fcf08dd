//! A large room is joined before its members are known.

use std::{fs, path::Path, sync::Arc, sync::atomic::Ordering, time::Duration};

use axum::{Router, response::Response, routing::get};
use rhizome_federation::{Federation, FederationConfig, membership::join, testing::Network};
use rhizome_protocol::{Object, sign::KeyPair};
use rhizome_rooms::Rooms;
use rhizome_storage::Store;
use ruma::{OwnedUserId, RoomId};

use super::{Cost, JOINED, body_of, chat, crowd, memory, say, told};

/// What a line says beside the number of members.
pub const COLUMNS: &str = "events | answer MiB | state MiB | usable s | complete s | CPU s | CPU µs/event | peak MiB | kept MiB \
     | slowest message meanwhile, ms";

pub async fn run(folder: &Path, servers: usize, store: &Store) {
    let network = Network::default();
    let key = Arc::new(KeyPair::from_seed("k", &[1; 32]).unwrap());
    let rooms = Rooms::new(store.clone(), "here.example".try_into().unwrap(), key);
    let config = FederationConfig {
        partial_joins: true,
        ..FederationConfig::default()
    };
    let fed = Federation::in_process(rooms, store.clone(), config, &network).unwrap();
    network.attach(fed.server_name(), fed.router());
    let (small, large) = (told(folder, "small"), told(folder, "large"));
    let bodies = [(&small, "small"), (&large, "large.few")]
        .map(|(told, what)| (told.clone(), body_of(folder.join(what))));
    let (ids, state) = (
        body_of(folder.join("large.ids")),
        body_of(folder.join("large.state")),
    );
    let more = Router::new()
        .route(
            "/_matrix/federation/v1/state_ids/{room}",
            get(async move || Response::new(ids())),
        )
        .route(
            "/_matrix/federation/v1/state/{room}",
            get(async move || Response::new(state())),
        );
    crowd::attach_with(&network, servers, bodies.into(), more);
    let running = tokio::spawn({
        let fed = fed.clone();
        async move { fed.run(std::future::pending()).await }
    });
    let user: OwnedUserId = "@alice:here.example".try_into().unwrap();
    let enter = async |room: &RoomId| {
        let via = [crowd::server(0).0];
        join::join(&fed, &user, room.into(), &via, Object::new())
            .await
            .unwrap();
    };
    enter(&small.room_id).await;
    tokio::time::sleep(Duration::from_millis(200)).await;

    let size = |what: &str| {
        let bytes = fs::metadata(folder.join(what)).unwrap().len();
        bytes as f64 / 1_048_576.0
    };
    let events = fs::read_to_string(folder.join("large.events")).unwrap();
    let events: u32 = events.parse().unwrap();
    let mut log = store.log().subscribe();
    let cost = Cost::begin();
    let meanwhile = tokio::spawn(chat(fed.clone(), user.clone(), small.room_id.clone()));
    enter(&large.room_id).await;
    say(&fed, &user, &large.room_id, 0).await;
    let usable = cost.end();
    while store
        .room(&large.room_id)
        .await
        .unwrap()
        .unwrap()
        .partial
        .is_some()
    {
        log.changed().await.unwrap();
    }
    let complete = cost.end();
    JOINED.store(true, Ordering::Relaxed);
    let waited = meanwhile.await.unwrap() * 1_000.0;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kept = memory("VmRSS") - cost.rss;
    let joined = store.room(&large.room_id).await.unwrap().unwrap().joined;
    assert!(joined > 2, "only {joined} members are known");
    println!(
        "{events} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0}",
        size("large.few"),
        size("large.state"),
        usable.wall,
        complete.wall,
        complete.cpu,
        complete.cpu * 1e6 / f64::from(events),
        complete.peak,
        kept,
        waited,
    );
    running.abort();
}
