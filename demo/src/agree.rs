//! Whether people on several servers see the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::{Person, text};

/// How long it may take until all agree.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of history is asked for at a time.
pub(crate) const PAGE: u32 = 20;

/// What of an event must be the same everywhere.
fn core(event: &Value) -> Value {
    let mut core = serde_json::Map::new();
    for key in ["type", "sender", "state_key", "origin_server_ts", "content"] {
        if let Some(value) = event.get(key) {
            core.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(core)
}

async fn view(
    person: &Person,
    room: &str,
) -> anyhow::Result<(BTreeMap<String, Value>, BTreeMap<(String, String), String>)> {
    let history = person.history(room, PAGE, &mut 0).await?;
    let events = history
        .iter()
        .map(|event| Ok((text(event, "event_id")?, core(event))))
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    ensure!(
        events.len() == history.len(),
        "{} was shown an event twice",
        person.user_id
    );
    Ok((events, person.state(room).await?))
}

/// Waits until all see the same events and the same state; how many of each.
pub async fn agree<const N: usize>(
    people: [&Person; N],
    room: &str,
) -> anyhow::Result<(usize, usize)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let views = try_join_all(people.iter().map(|person| view(person, room))).await?;
        let Some((first, others)) = views.split_first() else {
            bail!("nobody to ask")
        };
        if others.iter().all(|other| other == first) {
            return Ok((first.0.len(), first.1.len()));
        }
        if Instant::now() > deadline {
            let mut text = String::from("the servers differ:");
            for (person, other) in people[1..].iter().zip(others) {
                text += &difference(&people[0].user_id, &first.0, &person.user_id, &other.0);
                text += &difference(&people[0].user_id, &first.1, &person.user_id, &other.1);
            }
            bail!(text);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One line for each key that two maps don't have in common.
fn difference<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    name_a: &str,
    a: &BTreeMap<K, V>,
    name_b: &str,
    b: &BTreeMap<K, V>,
) -> String {
    let keys: BTreeSet<&K> = a.keys().chain(b.keys()).collect();
    let mut text = String::new();
    for key in keys.into_iter().filter(|key| a.get(key) != b.get(key)) {
        let (one, other) = (a.get(key), b.get(key));
        let _ = write!(
            text,
            "\n  {key:?}: {name_a} sees {one:?}, {name_b} {other:?}"
        );
    }
    text
}
