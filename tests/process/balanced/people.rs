//! Those who write, by a balancer: a bit of all that apps do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::notes::Notes;
use crate::{
    client::{Client, Failure, path},
    random::Random,
};

const ROOMS: usize = 3;
/// People who are in all rooms, write and read.
pub(super) const READERS: usize = 7;
/// The type of what each keeps among their account data.
pub(super) const KEPT: &str = "org.example.kept";

pub(super) struct Party {
    pub(super) people: Vec<Person>,
    pub(super) rooms: Vec<String>,
    pub(super) notes: Notes,
}

pub(super) struct Person {
    pub(super) client: Client,
    device: String,
}

impl Party {
    /// They meet at `base`, while all is well, and go by `balancer` from then on. After the readers there is one more,
    /// who comes and goes.
    pub(super) async fn meet(base: &str, balancer: &str) -> Self {
        let founder = Client::register(base, "person0").await;
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            rooms.push(found(&founder).await);
        }
        let mut people = vec![Person::of(&founder, balancer).await];
        for number in 1..=READERS {
            let client = Client::register(base, &format!("person{number}")).await;
            for room in &rooms {
                client.join(room).await;
            }
            people.push(Person::of(&client, balancer).await);
        }
        Self {
            people,
            rooms,
            notes: Notes::default(),
        }
    }
}

/// A room in which everybody may change the topic.
async fn found(founder: &Client) -> String {
    let body = json!({
        "preset": "public_chat", "power_level_content_override": { "users_default": 50 },
    });
    let answer = founder.call("POST", "/createRoom", Some(body)).await;
    let answer = answer.expect("creates a room");
    answer["room_id"].as_str().unwrap().to_owned()
}

impl Person {
    async fn of(client: &Client, balancer: &str) -> Self {
        let who = client.call("GET", "/account/whoami", None).await.unwrap();
        Self {
            client: client.at(balancer),
            device: who["device_id"].as_str().unwrap().to_owned(),
        }
    }
}

pub(super) struct Writer {
    party: Arc<Party>,
    who: usize,
    /// The last that they said, and in which room.
    last: Option<(String, String)>,
}

impl Writer {
    pub(super) fn new(party: &Arc<Party>, who: usize) -> Self {
        Self {
            party: party.clone(),
            who,
            last: None,
        }
    }

    /// One thing after another, until it is over.
    pub(super) async fn write(mut self, mut random: Random, over: watch::Receiver<bool>) {
        let mut n = 0;
        while !*over.borrow() {
            self.does_something(n, &mut random).await;
            n += 1;
        }
    }

    async fn does_something(&mut self, n: usize, random: &mut Random) {
        let room = self.party.rooms[random.below(ROOMS)].clone();
        match random.below(10) {
            0..=4 => {
                let event_id = self.says(&room, &format!("t{n}")).await;
                self.last = Some((room, event_id));
            }
            5 => self.sets_the_topic(&room, n).await,
            6 => {
                if let Some((room, event_id)) = self.last.clone() {
                    self.has_read(&room, &event_id).await;
                }
            }
            7 => self.types(&room).await,
            8 => self.keeps(&json!(n)).await,
            _ => self.tells_a_device(random.below(READERS)).await,
        }
    }

    /// Says something under a transaction id; gives the event that it is.
    pub(super) async fn says(&self, room: &str, txn: &str) -> String {
        let text = format!("{txn} of person {}", self.who);
        let target = format!("/rooms/{}/send/m.room.message/{txn}", path(room));
        let body = json!({ "msgtype": "m.text", "body": text });
        let answer = self.does("message", ("PUT", &target), &body).await;
        let event_id = answer["event_id"].as_str().expect("an event id");
        self.party.notes.acknowledge(event_id);
        event_id.to_owned()
    }

    async fn sets_the_topic(&self, room: &str, n: usize) {
        let target = format!("/rooms/{}/state/m.room.topic", path(room));
        let body = json!({ "topic": format!("topic {n} of person {}", self.who) });
        let answer = self.does("topic", ("PUT", &target), &body).await;
        let event_id = answer["event_id"].as_str().expect("an event id");
        self.party.notes.acknowledge(event_id);
    }

    pub(super) async fn has_read(&self, room: &str, event_id: &str) {
        let event = path(event_id);
        let target = format!("/rooms/{}/receipt/m.read/{event}", path(room));
        self.does("receipt", ("POST", &target), &json!({})).await;
    }

    async fn types(&self, room: &str) {
        let user = path(&self.client().user_id);
        let target = format!("/rooms/{}/typing/{user}", path(room));
        let body = json!({ "typing": true, "timeout": 2_000 });
        self.does("typing", ("PUT", &target), &body).await;
    }

    pub(super) async fn keeps(&self, what: &Value) {
        let user = path(&self.client().user_id);
        let target = format!("/user/{user}/account_data/{KEPT}");
        let body = json!({ "what": what });
        self.does("account data", ("PUT", &target), &body).await;
    }

    async fn tells_a_device(&self, to: usize) {
        let n = self.party.notes.to_device(self.who, to);
        let person = &self.party.people[to];
        let (user, device) = (person.client.user_id.clone(), person.device.clone());
        let target = format!("/sendToDevice/m.test/to{to}-{n}");
        let body = json!({ "messages": { user: { device: { "from": self.who, "n": n } } } });
        self.does("to a device", ("PUT", &target), &body).await;
        self.party.notes.told_a_device(self.who, to);
    }

    /// Comes into rooms and leaves them, until it is over.
    pub(super) async fn wander(self, mut random: Random, over: watch::Receiver<bool>) {
        while !*over.borrow() {
            let room = path(&self.party.rooms[random.below(ROOMS)]);
            let target = format!("/rooms/{room}/leave");
            let left = self.ask("leave", ("POST", &target), &json!({})).await;
            // What was asked again had been done before, maybe much before by a process that slept.
            let is_fine = matches!(left, Ok(_) | Err(Failure::Refused { status: 403, .. }));
            assert!(is_fine, "{left:?}");
            let target = format!("/join/{room}");
            self.does("join", ("POST", &target), &json!({})).await;
        }
    }

    fn client(&self) -> &Client {
        &self.party.people[self.who].client
    }

    /// What must be taken.
    async fn does(&self, kind: &'static str, request: (&str, &str), body: &Value) -> Value {
        let answer = self.ask(kind, request, body).await;
        answer.unwrap_or_else(|failure| panic!("{kind}: {failure:?}"))
    }

    /// Asks until there is an answer, as apps do.
    async fn ask(
        &self,
        kind: &'static str,
        (method, target): (&str, &str),
        body: &Value,
    ) -> Result<Value, Failure> {
        let begun = Instant::now();
        loop {
            let asked = self.client().call(method, target, Some(body.clone())).await;
            if is_for_now(&asked) {
                self.party.notes.asked_again();
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            self.party.notes.waited(kind, begun.elapsed());
            return asked;
        }
    }
}

/// Whether to ask again: the balancer doesn't know what has become of it, or a process can't for now.
pub(super) fn is_for_now(asked: &Result<Value, Failure>) -> bool {
    matches!(
        asked,
        Err(Failure::Refused {
            status: 502 | 503,
            ..
        })
    )
}
