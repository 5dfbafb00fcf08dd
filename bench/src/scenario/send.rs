//! Sending, without anybody who listens.

use std::time::Instant;

use crate::{
    drive::{Samples, Series, Span, closed, paced},
    outcome::{Better, Outcome},
    person::{Person, Room, message},
    probe::Usage,
    stats::{Latencies, count},
    world::World,
};

/// All senders in one room.
pub async fn hot(world: &mut World) -> anyhow::Result<Outcome> {
    let room = world.hot().await?;
    let people = world.one.people(&world.plan, world.plan.senders).await?;
    let senders = people.into_iter().map(|person| (person, room.clone()));
    let outcome = throughput(world, senders.collect(), "3,000").await?;
    Ok(outcome)
}

/// Each sender in a room of their own.
pub async fn many(world: &mut World) -> anyhow::Result<Outcome> {
    let people = world.one.people(&world.plan, world.plan.senders).await?;
    let mut senders = Vec::new();
    for mut person in people {
        let room = person.create_room("one of many").await?;
        senders.push((person, room));
    }
    throughput(world, senders, "4,000").await
}

async fn throughput(
    world: &World,
    mut senders: Vec<(Person, Room)>,
    aim: &str,
) -> anyhow::Result<Outcome> {
    let span = Span {
        warm: world.plan.warm,
        measured: world.plan.measured,
    };
    let (samples, usage) = closed(&mut senders, span, &world.probe, async |(person, room)| {
        person.say(room, &message(0)).await
    })
    .await?;
    let what = format!("closed loop, {} senders", senders.len());
    Ok(rate(samples, &usage, &what, aim))
}

fn rate(samples: Samples, usage: &Usage, what: &str, aim: &str) -> Outcome {
    let outcome = Outcome::new(&samples, usage, what);
    let sent = samples.latencies.len();
    let per_second = count(sent) / usage.wall.as_secs_f64();
    let latencies = Latencies::new(samples.latencies);
    outcome
        .figure("messages/s", vec![per_second], Better::Higher)
        .aim(aim)
        .latency("answer", &latencies)
        .cost(usage, sent, "per message")
}

/// One at a time into the large room.
pub async fn crowd(world: &mut World) -> anyhow::Result<Outcome> {
    let room = world.crowd().await?;
    let mut people = world.one.people(&world.plan, 2).await?;
    let Some(sender) = people.last_mut() else {
        anyhow::bail!("nobody to send");
    };
    let series = Series {
        count: world.plan.latencies,
        limit: world.plan.limit,
        every: world.plan.every,
    };
    let (samples, usage) = paced(series, 10, &world.probe, async |_| {
        let start = Instant::now();
        sender.say(&room, &message(0)).await?;
        Ok(start.elapsed())
    })
    .await?;
    let what = format!(
        "one at a time, every {} ms, {} members",
        world.plan.every.as_millis(),
        world.plan.crowd
    );
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome.latency("answer", &latencies).aim("3").cost(
        &usage,
        latencies.count(),
        "per message",
    ))
}
