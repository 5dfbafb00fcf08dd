//! The servers: one that is looked at, one that it talks with, and one that is away.

use std::time::Duration;

use rhizome_client_api::{WriteUnread, notify};
use rhizome_federation::{outbound::Reach, testing::Network};
use rhizome_storage::{
    Clock, FillPeople, LogReader, LogWork, Options, PresenceOptions, Store,
    collect::Collecting,
    testing::{TestDatabase, count_rows, eventually, soon},
};
use ruma::{ServerName, server_name};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{delayed, harness::Server, pushers::Gateway, search};

const START_MS: i64 = 1_700_000_000_000;
/// So few entries of the log are in memory, so that what only tells of something has soon told it: after four times as
/// many.
const TAIL: usize = 10;
/// After so long a reader of the log writes down how far it is, and waits for less.
const TICK: Duration = Duration::from_secs(3);
/// As a server does it, but without pauses: nobody waits.
const HOW: Collecting = Collecting {
    grace: Duration::from_hours(24),
    interval: Duration::from_hours(72),
    pause: Duration::ZERO,
    expire_devices_after: None,
};

pub struct World {
    pub here: Server,
    pub there: Server,
    pub away: Server,
    network: Network,
    clock: Clock,
    /// How late it is, but for the moments that were waited for something.
    at: Duration,
    tasks: Vec<JoinHandle<()>>,
    /// Where the other servers' data are.
    others: [TestDatabase; 2],
}

impl World {
    pub async fn begin(database: &TestDatabase) -> Self {
        let (clock, network) = (Clock::manual(START_MS), Network::default());
        Gateway::attach(&network);
        let others = [TestDatabase::sqlite(), TestDatabase::sqlite()];
        let here = Server::on(open(database, &clock).await, &network, |_| {});
        let there = open(&others[0], &clock).await;
        let there = Server::named(server_name!("there"), 8, there, &network, |_| {});
        let away = open(&others[1], &clock).await;
        let away = Server::named(server_name!("away"), 9, away, &network, |_| {});
        let mut world = Self {
            tasks: Vec::new(),
            at: clock.monotonic(),
            here,
            there,
            away,
            network,
            clock,
            others,
        };
        world.run();
        world
    }

    /// Begins what servers do by themselves.
    fn run(&mut self) {
        let (here, there) = (self.here.clone(), self.there.clone());
        let (store, stop, name) = (&here.store, &here.shutdown, name());
        let unread = WriteUnread::new(store, name.to_owned());
        let people = FillPeople::new(store, name.to_owned());
        let (app, stopped) = (here.app.clone(), stop.clone());
        let telling = async move { notify::run(&app, &Reach::default(), &stopped).await };
        self.tasks = vec![
            federate(&here, stop),
            federate(&there, stop),
            delayed::sending(&here),
            follow(store, "unread", unread, stop),
            follow(store, "people", people, stop),
            tokio::spawn(telling),
        ];
    }

    /// From now on nobody reaches the third server.
    pub fn lose(&self) {
        self.network.cut(server_name!("away"));
    }

    /// Lets time go by.
    pub fn wait(&mut self, time: Duration) {
        self.at += time;
        let left = self.at.saturating_sub(self.clock.monotonic());
        self.clock.advance(left);
    }

    /// Waits until all that goes on by itself is done.
    pub async fn settle(&self) {
        let unfinished = &self.here.unfinished;
        unfinished.close();
        soon("requests end", unfinished.wait()).await;
        unfinished.reopen();
        eventually("all is quiet", async || {
            self.clock.advance(TICK);
            self.is_quiet().await
        })
        .await;
    }

    async fn is_quiet(&self) -> bool {
        let store = &self.here.store;
        let head = store.log().head().0;
        let old = store.clock().now_ms() - 4 * 86_400_000;
        let waits = [
            format!("reader WHERE name IN ('people', 'push', 'unread') AND pos < {head}"),
            format!("inbound_txn WHERE received_ts < {old}"),
            "inbox".to_owned(),
            "push".to_owned(),
            "delayed_event WHERE due_ms IS NOT NULL".to_owned(),
            "to_device_out WHERE server = 'there'".to_owned(),
        ];
        for rows in waits {
            if count_rows(store, &rows).await > 0 {
                return false;
            }
        }
        true
    }

    /// Takes what was said into the index of words, and deletes what nobody needs any more.
    pub async fn collect(&self) {
        let store = &self.here.store;
        search::fill(store).await;
        let done = store.collect_snapshots(HOW).await.unwrap();
        done.expect("the lease is free");
    }

    pub async fn end(self) {
        self.here.shutdown.cancel();
        for task in self.tasks {
            soon("a task ends", task).await.unwrap();
        }
        for server in [self.here, self.there, self.away] {
            server.store.close().await;
        }
        for database in self.others {
            database.remove().await;
        }
    }
}

fn name() -> &'static ServerName {
    server_name!("here")
}

async fn open(database: &TestDatabase, clock: &Clock) -> Store {
    let options = Options {
        clock: clock.clone(),
        tail_entries: TAIL,
        presence: PresenceOptions {
            enabled: true,
            ..PresenceOptions::default()
        },
        ..database.options()
    };
    Store::open(options).await.unwrap()
}

fn federate(server: &Server, stop: &CancellationToken) -> JoinHandle<()> {
    let (fed, stopped) = (server.federation.clone(), stop.clone().cancelled_owned());
    tokio::spawn(async move { fed.run(stopped).await.unwrap() })
}

fn follow<W: LogWork + 'static>(
    store: &Store,
    name: &'static str,
    work: W,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let (reader, stopped) = (LogReader::new(store, name, work), stop.clone());
    tokio::spawn(async move { reader.run(&stopped).await })
}
