//! Two servers that federate.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::follow::Form;

use super::seen::{across, messages, outcome, poll_from};
use crate::{
    drive::{Samples, each},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person, Room, encode, message, messages_in, next_batch},
    plan::Plan,
    stats::{Latencies, count},
    world::World,
};

/// One message at a time from the first server to a listener on the second.
pub async fn seen(world: &mut World) -> anyhow::Result<Outcome> {
    let (plan, probe, one, two) = world.both()?;
    let here = one.accounts(plan, 1).await?;
    let there = two.accounts(plan, 1).await?;
    let (Some(sender), Some(listener)) = (here.first(), there.first()) else {
        anyhow::bail!("nobody to talk");
    };
    let room = across(plan, &here, listener, "far").await?;
    let (samples, usage) = messages(plan, probe, sender, (&there, Form::Poll), &room).await?;
    let mut outcome = outcome(samples, &usage, 1, "4/-/8");
    outcome.what += "; CPU of both servers";
    Ok(outcome)
}

/// Many messages at once, until a listener on the second server has seen them all.
pub async fn burst(world: &mut World) -> anyhow::Result<Outcome> {
    let (plan, probe, one, two) = world.both()?;
    let here = one.accounts(plan, plan.senders).await?;
    let there = two.accounts(plan, 1).await?;
    let Some(listener) = there.first() else {
        anyhow::bail!("nobody to listen");
    };
    let room = across(plan, &here, listener, "burst").await?;
    let mut listener = Person::new(listener)?;
    let (size, bursts) = plan.burst;
    let mut samples = Samples::default();
    let (mut rates, mut seen) = (Vec::new(), 0);
    let mut before = probe.read()?;
    let begun = Instant::now();
    for number in 0..=bursts {
        if number == 1 {
            // The first was the warm-up.
            (rates, seen, samples) = (Vec::new(), 0, Samples::default());
            before = probe.read()?;
        } else if number > 1 && begun.elapsed() > plan.limit {
            break;
        }
        let first = (number * size) as u64;
        let one = one_burst(plan, &here, &mut listener, &room, first, &mut samples).await?;
        seen += one.seen;
        rates.push(count(one.seen) / one.took.as_secs_f64());
    }
    let usage = probe.since(before)?;
    rates.sort_by(f64::total_cmp);
    let median = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
    let bursts = rates.len();
    for _ in seen..size * bursts {
        samples.fail(&Failure::of("a message was not seen in time"));
    }
    let what = format!(
        "{bursts} bursts of {size} by {} senders, {seen} seen; CPU of both servers",
        here.len()
    );
    let outcome = Outcome::new(&samples, &usage, what);
    Ok(outcome
        .figure(
            "messages/s until seen (median)",
            vec![median],
            Better::Higher,
        )
        .aim("1,500")
        .cost(&usage, seen, "per message"))
}

struct Burst {
    seen: usize,
    took: Duration,
}

async fn one_burst(
    plan: &Plan,
    here: &[Account],
    listener: &mut Person,
    room: &Room,
    first: u64,
    samples: &mut Samples,
) -> anyhow::Result<Burst> {
    let size = plan.burst.0;
    let mut since = listener.now().await?;
    // Connections are open before it begins.
    let mut senders: Vec<Person> = here.iter().map(Person::new).collect::<Result<_, _>>()?;
    for sender in &mut senders {
        let path = "/_matrix/client/versions";
        sender
            .connection
            .call(http::Method::GET, path, None)
            .await?;
    }
    let share = size.div_ceil(senders.len().max(1));
    let start = Instant::now();
    let send = each(
        senders.into_iter().enumerate(),
        here.len(),
        plan.limit,
        async |(index, mut sender)| {
            for number in (index * share..size).take(share) {
                sender.say(room, &message(first + number as u64)).await?;
            }
            Ok(())
        },
    );
    let filter = encode(&format!(
        r#"{{"room":{{"timeline":{{"limit":{}}}}}}}"#,
        size * 2
    ));
    let mut seen = 0;
    let mut last = start;
    let listen = async {
        while seen < size {
            let query = poll_from(&since, &format!("&filter={filter}"));
            let answer = listener.sync(&query).await?;
            let new = messages_in(&answer).filter(|n| *n >= first).count();
            if new > 0 {
                last = Instant::now();
            }
            seen += new;
            since = next_batch(&answer)?;
        }
        Ok::<_, Failure>(())
    };
    let (sent, heard) = tokio::join!(send, timeout(plan.limit / 2, listen));
    samples.latencies.extend(sent.samples.latencies);
    if let Some(error) = sent.samples.first_error {
        samples.fail(&Failure::of(error));
    }
    if let Ok(Err(failure)) = heard {
        samples.fail(&failure);
    }
    Ok(Burst {
        seen,
        took: (last - start).max(Duration::from_micros(1)),
    })
}

/// Joins of rooms that the second server isn't in yet.
pub async fn join(world: &mut World) -> anyhow::Result<Outcome> {
    let (plan, probe, one, two) = world.both()?;
    let (members, rooms) = plan.remote_join;
    let there = two.accounts(plan, 1).await?;
    let Some(guest) = there.first() else {
        anyhow::bail!("nobody to join");
    };
    let mut joined = Vec::new();
    for number in 0..=rooms {
        joined.push(one.room(plan, &format!("far {number}"), members).await?);
    }
    let here = one.accounts(plan, 1).await?;
    let via = here.first().map(Account::server_name);
    let mut guest = Person::new(guest)?;
    let mut samples = Samples::default();
    let mut before = probe.read()?;
    for (number, room) in joined.iter().enumerate() {
        if number == 1 {
            // The first was the warm-up.
            samples = Samples::default();
            before = probe.read()?;
        }
        let start = Instant::now();
        let result = guest.join(room, via).await;
        samples.add(start.elapsed(), result);
    }
    let usage = probe.since(before)?;
    let what = format!("one at a time, {rooms} rooms of {members} members; CPU of both servers");
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome
        .latency("answer", &latencies)
        .aim("30")
        .cost(&usage, latencies.count(), "per join"))
}
