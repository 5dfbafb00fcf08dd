//! No notification is lost, and none comes again once the server could know that it was taken, whatever ends the
//! process.
//!
//! Bob mentions Ada again and again, while the process is killed: with her gateway holding a request unanswered, right
//! after the gateway has answered, and at some time. An answer is written down before the same pusher is handed the
//! next thing; a kill between the answer and that leaves nobody who knows of it. So her gateway must be told of
//! everything, in order, again only of what it was told last, and of that only by another life of the process.

use std::sync::Arc;

use rhizome_storage::testing::{eventually, soon};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    client::{Client, Failure, path},
    crash::rounds,
    database::Database,
    process::{self, Process},
};

/// So many messages may be sent of which the gateway wasn't told yet.
const AHEAD: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_and_repeats_no_notification_on_sqlite() {
    tell(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_and_repeats_no_notification_on_postgres() {
    tell(Database::postgres().await).await;
}

async fn tell(database: Database) {
    let gateway = Gateway::open().await;
    let mut server = start(&database).await;
    let story = Story::begin(&server.base, &gateway).await;
    let mut held = 0;
    for round in 0..rounds() {
        match round % 3 {
            0 => {
                gateway.holds_one().await;
                held += 1;
            }
            1 => gateway.answers_more(1 + (round * 5) % 7).await,
            _ => story.goes_on(3 + (round * 7) % 20).await,
        }
        server.kill();
        gateway.begins_anew();
        server = start(&database).await;
        story.base.send_replace(server.base.clone());
    }
    let sent = story.end().await;
    let all = |log: &Log| log.events() == sent;
    gateway.is_told("of everything", all).await;
    let log = gateway.log.borrow();
    let pairs = log.told.windows(2);
    let again: Vec<_> = pairs
        .filter(|pair| pair[0].event == pair[1].event)
        .collect();
    assert!(again.len() >= held, "what was held wasn't taken");
    for pair in again {
        assert_ne!(pair[0].life, pair[1].life, "{:?}", log.told);
    }
}

async fn start(database: &Database) -> Process {
    let config = "[push]\nallow_http = true\nallowed_ranges = [\"127.0.0.0/8\"]\n";
    process::start_as(database, ("crash.test", config), None).await
}

/// A push gateway that writes down what it is told.
struct Gateway {
    url: String,
    log: watch::Sender<Log>,
    /// Whether it leaves requests unanswered.
    holds: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Log {
    /// Which life of the process it is.
    life: usize,
    told: Vec<Told>,
    answered: usize,
}

#[derive(Debug)]
struct Told {
    life: usize,
    event: String,
}

impl Log {
    /// The events that it was told of, each once if it came again at once.
    fn events(&self) -> Vec<&str> {
        let events = self.told.iter().map(|told| told.event.as_str());
        let mut events: Vec<&str> = events.collect();
        events.dedup();
        events
    }
}

impl Gateway {
    async fn open() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Arc::new(Self {
            url: format!("http://{address}/_matrix/push/v1/notify"),
            log: watch::Sender::default(),
            holds: watch::Sender::new(false),
        });
        let listening = gateway.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gateway = listening.clone();
                tokio::spawn(async move { gateway.serve(stream).await });
            }
        });
        gateway
    }

    /// One request, which is answered unless the process has ended meanwhile.
    async fn serve(&self, mut stream: TcpStream) {
        let Some(told) = request(&mut stream).await else {
            return;
        };
        let event = &told["notification"]["event_id"];
        let event = event.as_str().expect("an event").to_owned();
        let mut holds = self.holds.subscribe();
        let mut life = 0;
        self.log.send_modify(|log| {
            life = log.life;
            log.told.push(Told { life, event });
        });
        let goes_on = holds.wait_for(|holds| !holds).await.is_ok();
        if !goes_on || self.log.borrow().life != life {
            return;
        }
        let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\
                      content-length: 15\r\n\r\n{\"rejected\":[]}";
        if stream.write_all(answer.as_bytes()).await.is_ok() {
            self.log.send_modify(|log| log.answered += 1);
        }
    }

    /// Waits until it holds a request that it won't answer any more.
    async fn holds_one(&self) {
        self.holds.send_replace(true);
        let before = self.log.borrow().told.len();
        let one = |log: &Log| log.told.len() > before && log.told.len() > log.answered;
        self.is_told("something that it holds", one).await;
    }

    /// Waits until it has answered so many more.
    async fn answers_more(&self, more: usize) {
        let enough = self.log.borrow().answered + more;
        self.is_told("some more", |log| log.answered >= enough)
            .await;
    }

    async fn is_told(&self, what: &str, enough: impl FnMut(&Log) -> bool) {
        let mut log = self.log.subscribe();
        soon(what, log.wait_for(enough)).await.unwrap();
    }

    /// The process has ended: nothing of it is answered any more.
    fn begins_anew(&self) {
        self.log.send_modify(|log| log.life += 1);
        self.holds.send_replace(false);
    }
}

/// The body of a request; `None` if the connection ends before.
async fn request(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.expect("a length").trim().parse().unwrap();
            if let Some(body) = bytes.get(end + 4..end + 4 + length) {
                return Some(serde_json::from_slice(body).unwrap());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Bob, who writes.
struct Story {
    base: watch::Sender<String>,
    over: watch::Sender<bool>,
    /// How many messages were acknowledged.
    sent: watch::Receiver<usize>,
    sending: JoinHandle<Vec<String>>,
}

impl Story {
    async fn begin(base: &str, gateway: &Arc<Gateway>) -> Self {
        let ada = Client::register(base, "ada").await;
        let bob = Client::register(base, "bob").await;
        let room = bob.create_room().await;
        ada.join(&room).await;
        let pusher = json!({
            "app_id": "org.example.app", "pushkey": "phone", "kind": "http", "lang": "en",
            "app_display_name": "App", "device_display_name": "Phone", "data": { "url": gateway.url },
        });
        let set = ada.call("POST", "/pushers/set", Some(pusher)).await;
        set.expect("sets a pusher");
        let (base, base_at) = watch::channel(base.to_owned());
        let (over, over_at) = watch::channel(false);
        let (sent_to, sent) = watch::channel(0);
        let sender = Sender {
            bob,
            path: format!("/rooms/{}/send/m.room.message", path(&room)),
            // Of many messages that wait together only the last are told, unless they are highlighted.
            content: json!({
                "msgtype": "m.text", "body": "ada!", "m.mentions": { "user_ids": [ada.user_id] },
            }),
            base: base_at,
        };
        let sending = tokio::spawn(sender.send_on(gateway.clone(), over_at, sent_to));
        Self {
            base,
            over,
            sent,
            sending,
        }
    }

    /// Waits until so many more messages have been acknowledged.
    async fn goes_on(&self, messages: usize) {
        let enough = *self.sent.borrow() + messages;
        eventually("messages are acknowledged", async || {
            *self.sent.borrow() >= enough
        })
        .await;
    }

    /// Ends it; gives the events that were sent.
    async fn end(self) -> Vec<String> {
        self.goes_on(AHEAD).await;
        self.over.send_replace(true);
        self.sending.await.unwrap()
    }
}

struct Sender {
    bob: Client,
    path: String,
    content: Value,
    base: watch::Receiver<String>,
}

impl Sender {
    /// One message after another, as long as the gateway keeps up.
    async fn send_on(
        mut self,
        gateway: Arc<Gateway>,
        over: watch::Receiver<bool>,
        sent: watch::Sender<usize>,
    ) -> Vec<String> {
        let mut events = Vec::new();
        while !*over.borrow() {
            events.push(self.send(events.len()).await);
            sent.send_replace(events.len());
            let enough = events.len().saturating_sub(AHEAD);
            let keeps_up = |log: &Log| log.events().len() >= enough;
            gateway.is_told("as fast as Bob writes", keeps_up).await;
        }
        events
    }

    /// Sends a message, again if its answer was cut off.
    async fn send(&mut self, number: usize) -> String {
        let path = format!("{}/t{number}", self.path);
        loop {
            let client = self.bob.at(&self.base.borrow_and_update().clone());
            match client.call("PUT", &path, Some(self.content.clone())).await {
                Ok(answer) => return answer["event_id"].as_str().unwrap().to_owned(),
                Err(Failure::Cut(_)) => {
                    soon("a server is back", self.base.changed()).await.unwrap();
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }
}
