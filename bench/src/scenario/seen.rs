//! From sending a message, or other news, to seeing it in somebody's `/sync`.
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
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
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
    world::{WIDTH, World, found},
};

/// What listeners tell: a message's number, or nothing where news have none, and when it came.
type Sighting = (Option<u64>, Instant);

/// How long a poll waits: so long that hardly one ends without news.
pub const POLL: Duration = Duration::from_mins(3);
/// After this a message counts as lost.
const LOST: Duration = Duration::from_secs(30);

/// A room on the first server with `plan.listeners[size]` listeners of this form.
pub async fn local(world: &mut World, form: Form, size: usize) -> anyhow::Result<Outcome> {
    let listeners = world.plan.listeners.get(size).copied().unwrap_or(1);
    let room = world.one.room(&world.plan, "seen", listeners + 1).await?;
    let accounts = world.one.accounts(&world.plan, listeners + 1).await?;
    let Some((sender, listeners)) = accounts.split_first() else {
        anyhow::bail!("nobody to send");
    };
    let number = listeners.len();
    let listeners = (listeners, form);
    let (samples, usage) = messages(&world.plan, &world.probe, sender, listeners, &room).await?;
    let aim = ["1.5/-/3", "2/-/4", "6/-/12", "60/-/120"].get(size);
    let mut outcome = outcome(samples, &usage, number, aim.unwrap_or(&"-"));
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

/// Sends messages into a room, of which each is seen by all before the next.
pub async fn messages(
    plan: &Plan,
    probe: &Probe,
    sender: &Account,
    listeners: (&[Account], Form),
    room: &Room,
) -> anyhow::Result<(Samples, Usage)> {
    let mut person = Person::new(sender)?;
    let send = async |number| person.say(room, &message(number)).await;
    let seen = |answer: &[u8]| messages_in(answer).map(Some).collect();
    fan_out(plan, probe, listeners, send, seen).await
}

/// Makes news and waits for each until all listeners have it. `make` gets their numbers, from 1; `seen` says
/// which are in an answer, without a number where they have none.
pub async fn fan_out(
    plan: &Plan,
    probe: &Probe,
    (listeners, form): (&[Account], Form),
    mut make: impl AsyncFnMut(u64) -> Result<(), Failure>,
    seen: impl Fn(&[u8]) -> Vec<Option<u64>>,
) -> anyhow::Result<(Samples, Usage)> {
    let (tell, mut told) = unbounded_channel();
    let ready = Cell::new(0);
    // Thousands who connect at once would be refused.
    let coming = Semaphore::new(4 * WIDTH);
    let listening: FuturesUnordered<_> = listeners
        .iter()
        .map(|account| listen(account, form, &seen, tell.clone(), &coming, &ready))
        .collect();
    drop(tell);
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
            let made = make(number);
            round(made, number, listeners.len(), &mut told, &mut samples).await;
        }
        samples = Samples::default();
        let before = probe.read()?;
        let start = Instant::now();
        for _ in 0..rounds {
            number += 1;
            let begun = Instant::now();
            let made = make(number);
            round(made, number, listeners.len(), &mut told, &mut samples).await;
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
    make: impl Future<Output = Result<(), Failure>>,
    number: u64,
    listeners: usize,
    told: &mut UnboundedReceiver<Sighting>,
    samples: &mut Samples,
) {
    // What listeners saw of the time before they listened.
    while told.try_recv().is_ok() {}
    let start = Instant::now();
    let wait = async {
        let mut seen = 0;
        while seen < listeners {
            match told.recv().await {
                Some((found, at)) if found.is_none_or(|found| found == number) => {
                    samples.latencies.push(at - start);
                    seen += 1;
                }
                Some(_) => {}
                None => break,
            }
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
    seen: impl Fn(&[u8]) -> Vec<Option<u64>>,
    tell: UnboundedSender<Sighting>,
    coming: &Semaphore,
    ready: &Cell<usize>,
) -> Failure {
    let poll = async {
        let turn = coming.acquire().await.map_err(Failure::of)?;
        let mut follower = Follower::begin(account, form, POLL).await?;
        drop(turn);
        ready.set(ready.get() + 1);
        loop {
            let answer = follower.next().await?;
            let now = Instant::now();
            for number in seen(&answer) {
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
