//! What clients do until power is lost, and whether afterwards all is there that they had been told.

use std::{collections::HashMap, path::Path};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::trace::{Call, What};
use crate::client::Client;

const SENDERS: usize = 6;
/// Messages of each sender, at most, until SQLite has taken its write-ahead log into the database…
const MOST: usize = 600;
/// … and after that.
const AFTERWARDS: usize = 25;

/// Something that a client was told.
struct Told {
    /// What only the answer has in it.
    mark: String,
    /// The line of the trace with which the answer began to be given.
    answered: usize,
    what: Thing,
}

enum Thing {
    /// Registered, or logged in once more.
    Session(Client),
    Event(String),
    File(Vec<u8>),
}

pub(crate) struct Story {
    room: String,
    reader: Client,
    told: Vec<Told>,
}

impl Story {
    /// Clients do what they do until SQLite has emptied its log once, and a while longer.
    pub(crate) async fn live(base: &str, database: &Path) -> Self {
        let reader = Client::register(base, "reader").await;
        let room = reader.create_room().await;
        let mut told = vec![Told::session(reader.clone())];
        let senders = (0..SENDERS).map(|number| send(base, number, &room, database));
        for of_one in join_all(senders).await {
            told.extend(of_one);
        }
        for number in 0..3 {
            let text = format!("state {number}, set at the end");
            let id = reader.set(&room, &format!("key{number}"), &text).await;
            told.push(Told::event(id.expect("is set"), text));
        }
        Self { room, reader, told }
    }

    /// Finds the answers in the trace, in whose order things are from now on.
    pub(crate) fn find_answers(&mut self, calls: &[Call]) {
        let answers: Vec<(usize, String)> = calls
            .iter()
            .filter_map(|call| match &call.what {
                What::Answer(bytes) => {
                    Some((call.begin, String::from_utf8_lossy(bytes).into_owned()))
                }
                _ => None,
            })
            .collect();
        for told in &mut self.told {
            let mut answers = answers.iter();
            let found = answers.find(|(_, answer)| answer.contains(&told.mark));
            told.answered = found.expect("each answer is in the trace").0;
        }
        self.told.sort_by_key(|told| told.answered);
    }

    /// The lines with which answers began to be given, in order.
    pub(crate) fn answers(&self) -> Vec<usize> {
        self.told.iter().map(|told| told.answered).collect()
    }

    /// What isn't as it was told before this line.
    pub(crate) async fn broken(&self, base: &str, cut: usize) -> Vec<String> {
        let told = self.told.iter().filter(|told| told.answered < cut);
        let told: Vec<&Told> = told.collect();
        let mut broken = Vec::new();
        let reader = self.reader.at(base);
        let mut history: HashMap<String, Vec<String>> = HashMap::new();
        if told.iter().any(|told| matches!(told.what, Thing::Event(_))) {
            if !is_logged_in(&reader).await {
                return vec!["the reader is logged out".to_owned()];
            }
            for (text, id) in reader.history(&self.room).await.iter().filter_map(said) {
                history.entry(text).or_default().push(id);
            }
            // And it goes on.
            if let Err(refused) = reader.say(&self.room, "new", "is there more?").await {
                broken.push(format!("nothing more can be said: {refused:?}"));
            }
        }
        for (text, ids) in &history {
            if ids.len() > 1 {
                broken.push(format!("{text} is there as {ids:?}"));
            }
        }
        for Told { mark, what, .. } in &told {
            let is_there = match what {
                Thing::Session(client) => is_logged_in(&client.at(base)).await,
                Thing::Event(text) => history.get(text).is_some_and(|ids| ids.contains(mark)),
                Thing::File(bytes) => reader.download(mark).await.as_ref() == Some(bytes),
            };
            if !is_there {
                broken.push(format!("{} is lost", what.name(mark)));
            }
        }
        let sessions = told.iter().rev().find_map(|told| match &told.what {
            Thing::Session(client) => Some(client),
            _ => None,
        });
        if let Some(client) = sessions
            && log_in(&client.at(base)).await.is_none()
        {
            broken.push(format!("{} can't log in", client.user_id));
        }
        broken
    }
}

impl Told {
    fn session(client: Client) -> Self {
        Self::of(client.token().to_owned(), Thing::Session(client))
    }

    fn event(id: String, text: String) -> Self {
        Self::of(id, Thing::Event(text))
    }

    fn of(mark: String, what: Thing) -> Self {
        Self {
            mark,
            answered: 0,
            what,
        }
    }
}

impl Thing {
    fn name(&self, mark: &str) -> String {
        match self {
            Self::Session(client) => format!("a session of {}", client.user_id),
            Self::Event(text) => format!("{mark} ({text})"),
            Self::File(_) => mark.to_owned(),
        }
    }
}

/// One client: it sends messages, and now and then stores a file or logs in anew.
async fn send(base: &str, number: usize, room: &str, database: &Path) -> Vec<Told> {
    let me = Client::register(base, &format!("sender{number}")).await;
    let mut told = vec![Told::session(me.clone())];
    me.join(room).await;
    let mut left = AFTERWARDS;
    for message in 0..MOST {
        if is_taken_in(database) {
            left -= 1;
        }
        if left == 0 {
            return told;
        }
        let text = format!("message {message} of sender {number}");
        let id = me.say(room, &format!("t{message}"), &text).await;
        told.push(Told::event(id.expect("is sent"), text));
        if message % 10 == number {
            let name = format!("file {message} of sender {number}\n");
            let bytes = name.repeat(1 + message * 10).into_bytes();
            let address = me.upload(bytes.clone()).await;
            told.push(Told::of(address, Thing::File(bytes)));
        }
        if message % 20 == number {
            let again = log_in(&me).await.expect("logs in");
            told.push(Told::session(again));
        }
    }
    panic!("SQLite never took its write-ahead log into the database");
}

/// The database is one page until then.
fn is_taken_in(database: &Path) -> bool {
    std::fs::metadata(database).is_ok_and(|file| file.len() > 64 << 10)
}

async fn log_in(client: &Client) -> Option<Client> {
    let body = json!({ "type": "m.login.password", "password": "correct horse battery",
        "identifier": { "type": "m.id.user", "user": client.user_id } });
    let nobody = client.with_token("");
    let answer = nobody.call("POST", "/login", Some(body)).await.ok()?;
    Some(client.with_token(answer["access_token"].as_str()?))
}

async fn is_logged_in(client: &Client) -> bool {
    let answer = client.call("GET", "/account/whoami", None).await;
    answer.is_ok_and(|answer| answer["user_id"] == client.user_id.as_str())
}

/// (text, event id) of what clients sent.
fn said(event: &Value) -> Option<(String, String)> {
    let text = event["content"]["body"].as_str()?;
    Some((text.to_owned(), event["event_id"].as_str()?.to_owned()))
}
