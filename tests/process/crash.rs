//! Nothing acknowledged is ever lost, and nothing exists twice, whatever ends the process.
//!
//! Senders write, one message after another, each with a transaction id; a message whose answer was cut
//! off is sent again under the same id once the server is back. In the end the room's history must hold
//! every text exactly once, under the event id that was acknowledged, and a reader who followed `/sync`
//! through all of it must have been told the same, in the same order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rhizome_storage::testing::{eventually, soon};
use tokio::sync::{Mutex, watch};

use crate::{
    client::{Client, Failure, timeline},
    database::Database,
    process,
};

const SENDERS: usize = 8;

/// Kills per run; the long run is `RHIZOME_KILL_ROUNDS=50`.
pub(crate) fn rounds() -> usize {
    std::env::var("RHIZOME_KILL_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_on_sqlite() {
    kill_under_load(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_on_postgres() {
    kill_under_load(Database::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_commit_loses_nothing_on_sqlite() {
    crash_at(Database::sqlite(), "before-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_commit_loses_nothing_on_postgres() {
    crash_at(Database::postgres().await, "before-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_commit_loses_nothing_on_sqlite() {
    crash_at(Database::sqlite(), "after-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_commit_loses_nothing_on_postgres() {
    crash_at(Database::postgres().await, "after-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_the_answer_loses_nothing_on_sqlite() {
    crash_at(Database::sqlite(), "before-answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_the_answer_loses_nothing_on_postgres() {
    crash_at(Database::postgres().await, "before-answer").await;
}

async fn kill_under_load(database: Database) {
    let mut server = process::start(&database, None).await;
    let story = Story::begin(&server.base).await;
    for round in 0..rounds() {
        // Kills fall at other moments of the load each time; bounded, so that the run is too.
        story.goes_on(20 + (round * 37) % 120).await;
        server.kill();
        server = process::start(&database, None).await;
        story.moved_to(&server.base);
    }
    story.goes_on(SENDERS * 2).await;
    story.end_and_check().await;
}

/// `point` counts commits: the 40th after the start ends the process.
async fn crash_at(database: Database, point: &str) {
    let server = process::start(&database, None).await;
    let story = Story::begin(&server.base).await;
    drop(server);
    let server = process::start(&database, Some(&format!("{point}:40"))).await;
    story.moved_to(&server.base);
    server.ended().await;
    let server = process::start(&database, None).await;
    story.moved_to(&server.base);
    story.goes_on(SENDERS * 2).await;
    story.end_and_check().await;
}

/// What the senders were told: text → event id.
type Told = Arc<Mutex<HashMap<String, String>>>;

struct Story {
    room: String,
    reader: Client,
    told: Told,
    base: watch::Sender<String>,
    over: watch::Sender<bool>,
    senders: Vec<tokio::task::JoinHandle<()>>,
    following: tokio::task::JoinHandle<Vec<(String, String)>>,
}

impl Story {
    async fn begin(base: &str) -> Self {
        let reader = Client::register(base, "reader").await;
        let room = reader.create_room().await;
        let (base_to, base_at) = watch::channel(base.to_owned());
        let (over_to, over_at) = watch::channel(false);
        let told = Told::default();
        let mut senders = Vec::new();
        for number in 0..SENDERS {
            let sender = Client::register(base, &format!("sender{number}")).await;
            sender.join(&room).await;
            let (told, room) = (Arc::clone(&told), room.clone());
            let (base_at, over_at) = (base_at.clone(), over_at.clone());
            senders.push(tokio::spawn(send_on(
                sender, number, room, told, base_at, over_at,
            )));
        }
        let following = tokio::spawn(follow(reader.clone(), room.clone(), base_at, over_at));
        Self {
            room,
            reader,
            told,
            base: base_to,
            over: over_to,
            senders,
            following,
        }
    }

    /// Waits until so many more messages have been acknowledged.
    async fn goes_on(&self, messages: usize) {
        let enough = self.told.lock().await.len() + messages;
        eventually("messages are acknowledged", async || {
            self.told.lock().await.len() >= enough
        })
        .await;
    }

    fn moved_to(&self, base: &str) {
        self.base.send_replace(base.to_owned());
    }

    async fn end_and_check(self) {
        self.over.send_replace(true);
        for sender in self.senders {
            sender.await.unwrap();
        }
        let followed = self.following.await.unwrap();
        let told = self.told.lock().await.clone();
        let reader = self.reader.at(&self.base.borrow());
        let stored: Vec<(String, String)> = reader
            .history(&self.room)
            .await
            .iter()
            .filter_map(message)
            .collect();

        let mut by_text = HashMap::new();
        for (text, event_id) in &stored {
            let before = by_text.insert(text.clone(), event_id.clone());
            assert_eq!(before, None, "{text} is stored twice");
        }
        for (text, event_id) in &told {
            assert_eq!(by_text.get(text), Some(event_id), "{text} was acknowledged");
        }
        assert_eq!(
            stored.len(),
            told.len(),
            "something is stored that nobody sent"
        );
        assert!(
            told.len() > SENDERS * 2,
            "only {} messages: no load",
            told.len()
        );
        assert_eq!(followed, stored, "the reader was told something else");
    }
}

/// (text, event id) of a message event.
fn message(event: &serde_json::Value) -> Option<(String, String)> {
    let text = event["content"]["body"].as_str()?;
    Some((text.to_owned(), event["event_id"].as_str()?.to_owned()))
}

async fn send_on(
    sender: Client,
    number: usize,
    room: String,
    told: Told,
    mut base: watch::Receiver<String>,
    over: watch::Receiver<bool>,
) {
    for message in 0.. {
        if *over.borrow() {
            return;
        }
        let text = format!("message {message} of sender {number}");
        let event_id = loop {
            let client = sender.at(&base.borrow_and_update().clone());
            match client.say(&room, &format!("t{message}"), &text).await {
                Ok(event_id) => break event_id,
                Err(Failure::Cut(_)) => soon("a server is back", base.changed()).await.unwrap(),
                Err(refused) => panic!("{text}: {refused:?}"),
            }
        };
        told.lock().await.insert(text, event_id);
    }
}

/// Follows `/sync` until everything is over and nothing more comes; gives the messages in the order told.
async fn follow(
    reader: Client,
    room: String,
    mut base: watch::Receiver<String>,
    over: watch::Receiver<bool>,
) -> Vec<(String, String)> {
    let mut since: Option<String> = None;
    let mut messages = Vec::new();
    loop {
        let ending = *over.borrow();
        let client = reader.at(&base.borrow_and_update().clone());
        match client
            .sync(since.as_deref(), Duration::from_millis(300))
            .await
        {
            Ok(answer) => {
                let events = timeline(&answer, &room);
                let limited = &answer["rooms"]["join"][&room]["timeline"]["limited"];
                assert!(
                    since.is_none() || *limited != serde_json::Value::Bool(true),
                    "the reader's gaps are small enough never to be limited"
                );
                messages.extend(events.iter().filter_map(message));
                since = answer["next_batch"].as_str().map(str::to_owned);
                if ending && events.is_empty() {
                    return messages;
                }
            }
            Err(Failure::Cut(_)) => soon("a server is back", base.changed()).await.unwrap(),
            Err(refused) => panic!("sync: {refused:?}"),
        }
    }
}
