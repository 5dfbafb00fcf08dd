//! What a connection that waits holds of the heap. The clients are bare sockets, which hold nothing of it, so what is
//! there more is the server's.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rhizome::config::{Api, Config, Listener, RegistrationMode};
use rhizome::server::{self, Running};
use rhizome_demo::{Person, http_client};
use rhizome_storage::testing::{eventually, readers};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// Connections that are measured.
const MANY: usize = 200;
/// Users that they are of: one may have only so many.
const USERS: usize = 10;

fn config(dir: &std::path::Path) -> Config {
    let mut config = Config::default();
    config.server.name = "idle.test".parse().unwrap();
    dir.clone_into(&mut config.server.data_dir);
    config.listeners = vec![Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        apis: vec![Api::Client],
        tls: None,
    }];
    config.registration.mode = RegistrationMode::Open;
    config
        .registration
        .strangers_may_register_and_i_accept_the_abuse = true;
    config.http.max_connections_per_address = 10 * MANY;
    config.rate_limits.enabled = false;
    config
}

/// What connections are that wait.
struct Waiting {
    address: SocketAddr,
    /// A request of each user.
    requests: Vec<String>,
    /// Whether the request is answered before it waits.
    upgrades: bool,
    open: Vec<TcpStream>,
}

impl Waiting {
    async fn more(&mut self, count: usize, running: &Running) {
        for _ in 0..count {
            let mut stream = TcpStream::connect(self.address).unwrap();
            let request = &self.requests[self.open.len() % self.requests.len()];
            stream.write_all(request.as_bytes()).unwrap();
            if self.upgrades {
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"HTTP/1.1 101");
            }
            self.open.push(stream);
        }
        let all = self.open.len();
        eventually("all wait", async || readers(running.store()) == all).await;
    }
}

/// Bytes of the heap for each of `MANY` connections that make one of these requests.
async fn each(running: &Running, requests: Vec<String>, upgrades: bool) -> u64 {
    let mut waiting = Waiting {
        address: running.addresses()[0],
        requests,
        upgrades,
        open: Vec::new(),
    };
    let bytes = || dhat::HeapStats::get().curr_bytes as u64;
    // The first ones fill what all share.
    waiting.more(MANY, running).await;
    let before = bytes();
    waiting.more(MANY, running).await;
    let after = bytes();
    drop(waiting);
    eventually("all have gone", async || readers(running.store()) == 0).await;
    (after - before) / MANY as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_holds_little() {
    let _profiler = match std::env::var("RHIZOME_HEAP_PROFILE") {
        Ok(file) => dhat::Profiler::builder()
            .file_name(file)
            .trim_backtraces(None)
            .build(),
        Err(_) => dhat::Profiler::builder().testing().build(),
    };
    let dir = tempfile::tempdir().unwrap();
    let running = server::start(config(dir.path())).await.unwrap();
    let base = format!("http://{}", running.addresses()[0]);
    let http = http_client().unwrap();
    let (mut polls, mut sockets) = (Vec::new(), Vec::new());
    for number in 0..USERS {
        let name = format!("user{number}");
        let user = Person::register(&http, &base, &name, "correct horse battery staple");
        let user = user.await.unwrap();
        let since = user.sync(None, std::time::Duration::ZERO).await.unwrap();
        let since = since["next_batch"].as_str().unwrap();
        let head = format!(
            "Host: idle.test\r\nAuthorization: Bearer {}\r\n",
            user.token()
        );
        polls.push(format!(
            "GET /_matrix/client/v3/sync?timeout=170000&since={since} HTTP/1.1\r\n{head}\r\n"
        ));
        sockets.push(format!(
            "GET /_matrix/client/unstable/org.rhizome.stream?since={since} HTTP/1.1\r\n{head}Connection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
    }
    let (poll, socket) = (
        each(&running, polls, false).await,
        each(&running, sockets, true).await,
    );
    println!("bytes of each: {poll} for a poll, {socket} for a socket");
    // More than half of a poll's is what hyper reads into and writes from.
    assert!(poll <= 30 * 1024, "{poll} bytes for each poll");
    assert!(socket <= 10 * 1024, "{socket} bytes for each socket");
    running.shutdown().await;
}
