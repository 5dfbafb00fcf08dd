//! From sending a message, or changing a device, to seeing it in somebody's `/sync`.
//!
//! One message at a time: the next isn't sent before all listeners have seen the last, and a pause as
//! long as that took, so that slow servers too have all polls back before it. So these are the times of a
//! server that has nothing else to do.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{sleep, timeout},
};

use crate::{
    drive::Samples,
    follow::{Follower, Form},
    http::Failure,
    outcome::Outcome,
    person::{Account, Person, Room, encode, message, messages_in},
    plan::Plan,
    probe::{Probe, Usage},
    stats::Latencies,
    world::{World, found},
};

/// What is done and seen.
#[derive(Clone, Copy)]
pub enum News<'a> {
    /// A message in a room.
    Message(&'a Room),
    /// A change of the device with this id.
    Device(&'a str),
}

/// What listeners tell: a message's number (of a device's change 0), and when it came.
type Sighting = (u64, Instant);

/// How long a poll waits.
const POLL: Duration = Duration::from_secs(30);
/// After this a message counts as lost.
const LOST: Duration = Duration::from_secs(30);

/// A room on the first server in which somebody's device changes, with as many listeners as there are at most.
pub async fn devices(world: &mut World) -> anyhow::Result<Outcome> {
    let listeners = world.plan.listeners.get(2).copied().unwrap_or(1);
    world.one.room(&world.plan, "seen", listeners + 1).await?;
    let accounts = world.one.accounts(&world.plan, listeners + 1).await?;
    let Some((sender, listeners)) = accounts.split_first() else {
        anyhow::bail!("nobody whose device changes");
    };
    let device = Person::new(sender)?.device().await?;
    let news = News::Device(&device);
    let listeners = (listeners, Form::Poll);
    let (samples, usage) = fan_out(&world.plan, &world.probe, sender, listeners, news).await?;
    let what = format!(
        "somebody's device changes, one time after another, {} listeners",
        listeners.0.len()
    );
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    let told = outcome.latency("changed to seen", &latencies);
    Ok(told.cost(&usage, latencies.count(), "per delivery"))
}

/// A room on the first server with `plan.listeners[size]` listeners of this form.
pub async fn local(world: &mut World, form: Form, size: usize) -> anyhow::Result<Outcome> {
    let listeners = world.plan.listeners.get(size).copied().unwrap_or(1);
    let room = world.one.room(&world.plan, "seen", listeners + 1).await?;
    let accounts = world.one.accounts(&world.plan, listeners + 1).await?;
    let Some((sender, listeners)) = accounts.split_first() else {
        anyhow::bail!("nobody to send");
    };
    let news = News::Message(&room);
    let number = listeners.len();
    let listeners = (listeners, form);
    let (samples, usage) = fan_out(&world.plan, &world.probe, sender, listeners, news).await?;
    let aim = ["1.5/-/3", "2/-/4", "6/-/12", "60/-/120"]
        .get(size)
        .copied();
    let aim = aim.unwrap_or("-");
    let mut outcome = outcome(samples, &usage, number, aim);
    outcome.what = format!("{} by {}", outcome.what, form.name());
    Ok(outcome)
}

/// The outcome of such a run.
pub fn outcome(samples: Samples, usage: &Usage, listeners: usize, aim: &str) -> Outcome {
    let what = format!(
        "one message at a time, {listeners} listener{}",
        if listeners == 1 { "" } else { "s" }
    );
    let outcome = Outcome::new(&samples, usage, what);
    let latencies = Latencies::new(samples.latencies);
    outcome.latency("sent to seen", &latencies).aim(aim).cost(
        usage,
        latencies.count(),
        "per delivery",
    )
}

/// Makes news and waits for each until all listeners have it.
pub async fn fan_out(
    plan: &Plan,
    probe: &Probe,
    sender: &Account,
    (listeners, form): (&[Account], Form),
    news: News<'_>,
) -> anyhow::Result<(Samples, Usage)> {
    let (tell, mut told) = unbounded_channel();
    let ready = Cell::new(0);
    let listening: FuturesUnordered<_> = listeners
        .iter()
        .map(|account| listen(account, form, &sender.id, news, tell.clone(), &ready))
        .collect();
    drop(tell);
    let mut person = Person::new(sender)?;
    let conduct = async {
        let until = Instant::now() + plan.setup_limit;
        while ready.get() < listeners.len() && Instant::now() < until {
            sleep(Duration::from_millis(20)).await;
        }
        // Deliveries beyond this would only make the run longer.
        let rounds = plan
            .latencies
            .min((20_000 / listeners.len().max(1)).max(20));
        let mut number = 0;
        let mut samples = Samples::default();
        for _ in 0..5 {
            number += 1;
            round(
                &mut person,
                news,
                number,
                listeners.len(),
                &mut told,
                &mut samples,
            )
            .await;
        }
        samples = Samples::default();
        let before = probe.read()?;
        let start = Instant::now();
        for _ in 0..rounds {
            number += 1;
            let begun = Instant::now();
            round(
                &mut person,
                news,
                number,
                listeners.len(),
                &mut told,
                &mut samples,
            )
            .await;
            let took = begun.elapsed();
            if start.elapsed() > plan.limit {
                break;
            }
            sleep(took.max(plan.every)).await;
        }
        anyhow::Ok((samples, probe.since(before)?))
    };
    tokio::select! {
        done = conduct => done,
        failure = first_failure(listening) => anyhow::bail!("a listener failed: {failure}"),
    }
}

async fn first_failure(mut listening: FuturesUnordered<impl Future<Output = Failure>>) -> Failure {
    match listening.next().await {
        Some(failure) => failure,
        None => std::future::pending().await,
    }
}

/// Makes one piece of news and gathers the sightings.
async fn round(
    person: &mut Person,
    news: News<'_>,
    number: u64,
    listeners: usize,
    told: &mut UnboundedReceiver<Sighting>,
    samples: &mut Samples,
) {
    // What listeners saw of the time before they listened.
    while told.try_recv().is_ok() {}
    let start = Instant::now();
    let wanted = match news {
        News::Message(_) => number,
        News::Device(_) => 0,
    };
    let wait = async {
        let mut seen = 0;
        while seen < listeners {
            match told.recv().await {
                Some((found, at)) if found == wanted => {
                    samples.latencies.push(at - start);
                    seen += 1;
                }
                Some(_) => {}
                None => break,
            }
        }
    };
    let text = message(number);
    let make = async {
        match news {
            News::Message(room) => person.say(room, &text).await,
            News::Device(device) => person.rename(device, &text).await,
        }
    };
    let (sent, seen) = tokio::join!(make, timeout(LOST, wait));
    if let Err(failure) = sent {
        samples.fail(&failure);
    }
    if seen.is_err() {
        samples.fail(&Failure::of("something was not seen by all in time"));
    }
}

/// Polls for ever; ends only with a failure.
async fn listen(
    account: &Account,
    form: Form,
    sender: &str,
    news: News<'_>,
    tell: UnboundedSender<Sighting>,
    ready: &Cell<usize>,
) -> Failure {
    let poll = async {
        let mut follower = Follower::begin(account, form, POLL).await?;
        ready.set(ready.get() + 1);
        loop {
            let answer = follower.next().await?;
            let now = Instant::now();
            let seen: Vec<u64> = match news {
                News::Message(_) => messages_in(&answer).collect(),
                News::Device(_) => changed(&answer, sender).then_some(0).into_iter().collect(),
            };
            for number in seen {
                // The other end goes away when the run is over.
                let _ = tell.send((number, now));
            }
        }
    };
    let ended: Result<std::convert::Infallible, Failure> = poll.await;
    match ended {
        Err(failure) => failure,
        Ok(never) => match never {},
    }
}

/// Whether an answer says that the user's devices changed, without reading it as JSON.
fn changed(answer: &[u8], user: &str) -> bool {
    let text = std::str::from_utf8(answer).unwrap_or_default();
    let list = text.split_once(r#""changed":["#);
    let list = list.and_then(|(_, rest)| rest.split_once(']'));
    list.is_some_and(|(users, _)| users.contains(&format!("\"{user}\"")))
}

/// The query of a long poll.
pub fn poll_from(since: &str, more: &str) -> String {
    format!("timeout={}&since={}{more}", POLL.as_millis(), encode(since))
}

/// Two rooms' worth of listening across servers: somebody on each, in a room of the first.
pub async fn across(
    plan: &Plan,
    here: &[Account],
    there: &Account,
    name: &str,
) -> anyhow::Result<Room> {
    let (room, others) = found(here, name).await?;
    for account in others {
        Person::new(account)?.join(&room, None).await?;
    }
    let via = here.first().map(Account::server_name);
    let joining = async { Person::new(there)?.join(&room, via).await };
    timeout(plan.setup_limit, joining).await??;
    Ok(room)
}
