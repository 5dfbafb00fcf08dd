//! Paging back through a room.

use std::time::Instant;

use serde::Deserialize;

use crate::{
    drive::{Samples, each},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Person, encode, message},
    stats::{Latencies, count},
    world::World,
};

const PAGE: usize = 100;

#[derive(Deserialize)]
struct Page {
    end: Option<String>,
    #[serde(default)]
    chunk: Vec<serde::de::IgnoredAny>,
}

/// The hot room, from its end to its beginning, again and again until enough events were read.
pub async fn backwards(world: &mut World) -> anyhow::Result<Outcome> {
    let room = world.hot().await?;
    let accounts = world.one.accounts(&world.plan, world.plan.senders).await?;
    let Some(account) = accounts.first() else {
        anyhow::bail!("nobody to read");
    };
    // More than a few pages, whatever ran before.
    let share = world.plan.history.min(2000) / accounts.len();
    let width = world.plan.senders;
    each(&accounts, width, world.plan.limit, async |account| {
        let mut person = Person::new(account)?;
        for _ in 0..share {
            person.say(&room, &message(0)).await?;
        }
        Ok(())
    })
    .await;

    let mut person = Person::new(account)?;
    let mut samples = Samples::default();
    let (mut events, mut from) = (0, String::new());
    let mut before = None;
    let start = Instant::now();
    while events < world.plan.history && start.elapsed() < world.plan.limit {
        let path = room.path(&format!("messages?dir=b&limit={PAGE}{from}"));
        let begun = Instant::now();
        let answer = person.connection.call(http::Method::GET, &path, None).await;
        let took = begun.elapsed();
        let page =
            answer.and_then(|body| serde_json::from_slice::<Page>(&body).map_err(Failure::of));
        // The first page is the warm-up.
        match (&before, page) {
            (_, Err(failure)) => {
                samples.fail(&failure);
                break;
            }
            (None, Ok(_)) => before = Some(world.probe.read()?),
            (Some(_), Ok(page)) => {
                samples.latencies.push(took);
                events += page.chunk.len();
                let end = page.end.filter(|_| !page.chunk.is_empty());
                from = end.map_or(String::new(), |end| format!("&from={}", encode(&end)));
            }
        }
    }
    let usage = match before {
        Some(before) => world.probe.since(before)?,
        None => anyhow::bail!("no page could be read: {:?}", samples.first_error),
    };
    let what = format!("one page of {PAGE} at a time, {events} events");
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    let per_second = count(events) / latencies.total().as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(outcome
        .figure("events/s", vec![per_second], Better::Higher)
        .aim("100,000")
        .latency("page", &latencies)
        .cost(&usage, latencies.count(), "per page"))
}
