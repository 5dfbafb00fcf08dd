//! What it costs that many are online and change what they are.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::Semaphore,
    time::{Instant as Tick, sleep_until},
};

use crate::{
    drive::{Samples, each},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person, next_batch},
    plan::Plan,
    probe::{Probe, Usage},
    scenario::{
        idle::{for_ever, settled},
        seen::{POLL, poll_from},
    },
    stats::{Latencies, count},
    world::{WIDTH, World, found},
};

/// What users are by turns.
const STATES: [&str; 2] = ["online", "unavailable"];

/// `plan.online` users wait in `/sync`, each in two rooms, and change what they are, one after the other.
pub async fn changes(world: &mut World) -> anyhow::Result<Outcome> {
    let (users, in_room) = world.plan.online;
    let accounts = world.one.accounts(&world.plan, users).await?;
    let (plan, probe) = (&world.plan, &world.probe);
    let rooms = share_rooms(plan, &accounts, in_room).await?;
    let (answers, samples) = (Cell::new(0_usize), RefCell::new(Samples::default()));
    let states: Vec<Cell<usize>> = accounts.iter().map(|_| Cell::new(0)).collect();
    let coming = Semaphore::new(4 * WIDTH);
    let waiting: FuturesUnordered<_> = accounts
        .iter()
        .zip(&states)
        .map(|(account, state)| {
            let (answers, samples, coming) = (&answers, &samples, &coming);
            async move {
                if let Err(failure) = wait(account, state, coming, answers).await {
                    samples.borrow_mut().fail(&failure);
                }
            }
        })
        .collect();
    let watch = watch(plan, probe, (&accounts, &states), &answers, &samples);
    let usage = tokio::select! {
        done = watch => done?,
        () = for_ever(waiting) => anyhow::bail!("all polls ended"),
    };
    let samples = samples.take();
    let per_second = |number: usize| count(number) / usage.wall.as_secs_f64();
    let what = format!(
        "{users} online in {rooms} rooms of {in_room}, two each; {:.0} changes and {:.0} answers of /sync a second",
        per_second(samples.latencies.len()),
        per_second(answers.get()),
    );
    let outcome = Outcome::new(&samples, &usage, what);
    let changed = samples.latencies.len();
    let latencies = Latencies::new(samples.latencies);
    let mut outcome = outcome.latency("answer", &latencies);
    if let Some(server) = usage.server {
        let cores = server.as_secs_f64() / usage.wall.as_secs_f64();
        outcome = outcome
            .figure("cores used", vec![cores], Better::Lower)
            .aim("0.05");
    }
    Ok(outcome.cost(&usage, changed, "per change"))
}

/// Puts everybody into two rooms with others each; gives how many rooms there are.
async fn share_rooms(plan: &Plan, accounts: &[Account], size: usize) -> anyhow::Result<usize> {
    let groups = accounts.len().div_ceil(size);
    let neighbours = accounts.chunks(size).map(<[Account]>::to_vec);
    let scattered =
        (0..groups).map(|at| accounts.iter().skip(at).step_by(groups).cloned().collect());
    let all: Vec<Vec<Account>> = neighbours.chain(scattered).collect();
    let number = all.len();
    let made = each(all, WIDTH, plan.setup_limit, async |members| {
        let (room, others) = found(&members, "online").await.map_err(Failure::of)?;
        for account in others {
            Person::new(account)?.join(&room, None).await?;
        }
        Ok(())
    });
    made.await.all(number, "making rooms")?;
    Ok(number)
}

/// Waits again and again, as a client does, which also says what its user is; ends only with a failure.
async fn wait(
    account: &Account,
    state: &Cell<usize>,
    coming: &Semaphore,
    answers: &Cell<usize>,
) -> Result<(), Failure> {
    let mut person = Person::new(account)?;
    let turn = coming.acquire().await.map_err(Failure::of)?;
    let mut since = person.now().await?;
    drop(turn);
    person.connection.wait_longer(POLL);
    loop {
        let is = format!("&set_presence={}", STATES[state.get()]);
        let answer = person.sync(&poll_from(&since, &is)).await?;
        since = next_batch(&answer)?;
        answers.set(answers.get() + 1);
    }
}

/// Changes one user after the other, evenly, so that each has a turn in the plan's time. A while passes before it counts:
/// what they all were told when they came is over then.
async fn watch(
    plan: &Plan,
    probe: &Probe,
    users: (&[Account], &[Cell<usize>]),
    answers: &Cell<usize>,
    samples: &RefCell<Samples>,
) -> anyhow::Result<Usage> {
    settled(plan, probe).await?;
    let (every, measured) = plan.changes;
    let from = Tick::now() + measured;
    let span = (Tick::now(), from, from + measured);
    let pause = every.div_f64(count(users.0.len().max(1)));
    let workers = (0..WIDTH).map(|number| change(users, (number, pause), span, samples));
    let workers: FuturesUnordered<_> = workers.collect();
    let measure = async {
        sleep_until(from).await;
        answers.set(0);
        let before = probe.read()?;
        sleep_until(span.2).await;
        probe.since(before)
    };
    let (usage, failed) = tokio::join!(measure, workers.collect::<Vec<_>>());
    for failure in failed.into_iter().filter_map(Result::err) {
        samples.borrow_mut().fail(&failure);
    }
    usage
}

/// One of [`WIDTH`] who change users by turns.
async fn change(
    (accounts, states): (&[Account], &[Cell<usize>]),
    (number, pause): (usize, Duration),
    (start, from, end): (Tick, Tick, Tick),
    samples: &RefCell<Samples>,
) -> Result<(), Failure> {
    let first = accounts.first().ok_or_else(|| Failure::of("nobody"))?;
    let mut person = Person::new(first)?;
    for turn in (number..).step_by(WIDTH) {
        let at = start + pause.mul_f64(count(turn));
        if at >= end {
            break;
        }
        sleep_until(at).await;
        let index = turn % accounts.len();
        let (account, state) = (&accounts[index], &states[index]);
        state.set(1 - state.get());
        let begun = Instant::now();
        let said = person.say_presence(account, STATES[state.get()]).await;
        if at >= from {
            samples.borrow_mut().add(begun.elapsed(), said);
        }
    }
    Ok(())
}
