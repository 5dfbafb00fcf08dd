//! Searching for words in very many messages.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::{
    drive::{Series, each, paced},
    http::Failure,
    outcome::Outcome,
    person::{Account, Person, Room},
    stats::Latencies,
    world::World,
};

/// Rooms in which they are.
const ROOMS: usize = 10;
/// Words that people use, the first ones far more often than the last.
const VOCABULARY: u64 = 20_000;
/// Words of a message.
const LENGTH: usize = 10;
/// No filling takes longer.
const PATIENCE: Duration = Duration::from_hours(1);

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A word: half of all are among the 140 most used ones, as in what people write.
    fn word(&mut self) -> String {
        let bits = 64 - VOCABULARY.leading_zeros();
        let range = 1 << (self.next() % u64::from(bits) + 1);
        let number = self.next() % range.min(VOCABULARY);
        let vowels = ["a", "e", "i", "o", "u", "ai", "ou", "ee"];
        let consonants = [
            "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z",
        ];
        let mut word = String::new();
        let mut left = number + 15;
        while left > 0 {
            word.push_str(pick(&consonants, left));
            left /= 14;
            word.push_str(pick(&vowels, left));
            left /= 8;
        }
        word
    }

    fn text(&mut self) -> String {
        let words: Vec<String> = (0..LENGTH).map(|_| self.word()).collect();
        words.join(" ")
    }
}

fn pick<'a>(list: &[&'a str], number: u64) -> &'a str {
    let at = usize::try_from(number).unwrap_or_default() % list.len();
    list.get(at).copied().unwrap_or_default()
}

/// The newest results for a word or two, in all rooms of somebody.
pub async fn search(world: &mut World) -> anyhow::Result<Outcome> {
    let senders = world.plan.senders;
    let accounts = world.one.accounts(&world.plan, senders + 1).await?;
    let Some((reader, writers)) = accounts.split_first() else {
        anyhow::bail!("nobody to search");
    };
    let mut person = Person::new(reader)?;
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        rooms.push(person.create_room(&format!("searched {n}")).await?);
    }
    fill(writers, &rooms, world.plan.searched).await?;

    let mut random = Random(4711);
    let series = Series {
        count: world.plan.latencies,
        limit: world.plan.limit,
        every: world.plan.every,
    };
    let mut results = 0;
    let (samples, usage) = paced(series, 10, &world.probe, async |n| {
        let mut term = random.word();
        if n % 2 == 1 {
            term = format!("{term} {}", random.word());
        }
        let start = Instant::now();
        results += ask(&mut person, &term).await?;
        Ok(start.elapsed())
    })
    .await?;
    let what = format!(
        "one or two words, the newest ten of {} messages in {ROOMS} rooms; {results} results",
        world.plan.searched
    );
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome.latency("answer", &latencies).aim("5/-/25").cost(
        &usage,
        latencies.count(),
        "per search",
    ))
}

/// Everybody writes their share, all at the same time.
async fn fill(writers: &[Account], rooms: &[Room], messages: usize) -> anyhow::Result<()> {
    let share = messages / writers.len().max(1);
    let done = each(
        writers.iter().enumerate(),
        writers.len(),
        PATIENCE,
        async |(n, writer)| {
            let mut person = Person::new(writer)?;
            for room in rooms {
                person.join(room, None).await?;
            }
            let mut random = Random(u64::try_from(n).unwrap_or_default() * 7919 + 1);
            for n in 0..share {
                if let Some(room) = rooms.get(n % rooms.len().max(1)) {
                    person.say(room, &random.text()).await?;
                }
            }
            Ok(())
        },
    );
    done.await.all(writers.len(), "writing")?;
    Ok(())
}

async fn ask(person: &mut Person, term: &str) -> Result<usize, Failure> {
    let criteria = json!({"search_term": term, "order_by": "recent", "keys": ["content.body"]});
    let body = json!({"search_categories": {"room_events": criteria}}).to_string();
    let path = "/_matrix/client/v3/search";
    let answer = person
        .connection
        .call(Method::POST, path, Some(body))
        .await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(Failure::of)?;
    let results = &answer["search_categories"]["room_events"]["results"];
    Ok(results.as_array().map_or(0, Vec::len))
}
