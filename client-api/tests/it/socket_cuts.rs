//! A client of the WebSocket stream whose connection is cut again and again, anywhere, loses and doubles nothing:
//! events of a room, messages to its device, what it sends itself. `RHIZOME_SOCKET_CUTS=1000` cuts more often.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http::Method;
use rhizome_storage::{
    Store,
    testing::{TestDatabase, soon},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{
    harness::{Server, User, esc, events, next},
    random::Random,
    stream::message,
    to_device::{self, device_of, numbers},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A server that listens, until it is stopped and another takes over its store.
struct Host {
    server: Server,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Host {
    async fn start(store: Store) -> Host {
        let server = Server::new(store);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = server.router.clone();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Host {
            server,
            address,
            serving,
        }
    }

    async fn restart(self, database: &TestDatabase) -> Host {
        self.server.shutdown.cancel();
        self.serving.abort();
        while !self.server.unfinished.is_empty() {
            tokio::task::yield_now().await;
        }
        self.server.store.close().await;
        Host::start(database.open().await).await
    }
}

/// The address of a line to `to` for one connection, which breaks after so many bytes in a direction.
async fn line(to: SocketAddr, [up, down]: [usize; 2]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let Ok(mut server) = TcpStream::connect(to).await else {
            return;
        };
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::select! {
            () = carry(from_client, to_server, up) => {}
            () = carry(from_server, to_client, down) => {}
        }
    });
    address
}

async fn carry(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut left: usize,
) {
    let mut buffer = [0; 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        match from.read(&mut buffer[..most]).await {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).await.is_ok() => left -= count,
            _ => return,
        }
    }
}

/// What a client has, and what it still wants to say.
#[derive(Default)]
struct Client {
    token: String,
    since: Option<String>,
    seen: Vec<String>,
    told: Vec<u64>,
    /// Messages that nobody has acknowledged, by transaction.
    unsaid: VecDeque<(String, String)>,
    said: usize,
    connections: usize,
    /// Connections on which something was told before they broke.
    heard: usize,
}

impl Client {
    /// Wants to say something more.
    fn intend(&mut self) {
        self.said += 1;
        let text = format!("mine {}", self.said);
        self.unsaid.push_back((format!("c{}", self.said), text));
    }

    /// Connects, says what it has to say and hears, until the line breaks or it is content.
    async fn talk(
        &mut self,
        address: SocketAddr,
        room: &str,
        chance: &mut Random,
        wanted: (usize, u64),
    ) {
        let filter = json!({"room": {"timeline": {"limit": 500}}}).to_string();
        let since = self.since.as_ref().map(|since| format!("&since={since}"));
        let url = format!(
            "ws://{address}/_matrix/client/unstable/org.rhizome.stream?access_token={}&filter={}{}",
            esc(&self.token),
            esc(&filter),
            since.unwrap_or_default()
        );
        let Ok((socket, _)) = connect_async(url).await else {
            return;
        };
        self.connections += 1;
        let before = self.since.clone();
        self.converse(socket, room, chance, wanted).await;
        self.heard += usize::from(self.since != before);
    }

    async fn converse(
        &mut self,
        mut socket: Socket,
        room: &str,
        chance: &mut Random,
        wanted: (usize, u64),
    ) {
        for (txn, text) in &self.unsaid {
            if socket
                .send(Message::text(message(room, txn, text).to_string()))
                .await
                .is_err()
            {
                return;
            }
        }
        while !self.is_content(wanted) {
            let Some(Ok(frame)) = soon("a frame, or the end", socket.next()).await else {
                return;
            };
            let Message::Text(text) = frame else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str().unwrap() {
                "sync" => self.hear(&frame, room),
                "ack" => self
                    .unsaid
                    .retain(|(txn, _)| frame["txn_id"] != txn.as_str()),
                "bye" => return,
                other => panic!("{other}: {frame}"),
            }
            if chance.below(4) == 0 && self.since.is_some() {
                let ack = json!({"type": "ack", "next_batch": self.since});
                if socket.send(Message::text(ack.to_string())).await.is_err() {
                    return;
                }
            }
        }
    }

    fn hear(&mut self, frame: &Value, room: &str) {
        let part = &frame["rooms"]["join"][room]["timeline"];
        assert!(self.since.is_none() || part["limited"] != true, "{frame}");
        let told = events(frame, &["rooms", "join", room, "timeline", "events"]);
        let messages = told
            .iter()
            .filter(|event| event["type"] == "m.room.message");
        self.seen
            .extend(messages.map(|event| event["event_id"].as_str().unwrap().to_owned()));
        self.told.extend(numbers(frame));
        self.since = Some(next(frame));
    }

    fn is_content(&self, (events, messages): (usize, u64)) -> bool {
        self.unsaid.is_empty()
            && self.seen.len() >= events + self.said
            && self.told.len() as u64 >= messages
    }
}

/// All messages of a room, oldest first: id and text.
async fn history(user: &User, room: &str) -> Vec<(String, String)> {
    let (mut all, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/rooms/{}/messages?dir=f&limit=1000{from}", esc(room));
        let page = user.read(&path).await;
        for event in events(&page, &["chunk"]) {
            if event["type"] == "m.room.message" {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                all.push((text(&event["event_id"]), text(&event["content"]["body"])));
            }
        }
        let Some(end) = page["end"].as_str() else {
            return all;
        };
        from = format!("&from={end}");
    }
}

async fn cut_off_again_and_again(database: &TestDatabase, cuts: usize, chance: &mut Random) {
    let mut host = Host::start(database.open().await).await;
    let (alice, mut bob) = (
        host.server.register("alice").await,
        host.server.register("bob").await,
    );
    let device = device_of(&alice).await;
    let room = alice.create_public().await;
    bob.join(&room).await;
    let (mut events, mut messages) = (0, 0);
    let mut client = Client {
        token: alice.token.clone(),
        ..Client::default()
    };
    for cut in 0..=cuts {
        if cut % 10 == 9 {
            host = host.restart(database).await;
            bob.server = host.server.clone();
        }
        for _ in 0..chance.below(4) {
            client.intend();
        }
        // The first line holds, so that there is a position to go on from, and the last. Some of the others last long
        // enough to catch up.
        let bytes = match (cut, chance.below(4)) {
            (0, _) => [usize::MAX; 2],
            _ if cut == cuts => [usize::MAX; 2],
            (_, 0 | 1) => [300 + chance.below(20_000), 100 + chance.below(60_000)],
            _ => [300 + chance.below(1_500), 100 + chance.below(5_000)],
        };
        let (more, tells) = (chance.below(6), chance.below(4) as u64);
        let wanted = (events + more, messages + tells);
        let line = line(host.address, bytes).await;
        let happens = async {
            for number in 0..more {
                // Not by the harness's transaction ids: they begin anew with each server.
                let path = format!("/rooms/{}/send/m.room.message/b{cut}-{number}", esc(&room));
                let content = json!({"msgtype": "m.text", "body": format!("{cut} {number}")});
                bob.ok(Method::PUT, &path, content).await;
            }
            for number in messages..messages + tells {
                let content = json!({ &alice.id: { &device: { "n": number } } });
                to_device::send(&bob, &format!("n{number}"), content).await;
            }
        };
        tokio::join!(happens, client.talk(line, &room, chance, wanted));
        (events, messages) = wanted;
    }

    let alice = User {
        server: host.server.clone(),
        ..alice
    };
    let truth = history(&alice, &room).await;
    let ids: Vec<&String> = truth.iter().map(|(id, _)| id).collect();
    assert_eq!(client.seen.iter().collect::<Vec<_>>(), ids);
    let mut own: Vec<&str> = truth.iter().map(|(_, text)| text.as_str()).collect();
    own.retain(|text| text.starts_with("mine "));
    let intended: Vec<String> = (1..=client.said).map(|n| format!("mine {n}")).collect();
    assert_eq!(own, intended, "each once, in order");
    assert!(
        client.told.iter().copied().eq(0..messages),
        "{:?}",
        client.told
    );
    assert!(
        client.connections > cuts / 4,
        "{} of {cuts}",
        client.connections
    );
    assert!(client.heard > cuts / 4, "{} of {cuts}", client.heard);
    host.server.shutdown.cancel();
    host.server.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_at_random_loses_and_doubles_nothing() {
    let cuts = std::env::var("RHIZOME_SOCKET_CUTS").map_or(30, |n| n.parse().unwrap());
    for database in TestDatabase::both().await {
        let mut chance = Random(17);
        let story = cut_off_again_and_again(&database, cuts, &mut chance);
        let limit = Duration::from_secs(60 + cuts as u64);
        tokio::time::timeout(limit, story).await.expect("it ends");
        database.remove().await;
    }
}
