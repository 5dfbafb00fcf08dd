//! Threads of a large room: their list, and what is in one, page by page.

use std::time::{Duration, Instant};

use http::Method;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    drive::{Series, each, paced},
    http::Failure,
    outcome::Outcome,
    person::{Person, encode, message},
    stats::Latencies,
    world::{Threaded, World},
};

/// How many send side by side while the room is filled.
const WIDTH: usize = 64;
/// Threads on a page of the list, as clients ask for them.
const THREADS: usize = 20;
/// Events on a page of a thread.
const EVENTS: usize = 50;

#[derive(Deserialize)]
struct Page {
    next_batch: Option<String>,
    chunk: Vec<IgnoredAny>,
}

/// The room of `plan.threaded`, made when it is first needed.
async fn room(world: &mut World) -> anyhow::Result<Threaded> {
    if let Some(known) = &world.threaded {
        return Ok(known.clone());
    }
    let (events, threads) = world.plan.threaded;
    let accounts = world.one.accounts(&world.plan, world.plan.senders).await?;
    let name = "threads";
    let room = world.one.room(&world.plan, name, accounts.len()).await?;
    let limit = world.plan.setup_limit;
    let by = |number: usize| Person::new(&accounts[number % accounts.len()]);
    let done = each(0..threads, WIDTH, limit, async |number| {
        let body = message(number as u64);
        by(number)?.relate(&room, &body, None).await
    })
    .await;
    let roots = done.all(threads, "starting threads")?;
    let replies = events.saturating_sub(threads);
    let done = each(0..replies, WIDTH, limit, async |number| {
        let root = &roots[number % roots.len()];
        let body = message(number as u64);
        // Not everybody is in every thread.
        let who = number / roots.len() + number;
        by(who)?.relate(&room, &body, Some(root)).await
    })
    .await;
    done.all(replies, "filling threads")?;
    let threaded = Threaded {
        reader: accounts[0].clone(),
        room,
        roots,
    };
    world.threaded = Some(threaded.clone());
    Ok(threaded)
}

/// Pages of what `path` names, one after the other; from its beginning, by another number, when it is over.
async fn pages(
    world: &mut World,
    of: &Threaded,
    what: String,
    path: impl Fn(usize) -> String,
) -> anyhow::Result<Outcome> {
    let mut reader = Person::new(&of.reader)?;
    let series = Series {
        count: 5 * world.plan.latencies,
        limit: world.plan.limit,
        every: Duration::ZERO,
    };
    let (mut from, mut round) = (String::new(), 0);
    let (samples, usage) = paced(series, 20, &world.probe, async |_| {
        let path = format!("{}{from}", path(round));
        let start = Instant::now();
        let answer = reader.connection.call(Method::GET, &path, None).await?;
        let took = start.elapsed();
        let page: Page = serde_json::from_slice(&answer).map_err(Failure::of)?;
        if page.chunk.is_empty() {
            return Err(Failure::of("a page was empty"));
        }
        from = page
            .next_batch
            .map_or_else(String::new, |next| format!("&from={}", encode(&next)));
        if from.is_empty() {
            round += 1;
        }
        Ok(took)
    })
    .await?;
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome
        .latency("page", &latencies)
        .aim("3/-/-")
        .cost(&usage, latencies.count(), "per page"))
}

/// The list of the room's threads.
pub async fn threads(world: &mut World) -> anyhow::Result<Outcome> {
    let of = room(world).await?;
    let (events, threads) = world.plan.threaded;
    let what = format!("pages of {THREADS} of {threads} threads, {events} events");
    let path = of.room.path_of("v1", &format!("threads?limit={THREADS}"));
    pages(world, &of, what, |_| path.clone()).await
}

/// What is in one thread after another.
pub async fn relations(world: &mut World) -> anyhow::Result<Outcome> {
    let of = room(world).await?;
    let (events, threads) = world.plan.threaded;
    let what = format!("pages of {EVENTS} of one of {threads} threads, {events} events");
    let path = |round: usize| {
        let root = encode(&of.roots[round % of.roots.len()]);
        let rest = format!("relations/{root}/m.thread?limit={EVENTS}");
        of.room.path_of("v1", &rest)
    };
    pages(world, &of, what, path).await
}
