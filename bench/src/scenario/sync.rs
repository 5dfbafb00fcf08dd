//! `/sync` of an account in many rooms, one at a time.

use std::time::{Duration, Instant};

use crate::{
    drive::{Samples, Series, paced},
    http::Failure,
    outcome::Outcome,
    person::{Person, encode, message, messages_in, next_batch},
    probe::Usage,
    stats::Latencies,
    world::World,
};

fn outcome(world: &World, samples: Samples, usage: &Usage, aim: &str) -> Outcome {
    let what = format!("one at a time, {} rooms", world.plan.rooms);
    let outcome = Outcome::new(&samples, usage, what);
    let latencies = Latencies::new(samples.latencies);
    outcome
        .latency("answer", &latencies)
        .aim(aim)
        .cost(usage, latencies.count(), "per sync")
}

fn series(world: &World, count: usize, every: Duration) -> Series {
    Series {
        count,
        limit: world.plan.limit,
        every,
    }
}

/// Without a token. Each with another filter of the same effect: some servers give a repeated question
/// the answer they still have.
pub async fn initial(world: &mut World) -> anyhow::Result<Outcome> {
    let many = world.many().await?;
    let mut reader = Person::new(&many.reader)?;
    let series = series(world, world.plan.initial_syncs, Duration::ZERO);
    let mut size = 0;
    let (samples, usage) = paced(series, 2, &world.probe, async |number| {
        let filter = format!(r#"{{"presence":{{"not_senders":["@nobody{number}:nowhere"]}}}}"#);
        let query = format!("timeout=0&filter={}", encode(&filter));
        let start = Instant::now();
        let answer = reader.sync(&query).await?;
        let took = start.elapsed();
        size = answer.len();
        Ok(took)
    })
    .await?;
    let mut outcome = outcome(world, samples, &usage, "50");
    outcome.what = format!("{}, {} KiB", outcome.what, size / 1024);
    Ok(outcome)
}

/// With a token, nothing new.
pub async fn empty(world: &mut World) -> anyhow::Result<Outcome> {
    let many = world.many().await?;
    let mut reader = Person::new(&many.reader)?;
    let mut since = reader.now().await?;
    let series = series(world, 10 * world.plan.latencies, Duration::ZERO);
    let (samples, usage) = paced(series, 20, &world.probe, async |_| {
        let query = format!("timeout=0&since={}", encode(&since));
        let start = Instant::now();
        let answer = reader.sync(&query).await?;
        let took = start.elapsed();
        since = next_batch(&answer)?;
        Ok(took)
    })
    .await?;
    Ok(outcome(world, samples, &usage, "0.4"))
}

/// With a token, one message new, in another room each time. The sending isn't in the times, but in the
/// CPU.
pub async fn one(world: &mut World) -> anyhow::Result<Outcome> {
    let many = world.many().await?;
    let mut reader = Person::new(&many.reader)?;
    let mut writer = Person::new(&many.writer)?;
    // A client that has the token has had all rooms: what the server knows of them by then is no work later.
    let mut since = next_batch(&reader.sync("timeout=0").await?)?;
    let series = series(world, world.plan.latencies, Duration::ZERO);
    let (samples, usage) = paced(series, 10, &world.probe, async |number| {
        let Some(room) = many.rooms.get(number * 7 % many.rooms.len().max(1)) else {
            return Err(Failure::of("there are no rooms"));
        };
        let text = message(number as u64);
        writer.say(room, &text).await?;
        let query = format!("timeout=0&since={}", encode(&since));
        let start = Instant::now();
        let answer = reader.sync(&query).await?;
        let took = start.elapsed();
        since = next_batch(&answer)?;
        if messages_in(&answer).any(|found| found == number as u64) {
            Ok(took)
        } else {
            Err(Failure::of("the message sent before was not in the answer"))
        }
    })
    .await?;
    let mut outcome = outcome(world, samples, &usage, "1");
    outcome.what += "; CPU with the sending";
    Ok(outcome)
}
