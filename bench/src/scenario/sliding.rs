//! Sliding sync of accounts in few and in many rooms, one request at a time.

use std::time::{Duration, Instant};

use crate::{
    drive::{Series, each, paced},
    follow::{position, slide},
    http::Failure,
    outcome::Outcome,
    person::{Account, Person, Room, message, messages_in},
    stats::Latencies,
    world::{WIDTH, World},
};

/// A new account, in as many rooms.
async fn account(world: &mut World, rooms: usize) -> anyhow::Result<(Account, Vec<Room>)> {
    let made = world.one.register(&world.plan, 1, 1).await;
    let made = made.all(1, "registering")?;
    let [account] = made.as_slice() else {
        anyhow::bail!("registering made too few");
    };
    let done = each(0..rooms, WIDTH, world.plan.setup_limit, async |number| {
        let mut person = Person::new(account)?;
        person.create_room(&format!("room {number}")).await
    })
    .await;
    Ok((account.clone(), done.all(rooms, "creating rooms")?))
}

/// The first answer, of twenty rooms, for somebody in `plan.sliding_rooms[size]` rooms. Each time as a new
/// connection: without a position.
pub async fn first(world: &mut World, size: usize) -> anyhow::Result<Outcome> {
    let rooms = world.plan.sliding_rooms.get(size).copied().unwrap_or(1);
    let (account, _) = account(world, rooms).await?;
    let mut reader = Person::new(&account)?;
    let series = Series {
        count: 10 * world.plan.initial_syncs,
        limit: world.plan.limit,
        every: Duration::ZERO,
    };
    let mut size = 0;
    let (samples, usage) = paced(series, 2, &world.probe, async |_| {
        let start = Instant::now();
        let answer = slide(&mut reader, 0, None, Duration::ZERO).await?;
        size = answer.len();
        Ok(start.elapsed())
    })
    .await?;
    let what = format!("one at a time, {rooms} rooms, {} KiB", size / 1024);
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome.latency("answer", &latencies).aim("-/-/20").cost(
        &usage,
        latencies.count(),
        "per sync",
    ))
}

/// With a position, and with or without a new message, in another of the newest rooms each time. The sending isn't
/// in the times, but in the CPU.
pub async fn next(world: &mut World, news: bool) -> anyhow::Result<Outcome> {
    let (account, rooms) = account(world, world.plan.rooms).await?;
    let mut reader = Person::new(&account)?;
    let mut writer = Person::new(&account)?;
    let answer = slide(&mut reader, 0, None, Duration::ZERO).await?;
    let mut at = position(&answer)?;
    let series = Series {
        count: if news { 1 } else { 10 } * world.plan.latencies,
        limit: world.plan.limit,
        every: if news {
            world.plan.every
        } else {
            Duration::ZERO
        },
    };
    let (samples, usage) = paced(series, 20, &world.probe, async |number| {
        if news {
            let Some(room) = rooms.get(number * 7 % rooms.len().max(1)) else {
                return Err(Failure::of("there are no rooms"));
            };
            writer.say(room, &message(number as u64)).await?;
        }
        let start = Instant::now();
        let answer = slide(&mut reader, 0, Some(&at), Duration::ZERO).await?;
        let took = start.elapsed();
        at = position(&answer)?;
        if news && !messages_in(&answer).any(|found| found == number as u64) {
            return Err(Failure::of("the message sent before was not in the answer"));
        }
        Ok(took)
    })
    .await?;
    let with = if news { "; CPU with the sending" } else { "" };
    let what = format!("one at a time, {} rooms{with}", rooms.len());
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome
        .latency("answer", &latencies)
        .cost(&usage, latencies.count(), "per sync"))
}
