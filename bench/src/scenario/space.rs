//! What a space holds.

use std::time::{Duration, Instant};

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::{
    drive::{Series, each, paced},
    http::Failure,
    outcome::Outcome,
    person::{Account, Person, encode},
    stats::Latencies,
    world::{WIDTH, World},
};

#[derive(Deserialize)]
struct Made {
    room_id: String,
}

#[derive(Deserialize)]
struct Page {
    rooms: Vec<serde::de::IgnoredAny>,
}

async fn create(person: &mut Person, room_type: Option<&str>) -> Result<String, Failure> {
    let body = json!({ "preset": "public_chat", "name": "one of many", "topic": "What it is about",
        "creation_content": room_type.map_or_else(|| json!({}), |kind| json!({ "type": kind })) });
    let path = "/_matrix/client/v3/createRoom";
    let connection = &mut person.connection;
    let answer = connection
        .call(Method::POST, path, Some(body.to_string()))
        .await?;
    let made: Made = serde_json::from_slice(&answer).map_err(Failure::of)?;
    Ok(made.room_id)
}

/// A space of so many rooms, all of one account.
async fn made(world: &World, founder: &Account, count: usize) -> anyhow::Result<String> {
    let space = create(&mut Person::new(founder)?, Some("m.space")).await?;
    let via = json!({ "via": [founder.server_name()] }).to_string();
    let (space_id, via) = (&space, &via);
    each(0..count, WIDTH, world.plan.setup_limit, async |_| {
        let mut person = Person::new(founder)?;
        let room = create(&mut person, None).await?;
        let (space, room) = (encode(space_id), encode(&room));
        let path = format!("/_matrix/client/v3/rooms/{space}/state/m.space.child/{room}");
        let connection = &mut person.connection;
        connection
            .call(Method::PUT, &path, Some(via.clone()))
            .await?;
        Ok(())
    })
    .await
    .all(count, "filling a space")?;
    Ok(space)
}

/// All of a space in one page, asked for by somebody who is in none of its rooms.
pub async fn hierarchy(world: &mut World) -> anyhow::Result<Outcome> {
    let accounts = world.one.register(&world.plan, 2, 2).await;
    let accounts = accounts.all(2, "registering")?;
    let [founder, reader] = accounts.as_slice() else {
        anyhow::bail!("registering made too few");
    };
    let count = world.plan.space;
    let space = made(world, founder, count).await?;
    let path = format!(
        "/_matrix/client/v1/rooms/{}/hierarchy?limit={}",
        encode(&space),
        count + 1
    );
    let mut reader = Person::new(reader)?;
    let series = Series {
        count: world.plan.latencies,
        limit: world.plan.limit,
        every: Duration::ZERO,
    };
    let mut size = 0;
    let (samples, usage) = paced(series, 2, &world.probe, async |_| {
        let start = Instant::now();
        let answer = reader.connection.call(Method::GET, &path, None).await?;
        let took = start.elapsed();
        let page: Page = serde_json::from_slice(&answer).map_err(Failure::of)?;
        size = answer.len();
        if page.rooms.len() < count.min(WHOLE) {
            return Err(Failure::of(format!("{} rooms", page.rooms.len())));
        }
        Ok(took)
    })
    .await?;
    let what = format!("one page of {count} rooms at a time, {} KiB", size / 1024);
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome
        .latency("page", &latencies)
        .aim("10")
        .cost(&usage, latencies.count(), "per page"))
}

/// More rooms than a page of some servers has.
const WHOLE: usize = 50;
