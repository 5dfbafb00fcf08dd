//! Who reads by long polls, one after another, each at another process than the one before.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rhizome_storage::testing::eventually;
use serde_json::{Map, Value};
use tokio::task::JoinHandle;

use super::people::{KEPT, Party, READERS, is_for_now};
use crate::client::{Client, timeline};

const LONG_POLL: Duration = Duration::from_secs(30);

pub(super) struct Reader {
    who: usize,
    told: Arc<Mutex<Told>>,
    following: JoinHandle<()>,
}

/// What somebody has been told.
#[derive(Default)]
struct Told {
    /// The events of each room, in the order in which they came, and when.
    events: HashMap<String, Vec<(String, Instant)>>,
    ids: HashSet<String>,
    /// Messages to the device, by who wrote them, in the order in which they came.
    to_device: BTreeMap<usize, Vec<usize>>,
    /// What they keep among their account data.
    kept: Value,
    /// How many type in each room.
    typing: HashMap<String, usize>,
    /// Which event was read by whom.
    receipts: HashSet<(String, String)>,
    answers: Answers,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    pub(super) all: usize,
    /// In which there was nothing.
    pub(super) empty: usize,
}

impl Reader {
    pub(super) fn begin(party: &Party, who: usize) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let client = party.people[who].client.clone();
        let following = tokio::spawn(follow(client, party.rooms.clone(), told.clone()));
        Self {
            who,
            told,
            following,
        }
    }

    /// It is poisoned if what came was wrong, which fails whoever looks.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("the reader is told what is right")
    }

    pub(super) fn answers(&self) -> Answers {
        self.told().answers
    }

    /// The events of a room, in the order in which they came.
    pub(super) fn events(&self, room: &str) -> Vec<String> {
        let told = self.told();
        let events = told.events.get(room).into_iter().flatten();
        events.map(|(event_id, _)| event_id.clone()).collect()
    }

    /// Waits until these events have come.
    pub(super) async fn is_told(&self, events: &[String]) {
        eventually("a reader is told the last events", async || {
            let told = self.told();
            events.iter().all(|event_id| told.ids.contains(event_id))
        })
        .await;
    }

    /// Waits until everything that there is beside events has come: all who read have read `event` and keep `kept`.
    pub(super) async fn is_told_the_rest(&self, party: &Party, event: &str, kept: &Value) {
        let readers = &party.people[..READERS];
        eventually("a reader is told who has read the last", async || {
            let told = self.told();
            let mut others = readers.iter().enumerate().filter(|(n, _)| *n != self.who);
            others.all(|(_, person)| {
                let receipt = (event.to_owned(), person.client.user_id.clone());
                told.receipts.contains(&receipt)
            })
        })
        .await;
        eventually("a reader is told what they keep", async || {
            self.told().kept == *kept
        })
        .await;
        eventually("a reader is told that nobody types", async || {
            self.told().typing.values().all(|count| *count == 0)
        })
        .await;
        let sent: usize = (0..READERS)
            .map(|from| party.notes.to_device(from, self.who))
            .sum();
        eventually("a device is told all that it was sent", async || {
            self.told().to_device.values().map(Vec::len).sum::<usize>() >= sent
        })
        .await;
    }

    /// Each message to the device has come once, and in order.
    pub(super) fn check_to_device(&self, party: &Party) {
        let told = self.told();
        for from in 0..READERS {
            let came = told.to_device.get(&from).cloned().unwrap_or_default();
            let sent = party.notes.to_device(from, self.who);
            let is_right = came.iter().copied().eq(0..sent);
            assert!(is_right, "{from} to {}: {came:?} of {sent}", self.who);
        }
    }

    pub(super) fn still_follows(&self) -> bool {
        !self.following.is_finished()
    }

    /// The longest from when an event was acknowledged until it came.
    pub(super) fn longest(&self, acknowledged: &HashMap<String, Instant>) -> Duration {
        let told = self.told();
        let times = told.events.values().flatten().filter_map(|(event, came)| {
            let acknowledged = acknowledged.get(event)?;
            Some(came.saturating_duration_since(*acknowledged))
        });
        times.max().unwrap_or_default()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.following.abort();
    }
}

async fn follow(client: Client, rooms: Vec<String>, told: Arc<Mutex<Told>>) {
    let mut since: Option<String> = None;
    loop {
        let answer = client.sync(since.as_deref(), LONG_POLL).await;
        if is_for_now(&answer) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        let mut told = told.lock().unwrap();
        // With the lock, so that whoever looks hears that it went wrong.
        let answer = answer.unwrap_or_else(|failure| panic!("sync: {failure:?}"));
        told.take(&answer, &rooms, since.is_none());
        since = answer["next_batch"].as_str().map(str::to_owned);
    }
}

impl Told {
    fn take(&mut self, answer: &Value, rooms: &[String], first: bool) {
        self.answers.all += 1;
        self.answers.empty += usize::from(!has_news(answer));
        for room in rooms {
            self.take_room(answer, room, first);
        }
        for event in each(&answer["to_device"]["events"]) {
            let number = |key: &str| {
                let number = event["content"][key].as_u64().unwrap();
                usize::try_from(number).unwrap()
            };
            let of_one = self.to_device.entry(number("from")).or_default();
            of_one.push(number("n"));
        }
        for event in each(&answer["account_data"]["events"]) {
            if event["type"] == KEPT {
                self.kept = event["content"]["what"].clone();
            }
        }
    }

    fn take_room(&mut self, answer: &Value, room: &str, first: bool) {
        let news = &answer["rooms"]["join"][room];
        assert!(
            first || news["timeline"]["limited"].as_bool() != Some(true),
            "the reader's gaps are small enough never to be limited"
        );
        let now = Instant::now();
        for event in timeline(answer, room) {
            let event_id = event["event_id"].as_str().unwrap().to_owned();
            assert!(self.ids.insert(event_id.clone()), "told twice: {event}");
            let events = self.events.entry(room.to_owned()).or_default();
            events.push((event_id, now));
        }
        for event in each(&news["ephemeral"]["events"]) {
            let content = &event["content"];
            if event["type"] == "m.typing" {
                let count = each(&content["user_ids"]).count();
                self.typing.insert(room.to_owned(), count);
            } else if event["type"] == "m.receipt" {
                for (event_id, kinds) in content.as_object().unwrap() {
                    let users = kinds["m.read"].as_object();
                    for user in users.into_iter().flat_map(Map::keys) {
                        self.receipts.insert((event_id.clone(), user.clone()));
                    }
                }
            }
        }
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether there is anything in an answer for which a poll ends.
fn has_news(answer: &Value) -> bool {
    let lists = [
        "/to_device/events",
        "/account_data/events",
        "/presence/events",
        "/device_lists/changed",
        "/device_lists/left",
    ];
    let rooms = ["join", "invite", "knock", "leave"];
    let in_list = |at: &str| {
        let list = answer.pointer(at);
        list.is_some_and(|list| each(list).next().is_some())
    };
    let in_rooms = |kind: &str| {
        let rooms = answer["rooms"][kind].as_object();
        rooms.is_some_and(|rooms| !rooms.is_empty())
    };
    lists.into_iter().any(in_list) || rooms.into_iter().any(in_rooms)
}
