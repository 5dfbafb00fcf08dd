//! Three processes on one PostgreSQL behind a balancer that sends each request to the next: one is frozen, one is
//! killed, and nobody loses anything.
//!
//! People in a few rooms do a bit of all that apps do, all of it by the balancer, and read by long polls. What was
//! refused because nobody knows what has become of it they ask again. In the end every acknowledged event must be in
//! the history once, at each process; everybody must have been told the same, in one order; and each message
//! to a device must have come to it once, in order. While nothing happens the polls must wait.
//!
//! How long anybody waited is printed, and only asserted if somebody says how long that may be. The long run:
//! `RHIZOME_BALANCED_SECONDS=600 RHIZOME_BALANCED_LONGEST=5 scripts/with-postgres cargo test --release --test process balanced -- --nocapture`

mod balancer;
mod nodes;
mod notes;
mod people;
mod reader;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rhizome_storage::testing::soon;
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use self::{
    nodes::Nodes,
    people::{Party, READERS, Writer},
    reader::Reader,
};
use crate::{client::Client, database::Database, random::Random};

/// How many polls may end while nothing happens, of a reader, with nothing in them: there is one that ends by its time
/// in the long run, and who comes to a process for the first time may be answered once for nothing.
const EMPTY: usize = 6;
/// And with something: who is there is told a while later, by each of the processes. Polls that don't wait at all end
/// hundreds of times.
const LATE: usize = 30;

/// A number that the environment may give.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let seed = given("RHIZOME_BALANCED_SEED").unwrap_or_else(|| now().into());
    println!("RHIZOME_BALANCED_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread")]
async fn balanced_over_processes_that_freeze_and_die_nobody_loses_anything() {
    let seed = seed();
    // In the test command: until one was frozen and one was killed.
    let time = Duration::from_secs(given("RHIZOME_BALANCED_SECONDS").unwrap_or(0));
    let mut nodes = Nodes::start(Database::postgres().await).await;
    let party = Party::meet(nodes.first(), &nodes.balancer.base).await;
    let party = Arc::new(party);
    let bystander = Client::register(nodes.first(), "bystander").await;
    let first = say_everywhere(&party, "first").await;
    let readers: Vec<Reader> = (0..READERS).map(|who| Reader::begin(&party, who)).collect();
    for reader in &readers {
        reader.is_told(&first).await;
    }
    let over = watch::Sender::new(false);
    let working = work(&party, seed, &over);
    let mut random = Random::new(seed);
    nodes.are_disturbed(&party.notes, &mut random, time).await;
    over.send_replace(true);
    for work in working {
        soon("who writes comes to an end", work).await.unwrap();
    }

    let last = say_everywhere(&party, "last").await;
    let end = json!("the end");
    for who in 0..READERS {
        let writer = Writer::new(&party, who);
        writer.has_read(&party.rooms[0], &last[0]).await;
        writer.keeps(&end).await;
    }
    for reader in &readers {
        reader.is_told(&last).await;
        reader.is_told_the_rest(&party, &last[0], &end).await;
    }
    let length = if time.is_zero() { 5 } else { 40 };
    let length = Duration::from_secs(length);
    polls_wait(&nodes, &readers, &bystander, length).await;
    check_events(&nodes, &party, &readers, (&first, &last)).await;
    // Those that have waited still hear.
    let later = say_everywhere(&party, "later").await;
    for reader in &readers {
        reader.is_told(&later).await;
        assert!(reader.still_follows());
        reader.check_to_device(&party);
    }
    check_waits(&nodes, &party, &readers);
}

/// The first of them says the same in each room; gives the events.
async fn say_everywhere(party: &Arc<Party>, what: &str) -> Vec<String> {
    let founder = Writer::new(party, 0);
    let mut events = Vec::new();
    for room in &party.rooms {
        events.push(founder.says(room, what).await);
    }
    events
}

/// Everybody does something until it is over.
fn work(party: &Arc<Party>, seed: u64, over: &watch::Sender<bool>) -> Vec<JoinHandle<()>> {
    let random = |who: usize| Random::new(seed.wrapping_add(1 + who as u64));
    let mut working = Vec::new();
    for who in 0..READERS {
        let writing = Writer::new(party, who).write(random(who), over.subscribe());
        working.push(tokio::spawn(writing));
    }
    let wanderer = Writer::new(party, READERS);
    let wandering = wanderer.wander(random(READERS), over.subscribe());
    working.push(tokio::spawn(wandering));
    working
}

/// Nothing happens, so polls must not end: not by each process in turn finding news in what others have told. That
/// lasts as long as a poll of somebody whom nothing concerns waits at one of the processes.
async fn polls_wait(nodes: &Nodes, readers: &[Reader], bystander: &Client, length: Duration) {
    let bystander = bystander.at(nodes.first());
    let first = bystander.sync(None, Duration::ZERO).await.unwrap();
    let cpu = nodes.cpu_seconds();
    let before: Vec<_> = readers.iter().map(Reader::answers).collect();
    bystander
        .sync(first["next_batch"].as_str(), length)
        .await
        .unwrap();
    let cpu = nodes.cpu_seconds() - cpu;
    let mut counts = Vec::new();
    for (reader, before) in readers.iter().zip(before) {
        let after = reader.answers();
        let empty = after.empty - before.empty;
        let late = after.all - before.all - empty;
        counts.push((empty, late));
    }
    println!(
        "in {length:?} in which nothing happened: {cpu:.2} s of CPU, polls that ended with nothing, \
         and with something: {counts:?}"
    );
    for (empty, late) in counts {
        assert!(empty <= EMPTY, "{empty} polls ended with nothing");
        assert!(late <= LATE, "{late} polls ended while nothing happened");
    }
}

/// The history is the same everywhere, has what was acknowledged, each once, and is what everybody was told in one order,
/// from the first to the last.
async fn check_events(
    nodes: &Nodes,
    party: &Party,
    readers: &[Reader],
    (first, last): (&[String], &[String]),
) {
    let founders = nodes.each(&party.people[0].client);
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut texts = HashSet::new();
    for (number, room) in party.rooms.iter().enumerate() {
        let between = |events: Vec<String>| {
            let at = |id: &String| events.iter().position(|event| event == id);
            let (first, last) = (at(&first[number]), at(&last[number]));
            events[first.expect("the first")..=last.expect("the last")].to_vec()
        };
        let mut histories = Vec::new();
        for founder in &founders {
            let history = founder.history(room).await;
            if histories.is_empty() {
                let said = history
                    .iter()
                    .filter(|event| event["type"] == "m.room.message");
                for event in said {
                    let text = event["content"]["body"].as_str().unwrap().to_owned();
                    let is_new = texts.insert((room, text));
                    assert!(is_new, "it is there twice: {event}");
                }
                for event in &history {
                    let id = event["event_id"].as_str().unwrap();
                    *times.entry(id.to_owned()).or_default() += 1;
                }
            }
            let ids = history.iter().map(|event| event["event_id"].as_str());
            histories.push(ids.map(|id| id.unwrap().to_owned()).collect::<Vec<_>>());
        }
        for history in &histories {
            assert_eq!(
                *history, histories[0],
                "the processes show different orders"
            );
        }
        // The history goes by depth: of what two processes wrote at once, the one that was told first may come later there.
        let history: HashSet<String> = between(histories.swap_remove(0)).into_iter().collect();
        let told = between(readers[0].events(room));
        assert_eq!(told.len(), history.len());
        let lost: Vec<_> = told.iter().filter(|id| !history.contains(*id)).collect();
        assert_eq!(lost, Vec::<&String>::new(), "the history lacks them");
        for (number, reader) in readers.iter().enumerate() {
            let events = between(reader.events(room));
            let differs = (0..told.len()).find(|at| events.get(*at) != told.get(*at));
            assert_eq!(
                (differs, events.len()),
                (None, told.len()),
                "{number} was told something else"
            );
        }
        let state = founders[0].state(room).await;
        for founder in &founders[1..] {
            assert_eq!(founder.state(room).await, state);
        }
    }
    let acknowledged = party.notes.acknowledged();
    println!("{} events were acknowledged", acknowledged.len());
    assert!(acknowledged.len() > READERS * 2, "that is no load");
    for event in acknowledged.keys() {
        let times = times.get(event).copied().unwrap_or_default();
        assert_eq!(times, 1, "{event} was acknowledged");
    }
}

/// How long anybody waited, for an answer or for what somebody else was told is done.
fn check_waits(nodes: &Nodes, party: &Party, readers: &[Reader]) {
    let acknowledged = party.notes.acknowledged();
    let mut longest = party.notes.longest();
    let came = readers.iter().map(|reader| reader.longest(&acknowledged));
    longest.insert("what others wrote", came.max().unwrap_or_default());
    println!(
        "the longest waits: {longest:.1?}; the balancer asked another process {} times, people asked \
         again {} times",
        nodes.balancer.asked_another(),
        party.notes.again()
    );
    if let Some(most) = given("RHIZOME_BALANCED_LONGEST") {
        for (kind, time) in longest {
            assert!(time <= Duration::from_secs(most), "{kind}: {time:?}");
        }
    }
}
