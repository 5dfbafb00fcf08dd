//! Registering, and joining one room.

use std::time::Instant;

use crate::{
    drive::{Samples, each},
    outcome::{Better, Outcome},
    person::Person,
    probe::Usage,
    stats::{Latencies, count, slope},
    world::{WIDTH, World, found},
};

/// New accounts, 4 at a time.
pub async fn register(world: &mut World) -> anyhow::Result<Outcome> {
    const AT_A_TIME: usize = 4;
    let before = world.probe.read()?;
    let done = world
        .one
        .register(&world.plan, world.plan.registrations, AT_A_TIME)
        .await;
    let usage = world.probe.since(before)?;
    let what = format!("{AT_A_TIME} at a time");
    Ok(outcome(
        done.samples,
        &usage,
        what,
        "registrations/s",
        "registration",
    ))
}

fn outcome(samples: Samples, usage: &Usage, what: String, rate: &str, each: &str) -> Outcome {
    let outcome = Outcome::new(&samples, usage, what);
    let done = samples.latencies.len();
    let per_second = count(done) / usage.wall.as_secs_f64();
    outcome
        .figure(rate, vec![per_second], Better::Higher)
        .latency("answer", &Latencies::new(samples.latencies))
        .cost(usage, done, &format!("per {each}"))
}

/// Everybody joins one room.
pub async fn join(world: &mut World) -> anyhow::Result<Outcome> {
    let accounts = world.one.accounts(&world.plan, world.plan.crowd).await?;
    let (room, others) = found(&accounts, "crowd").await?;
    let before = world.probe.read()?;
    let start = Instant::now();
    let done = each(others, WIDTH, world.plan.limit, async |account| {
        Person::new(account)?.join(&room, None).await
    })
    .await;
    let usage = world.probe.since(before)?;
    let complete = done.results.len() == others.len();
    let ends: Vec<Instant> = done.results.iter().map(|((), end)| *end).collect();
    let milliseconds: Vec<f64> = done
        .samples
        .latencies
        .iter()
        .map(|took| took.as_secs_f64() * 1000.0)
        .collect();
    let what = format!(
        "closed loop, {WIDTH} at a time, up to {} members",
        ends.len() + 1
    );
    let mut outcome = outcome(done.samples, &usage, what, "joins/s", "join").figure(
        "slope: µs more per 100 members",
        vec![slope(&milliseconds) * 100_000.0],
        Better::Neither,
    );
    if let Some(rate) = outcome.figures.first_mut() {
        rate.aim = Some("800".to_owned());
    }
    if let Some(ratio) = last_to_first(start, &ends) {
        outcome = outcome
            .figure(
                "rate of the last quarter to that of the first",
                vec![ratio],
                Better::Neither,
            )
            .aim("1");
    }
    if complete {
        world.set_crowd(room);
    }
    Ok(outcome)
}

/// How the rate of the last quarter compares with that of the first.
fn last_to_first(start: Instant, ends: &[Instant]) -> Option<f64> {
    let quarter = ends.len() / 4;
    let first = *ends.get(quarter.checked_sub(1)?)? - start;
    let last = *ends.last()? - *ends.get(ends.len() - 1 - quarter)?;
    Some(first.as_secs_f64() / last.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn quarters_are_compared() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let even: Vec<_> = (1..=8).map(|n| at(n * 10)).collect();
        assert!((last_to_first(start, &even).unwrap() - 1.0).abs() < 1e-9);
        let slower = [10, 20, 30, 40, 50, 60, 80, 100].map(at);
        assert!((last_to_first(start, &slower).unwrap() - 0.5).abs() < 1e-9);
        assert!(last_to_first(start, &even[..3]).is_none());
    }
}
