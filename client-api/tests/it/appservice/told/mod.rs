//! Services are told what happens, once and in order, whatever becomes of them and of us; and asked what is theirs.

mod asking;
mod away;
mod elsewhere;
mod ephemeral;
mod invites;
mod keys;
mod line;
mod networks;
mod order;
mod processes;
mod side;
mod worst;

use std::time::Duration;

use http::Method;
use rhizome_appservice::Services;
use rhizome_client_api::told;
use rhizome_federation::{FederationConfig, testing::Network};
use rhizome_storage::{
    Clock, Options, PresenceOptions, Store,
    testing::{TestDatabase, eventually},
};
use ruma::server_name;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Acting, registrations};
use crate::harness::{Server, User, esc};
use side::Side;

/// A bridge that wants to hear of everything.
fn irc(url: &str) -> String {
    format!(
        "
id: irc
url: {url}
as_token: irc-token
hs_token: irc-hs-token
sender_localpart: ircbot
rate_limited: false
receive_ephemeral: true
org.matrix.msc3202: true
io.element.msc4190: true
protocols: [irc]
namespaces:
  users: [{{exclusive: true, regex: '@irc_.*'}}]
  aliases: [{{exclusive: true, regex: '#irc_.*'}}]
  rooms: [{{exclusive: false, regex: '!logged.*'}}]
"
    )
}

/// Another that wants events alone.
fn plain(url: &str) -> String {
    format!(
        "
id: plain
url: {url}
as_token: plain-token
hs_token: irc-hs-token
sender_localpart: plainbot
namespaces:
  users: [{{exclusive: false, regex: '@(irc|plain)_.*'}}]
"
    )
}

/// A server that tells its services.
struct World {
    server: Server,
    /// The sides of the services, in the order of their texts.
    sides: Vec<Side>,
    clock: Clock,
    network: Network,
    texts: Vec<String>,
    database: TestDatabase,
    telling: Option<(CancellationToken, JoinHandle<()>)>,
}

/// How services are described.
type Describe = fn(&str) -> String;

impl World {
    async fn new(database: TestDatabase, describe: &[Describe]) -> Self {
        let (mut sides, mut texts) = (Vec::new(), Vec::new());
        for describe in describe {
            let side = Side::listen().await;
            texts.push(describe(&side.url));
            sides.push(side);
        }
        let clock = Clock::manual(1_700_000_000_000);
        let network = Network::default();
        let server = serve(&database, &clock, &network, &texts).await;
        let mut world = Self {
            server,
            sides,
            clock,
            network,
            texts,
            database,
            telling: None,
        };
        world.begin().await;
        world
    }

    /// Begins to tell.
    async fn begin(&mut self) {
        self.telling = Some(tell(&self.server));
        let services = self.sides.len();
        eventually("services are told", async || {
            self.server.store.service_states().await.unwrap().len() == services
        })
        .await;
    }

    /// Ends it, as the end of the process does.
    async fn end(&mut self) {
        if let Some((stop, task)) = self.telling.take() {
            stop.cancel();
            task.await.unwrap();
        }
    }

    /// Ends it as a crash does.
    async fn crash(&mut self) {
        if let Some((_, task)) = self.telling.take() {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }

    /// Another process, which begins when the lease of the one before is over.
    async fn restart(&mut self) {
        self.server.store.close().await;
        self.clock.advance(Duration::from_secs(6));
        self.server = serve(&self.database, &self.clock, &self.network, &self.texts).await;
        self.begin().await;
    }

    /// The bridge, and its first user.
    async fn bridge(&self) -> (Acting, Acting) {
        let bot = Acting::of(&self.server, "irc-token");
        let ann = bot.makes("irc_ann").await;
        (bot, ann)
    }

    fn irc(&self) -> &Side {
        &self.sides[0]
    }

    /// The same user at the server as it is after a restart.
    fn again(&self, user: &User) -> User {
        User {
            server: self.server.clone(),
            ..user.clone()
        }
    }
}

/// A database, opened by a world's clock.
async fn open(database: &TestDatabase, clock: &Clock) -> Store {
    let options = Options {
        clock: clock.clone(),
        ..database.options()
    };
    Store::open(options).await.unwrap()
}

async fn serve(
    database: &TestDatabase,
    clock: &Clock,
    network: &Network,
    texts: &[String],
) -> Server {
    let options = Options {
        clock: clock.clone(),
        presence: PresenceOptions {
            enabled: true,
            ..PresenceOptions::default()
        },
        ..database.options()
    };
    let store = Store::open(options).await.unwrap();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let services = registrations(&texts);
    for service in services.iter() {
        let made = rhizome_client_api::users::of_service(&store, &service.sender);
        made.await.unwrap();
    }
    let federation = FederationConfig {
        services: Some(Services::new(services)),
        partial_joins: true,
        ..FederationConfig::default()
    };
    Server::federating(server_name!("here"), 7, store, network, federation, |_| {})
}

fn tell(server: &Server) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    let (app, stopped) = (server.app.clone(), stop.clone());
    let task = tokio::spawn(async move { told::run(&app, &stopped).await });
    (stop, task)
}

/// Runs a test on both databases. The time stands until the test moves it.
async fn each(describe: &[Describe], test: impl AsyncFn(&mut World)) {
    for database in TestDatabase::both().await {
        let mut world = World::new(database, describe).await;
        test(&mut world).await;
        world.end().await;
        world.server.store.close().await;
        world.database.remove().await;
    }
}

/// A room of a user's with a user of the bridge's in it.
async fn bridged(user: &User, ghost: &Acting) -> String {
    let room = user.create_public().await;
    joins(ghost, &room).await;
    room
}

async fn joins(ghost: &Acting, room: &str) {
    let path = format!("/rooms/{}/join", esc(room));
    ghost.ok(Method::POST, &path, json!({})).await;
}

async fn leaves(ghost: &Acting, room: &str) {
    let path = format!("/rooms/{}/leave", esc(room));
    ghost.ok(Method::POST, &path, json!({})).await;
}

/// Lets time go by until something is so: whenever the first service waits for its turn to be tried again, that comes.
async fn later(world: &World, until: impl AsyncFn() -> bool) {
    let (store, clock, side) = (&world.server.store, &world.clock, world.irc());
    while !until().await {
        eventually("it waits for its turn", async || {
            let states = store.service_states().await.unwrap();
            states[0].next_ms > clock.now_ms() || until().await
        })
        .await;
        let before = side.came();
        clock.advance(Duration::from_mins(10));
        eventually("it is tried again", async || {
            side.came() > before || until().await
        })
        .await;
    }
}
