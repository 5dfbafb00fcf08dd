//! No message to a device is ever lost, comes twice, or comes before an earlier one: between two servers that are
//! killed again and again, with a cable that breaks.
//!
//! Senders on both servers write to a device on each, one message after another; a request that was cut off is sent
//! again under its transaction id. Both devices follow `/sync`, and repeat what was cut off. In the end each must have
//! got what each sender was told is sent: once, and in order.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rhizome_demo::Authority;
use rhizome_storage::testing::{eventually, soon};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    client::{Client, Failure},
    database::Database,
    process::{self, Process},
};

const SENDERS: usize = 4;
/// How long nothing must have come before what hasn't come counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages altogether; the long run is `RHIZOME_TO_DEVICE_MESSAGES=100000`.
fn messages() -> usize {
    std::env::var("RHIZOME_TO_DEVICE_MESSAGES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(480)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_cuts_lose_no_message_to_a_device_on_sqlite() {
    tell([Database::sqlite(), Database::sqlite()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_cuts_lose_no_message_to_a_device_on_postgres() {
    tell([Database::postgres().await, Database::postgres().await]).await;
}

async fn tell(databases: [Database; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path()).unwrap();
    let [north, south] = databases;
    let mut servers = [
        Server::start(north, &authority).await,
        Server::start(south, &authority).await,
    ];
    let mut devices = Vec::new();
    for server in &servers {
        devices.push(Device::register(server).await);
    }
    // What each sender writes goes to both devices.
    let each = messages().div_ceil(2 * 2 * SENDERS);
    let sent = Arc::new(AtomicUsize::new(0));
    let mut senders = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        for number in 0..SENDERS {
            let name = format!("sender{number}");
            let client = Client::register(&server.process.base, &name).await;
            let to: Value = devices.iter().map(Device::address).collect();
            let work = send_on(client, (at, number), each, to, server.base(), sent.clone());
            senders.push(tokio::spawn(work));
        }
    }
    let all = each * 2 * SENDERS;
    let following: Vec<_> = (devices.iter().zip(&servers))
        .map(|(device, server)| tokio::spawn(follow(device.clone(), all, server.base())))
        .collect();

    let rounds = (messages() / 80).clamp(4, 60);
    for round in 1..=rounds {
        let enough = all * round / (rounds + 1);
        eventually("enough is sent", async || {
            sent.load(Ordering::Relaxed) >= enough
        })
        .await;
        let one = &mut servers[(round / 2) % 2];
        match round % 2 {
            0 => one.kill_and_start().await,
            _ => one.cable.breaks().await,
        }
    }
    for sender in senders {
        sender.await.unwrap();
    }
    for (device, following) in devices.iter().zip(following) {
        let got = following.await.unwrap();
        for at in 0..2 {
            for number in 0..SENDERS {
                let of_one = got.get(&(at, number)).cloned().unwrap_or_default();
                let is_right = of_one.iter().copied().eq(0..each);
                assert!(
                    is_right,
                    "{}: {at} {number}: {of_one:?}",
                    device.client.user_id
                );
            }
        }
    }
}

/// A server whose federation is behind a cable.
struct Server {
    process: Process,
    database: Database,
    name: String,
    config: String,
    cable: Cable,
    base: watch::Sender<String>,
}

impl Server {
    async fn start(database: Database, authority: &Authority) -> Self {
        let inside = free_address();
        let cable = Cable::lay(inside).await;
        let name = format!("localhost:{}", cable.address.port());
        let config = federation(inside, authority);
        let process = process::start_as(&database, (&name, &config), None).await;
        let base = watch::Sender::new(process.base.clone());
        Self {
            process,
            database,
            name,
            config,
            cable,
            base,
        }
    }

    fn base(&self) -> watch::Receiver<String> {
        self.base.subscribe()
    }

    async fn kill_and_start(&mut self) {
        self.process.kill();
        self.process = process::start_as(&self.database, (&self.name, &self.config), None).await;
        self.base.send_replace(self.process.base.clone());
    }
}

/// The part of a configuration by which a server takes part in a federation on this machine.
pub(crate) fn federation(inside: SocketAddr, authority: &Authority) -> String {
    format!(
        r#"
[[listeners]]
address = "{inside}"
apis = ["federation"]
tls = {{ certificate = "{}", key = "{}" }}

[federation]
extra_ca_certificates = ["{}"]
allowed_ranges = ["127.0.0.0/8", "::1/128"]
trusted_key_servers = []
request_timeout = "5s"
retry_min = "50ms"
retry_max = "400ms"
"#,
        authority.certificate().display(),
        authority.key().display(),
        authority.ca().display(),
    )
}

/// An address on this machine at which nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let any = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    any.local_addr().unwrap()
}

/// What other servers reach a server by.
struct Cable {
    address: SocketAddr,
    /// How often it has broken.
    broken: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Cable {
    async fn lay(inside: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broken = watch::Sender::new(0);
        let breaks = broken.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((mut outer, _)) = listener.accept().await {
                let mut breaks = breaks.clone();
                breaks.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut inner) = TcpStream::connect(inside).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
                        _ = breaks.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            broken,
            task,
        }
    }

    /// Whatever is under way is cut off, a few times: in the middle of requests, and of answers.
    async fn breaks(&self) {
        for _ in 0..5 {
            self.broken.send_modify(|times| *times += 1);
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A device that messages are for.
#[derive(Clone)]
struct Device {
    client: Client,
    id: String,
}

impl Device {
    async fn register(server: &Server) -> Self {
        let client = Client::register(&server.process.base, "receiver").await;
        let who = client.call("GET", "/account/whoami", None).await.unwrap();
        let id = who["device_id"].as_str().unwrap().to_owned();
        Self { client, id }
    }

    fn address(&self) -> (String, Value) {
        (self.client.user_id.clone(), json!(self.id))
    }
}

/// What `number` of the senders at a server has sent, is sent when this returns.
async fn send_on(
    client: Client,
    (at, number): (usize, usize),
    count: usize,
    to: Value,
    mut base: watch::Receiver<String>,
    sent: Arc<AtomicUsize>,
) {
    for n in 0..count {
        let content = json!({ "at": at, "number": number, "n": n });
        let to = to.as_object().unwrap().iter();
        let messages: Value = to
            .map(|(user, device)| {
                let device = device.as_str().unwrap().to_owned();
                (user.clone(), json!({ device: content }))
            })
            .collect();
        loop {
            let client = client.at(&base.borrow_and_update().clone());
            let path = format!("/sendToDevice/m.test/t{n}");
            let body = json!({ "messages": messages });
            match client.call("PUT", &path, Some(body)).await {
                Ok(_) => break,
                Err(Failure::Cut(_)) => soon("a server is back", base.changed()).await.unwrap(),
                Err(refused) => panic!("{refused:?}"),
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// The messages that have come, by sender, in their order.
type Got = BTreeMap<(usize, usize), Vec<usize>>;

/// Follows `/sync` until so many messages have come, or none comes for long.
async fn follow(device: Device, all: usize, mut base: watch::Receiver<String>) -> Got {
    let (mut got, mut count, mut since) = (Got::new(), 0, None::<String>);
    let mut last = Instant::now();
    // Beyond the last, there is nothing.
    let mut after_the_last = 0;
    while after_the_last < 3 && last.elapsed() < PATIENCE {
        let client = device.client.at(&base.borrow_and_update().clone());
        let answer = client
            .sync(since.as_deref(), Duration::from_millis(300))
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failure::Cut(_)) => {
                soon("a server is back", base.changed()).await.unwrap();
                continue;
            }
            Err(refused) => panic!("sync: {refused:?}"),
        };
        let events = answer["to_device"]["events"].as_array();
        for event in events.into_iter().flatten() {
            let number = |key: &str| {
                let number = event["content"][key].as_u64().unwrap();
                usize::try_from(number).unwrap()
            };
            let of_one = got.entry((number("at"), number("number"))).or_default();
            of_one.push(number("n"));
            count += 1;
            last = Instant::now();
        }
        assert!(events.is_none_or(|events| events.len() <= 100));
        since = answer["next_batch"].as_str().map(str::to_owned);
        after_the_last += usize::from(count >= all);
    }
    got
}
