//! Random joins, leaves, devices, cuts and restarts on three servers: in the end each client, which looked at others'
//! devices whenever it was told to, sees those that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use rhizome_storage::testing::eventually;
use serde_json::json;

use super::several::{Several, ids, on};
use super::signer::{Device, query};
use crate::harness::{User, esc, next};

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// A user's first device, which follows what it is told.
struct Client {
    user: User,
    since: Option<String>,
    /// What it knows of others' devices,
    known: BTreeMap<String, Vec<String>>,
    /// and whom it has to look at.
    outdated: BTreeSet<String>,
    /// The user's other devices, and how many there have been.
    others: Vec<Device>,
    made: u8,
}

impl Client {
    /// Hears what is new, and looks at whom it must.
    async fn follow(&mut self) {
        let told = self.user.sync(self.since.as_deref(), "").await;
        self.since = Some(next(&told));
        let list = |what: &str| {
            let list = told["device_lists"][what].as_array().cloned();
            let texts = list.unwrap_or_default().into_iter();
            texts
                .map(|user| user.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        for user in list("left") {
            self.known.remove(&user);
            self.outdated.remove(&user);
        }
        self.outdated.extend(list("changed"));
        if self.outdated.is_empty() {
            return;
        }
        let asked: serde_json::Map<_, _> = (self.outdated.iter())
            .map(|user| (user.clone(), json!([])))
            .collect();
        let answer = query(&self.user, asked.into()).await;
        let failures = answer["failures"].as_object().cloned().unwrap_or_default();
        for user in std::mem::take(&mut self.outdated) {
            let server = user.split_once(':').unwrap().1;
            if failures.contains_key(server) {
                self.outdated.insert(user);
            } else {
                let devices = ids(&answer, &user);
                self.known.insert(user, devices);
            }
        }
    }
}

/// Two users on each server, each with a device that has keys.
async fn begin(all: &Several) -> Vec<Client> {
    let mut clients = Vec::new();
    for server in 0..3 {
        for name in ["x", "y"] {
            let user = all.server(server).register(name).await;
            let device = Device::of(&user, 1).await;
            device.upload(json!({ "device_keys": device.keys() })).await;
            clients.push(Client {
                user,
                since: None,
                known: BTreeMap::new(),
                outdated: BTreeSet::new(),
                others: Vec::new(),
                made: 1,
            });
        }
    }
    clients
}

/// Something happens, to this client or this server.
async fn step(
    all: &mut Several,
    clients: &mut [Client],
    room: &str,
    (what, who, server): (usize, usize, usize),
) {
    match what {
        0..=2 => drop(all.join(&clients[who].user, room).await),
        3 => {
            let path = format!("/rooms/{}/leave", esc(room));
            let leave = clients[who].user.call(Method::POST, &path, Some(json!({})));
            leave.await;
        }
        4..=6 => {
            let client = &mut clients[who];
            client.made += 1;
            let device = Device::of(&client.user.another_device().await, client.made).await;
            device.upload(json!({ "device_keys": device.keys() })).await;
            client.others.push(device);
        }
        7 => {
            if let Some(device) = clients[who].others.pop() {
                device.user.ok(Method::POST, "/logout", json!({})).await;
            }
        }
        8 => all.network.cut(all.name(server)),
        9 => all.network.mend(all.name(server)),
        10 => {
            all.restart(server).await;
            for client in clients {
                client.user = all.again(&client.user);
                for device in &mut client.others {
                    device.user = all.again(&device.user);
                }
            }
        }
        _ => clients[who].follow().await,
    }
}

/// Whom a user's server sees in a room with them.
async fn seen_by(user: &User, rooms: &[String]) -> BTreeSet<String> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for room in rooms {
        let path = format!("/rooms/{}/joined_members", esc(room));
        let (_, members) = user.get(&path).await;
        let members = members["joined"].as_object().cloned().unwrap_or_default();
        seen.extend(members.into_iter().map(|(user, _)| user));
    }
    seen.remove(&user.id);
    seen
}

/// What a client has wrong about those with whom it shares a room, as its server sees it.
async fn mistake(client: &Client, others: &[Client], rooms: &[String]) -> Option<String> {
    let seen = seen_by(&client.user, rooms).await;
    for other in others.iter().filter(|one| seen.contains(&one.user.id)) {
        let whoami = other.user.read("/account/whoami").await;
        let mut truth = vec![whoami["device_id"].as_str().unwrap().to_owned()];
        truth.extend(other.others.iter().map(|device| device.id.clone()));
        truth.sort_unstable();
        let known = client.known.get(&other.user.id);
        if known != Some(&truth) {
            let (one, other) = (&client.user.id, &other.user.id);
            return Some(format!(
                "{one} knows of {other}: {known:?} instead of {truth:?}"
            ));
        }
    }
    None
}

async fn story(all: &mut Several, seed: u64, steps: usize) {
    let mut random = Random(seed);
    let mut clients = begin(all).await;
    let rooms = [
        clients[0].user.create_public().await,
        clients[2].user.create_public().await,
    ];
    // An answer from the beginning names nobody: a client that starts knows nobody's devices.
    for client in &mut clients {
        client.follow().await;
    }
    let mut trace = Vec::new();
    for _ in 0..steps {
        let (who, room) = (random.below(clients.len()), random.below(2));
        let happens = (random.below(14), who, random.below(3));
        trace.push((happens, room));
        step(all, &mut clients, &rooms[room], happens).await;
    }
    for server in 0..3 {
        all.network.mend(all.name(server));
    }
    // What was said apart comes together when somebody says something.
    for client in &clients {
        for room in &rooms {
            let path = format!("/rooms/{}/send/m.room.message/end", esc(room));
            let body = json!({ "msgtype": "m.text", "body": "the end" });
            client.user.call(Method::PUT, &path, Some(body)).await;
        }
    }
    let clients = tokio::sync::Mutex::new(clients);
    let wrong = std::sync::Mutex::new(None);
    let right = eventually("each client knows everybody's devices", async || {
        let mut clients = clients.lock().await;
        for client in clients.iter_mut() {
            client.follow().await;
        }
        let mut found = None;
        for client in clients.iter() {
            found = found.or(mistake(client, &clients, &rooms).await);
        }
        let is_right = found.is_none();
        *wrong.lock().unwrap() = found;
        is_right
    });
    let ended = tokio::time::timeout(Duration::from_secs(40), right).await;
    let wrong = wrong.into_inner().unwrap();
    assert!(ended.is_ok(), "seed {seed}: {wrong:?}\n{trace:?}");
}

/// Which stories are told: more by hand, as `first-last`.
fn stories() -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("RHIZOME_RANDOM_LISTS").unwrap_or_default();
    let asked = asked
        .split_once('-')
        .and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    asked.unwrap_or(1..=2)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_every_client_sees_everybodys_devices() {
    for seed in stories() {
        let postgres = seed % 4 == 2;
        on(postgres, 3, async |all| story(all, seed, 80).await).await;
    }
}
