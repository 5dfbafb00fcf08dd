//! Messages from device to device: sent, seen in `/sync`, and acknowledged by the next.

use std::time::{Duration, Instant};

use crate::{
    drive::{Samples, Series, Span, closed, paced},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person, messages_in, next_batch},
    probe::Usage,
    scenario::seen::{POLL, poll_from},
    stats::{Latencies, count},
    world::World,
};

/// Two people, of whom one writes to the other's device.
struct Pair {
    sender: Person,
    listener: Person,
    device: String,
    since: String,
    number: u64,
}

impl Pair {
    async fn new(sender: &Account, listener: &Account) -> Result<Self, Failure> {
        let mut listener = Person::new(listener)?;
        listener.connection.wait_longer(POLL);
        Ok(Self {
            sender: Person::new(sender)?,
            device: listener.device().await?,
            since: listener.now().await?,
            listener,
            number: 0,
        })
    }

    /// Sends a message and waits until it is seen. Gives how long that took.
    async fn exchange(&mut self) -> Result<Duration, Failure> {
        self.number += 1;
        let Self {
            sender,
            listener,
            device,
            since,
            number,
        } = self;
        let user = listener.account.id.clone();
        // The listener's poll, which acknowledges the message before, waits when the message is sent.
        let start = Instant::now();
        let seeing = async {
            loop {
                let answer = listener.sync(&poll_from(since, "")).await?;
                *since = next_batch(&answer)?;
                if messages_in(&answer).any(|seen| seen == *number) {
                    return Ok::<_, Failure>(start.elapsed());
                }
            }
        };
        let sending = sender.tell(&user, device, *number);
        let (seen, sent) = tokio::join!(seeing, sending);
        sent?;
        seen
    }
}

async fn pairs(world: &mut World, number: usize) -> anyhow::Result<Vec<Pair>> {
    let accounts = world.one.accounts(&world.plan, 2 * number).await?;
    let mut pairs = Vec::new();
    for two in accounts.chunks_exact(2) {
        pairs.push(Pair::new(&two[0], &two[1]).await?);
    }
    Ok(pairs)
}

/// One message at a time.
pub async fn one(world: &mut World) -> anyhow::Result<Outcome> {
    let mut pairs = pairs(world, 1).await?;
    let Some(pair) = pairs.first_mut() else {
        anyhow::bail!("nobody to send");
    };
    let series = Series {
        count: world.plan.latencies,
        limit: world.plan.limit,
        every: world.plan.every,
    };
    let (samples, usage) = paced(series, 10, &world.probe, async |_| pair.exchange().await).await?;
    let outcome = Outcome::new(&samples, &usage, "one message at a time");
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome
        .latency("sent to seen", &latencies)
        .aim("2/-/-")
        .cost(&usage, latencies.count(), "per message"))
}

/// Several pairs, each with the next message when the last was seen.
pub async fn many(world: &mut World) -> anyhow::Result<Outcome> {
    let mut pairs = pairs(world, world.plan.senders).await?;
    let span = Span {
        warm: world.plan.warm,
        measured: world.plan.measured,
    };
    let exchange = async |pair: &mut Pair| pair.exchange().await.map(drop);
    let (samples, usage) = closed(&mut pairs, span, &world.probe, exchange).await?;
    Ok(rate(samples, &usage, pairs.len()))
}

fn rate(samples: Samples, usage: &Usage, pairs: usize) -> Outcome {
    let what = format!("closed loop, {pairs} pairs");
    let outcome = Outcome::new(&samples, usage, what);
    let seen = samples.latencies.len();
    let per_second = count(seen) / usage.wall.as_secs_f64();
    let latencies = Latencies::new(samples.latencies);
    outcome
        .figure("messages/s", vec![per_second], Better::Higher)
        .latency("sent to seen", &latencies)
        .cost(usage, seen, "per message")
}
