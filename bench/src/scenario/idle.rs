//! What connections cost that wait.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;

use crate::{
    drive::{Samples, each},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person, encode, next_batch},
    plan::Plan,
    probe::Probe,
    process::Memory,
    socket,
    stats::count,
    world::{WIDTH, World},
};

/// How long the polls wait: longer than they are watched.
const POLL: Duration = Duration::from_mins(3);

/// `plan.idle` long polls, of at most `plan.crowd` accounts.
pub async fn polls(world: &mut World) -> anyhow::Result<Outcome> {
    let tokens = tokens(world).await?;
    let what = |answers| {
        let (polls, accounts) = (world.plan.idle, tokens.len());
        format!("{polls} polls of {accounts} accounts, {answers} answered meanwhile")
    };
    let wait = async |account: &Account, since: &str, answers: &Cell<usize>| {
        poll(account, since.to_owned(), answers).await
    };
    watch(&world.plan, &world.probe, &tokens, "16", wait, what).await
}

/// As many WebSocket streams, which only Rhizome has.
pub async fn sockets(world: &mut World) -> anyhow::Result<Outcome> {
    let tokens = tokens(world).await?;
    if let Some((account, since)) = tokens.first()
        && let Err(failure) = socket::open(account, since).await
    {
        let (samples, usage) = Default::default();
        return Ok(Outcome::new(
            &samples,
            &usage,
            format!("no such thing: {failure}"),
        ));
    }
    let what = |frames| {
        let (sockets, accounts) = (world.plan.idle, tokens.len());
        format!("{sockets} sockets of {accounts} accounts, {frames} frames meanwhile")
    };
    let wait = async |account: &Account, since: &str, frames: &Cell<usize>| {
        socket::listen(account, since, frames).await
    };
    watch(&world.plan, &world.probe, &tokens, "10", wait, what).await
}

/// Accounts, and from where each goes on.
async fn tokens(world: &mut World) -> anyhow::Result<Vec<(Account, String)>> {
    let plan = &world.plan;
    let accounts = world.one.accounts(plan, plan.crowd.min(plan.idle)).await?;
    let done = each(&accounts, WIDTH, plan.setup_limit, async |account| {
        let since = Person::new(account)?.now().await?;
        Ok((account.clone(), since))
    })
    .await;
    done.all(accounts.len(), "a first sync of everybody")
}

/// What `plan.idle` connections cost that wait, of these accounts in turn.
async fn watch(
    plan: &Plan,
    probe: &Probe,
    tokens: &[(Account, String)],
    aim: &str,
    wait: impl AsyncFn(&Account, &str, &Cell<usize>) -> Result<(), Failure>,
    what: impl Fn(usize) -> String,
) -> anyhow::Result<Outcome> {
    settled(plan, probe).await?;
    let before = probe.memory()?;
    let (answers, failures) = (Cell::new(0), RefCell::new(Samples::default()));
    let wait = &wait;
    let waiting: FuturesUnordered<_> = tokens
        .iter()
        .cycle()
        .take(plan.idle)
        .enumerate()
        .map(|(number, (account, since))| {
            let (answers, failures) = (&answers, &failures);
            async move {
                // Not all in the same moment.
                sleep(Duration::from_millis(number as u64)).await;
                if let Err(failure) = wait(account, since, answers).await {
                    failures.borrow_mut().fail(&failure);
                }
            }
        })
        .collect();
    let watched = async {
        sleep(Duration::from_millis(plan.idle as u64)).await;
        settled(plan, probe).await?;
        let after = probe.memory()?;
        let reading = probe.read()?;
        answers.set(0);
        sleep(plan.idle_time).await;
        anyhow::Ok((after, probe.since(reading)?))
    };
    let (after, usage) = tokio::select! {
        done = watched => done?,
        () = for_ever(waiting) => anyhow::bail!("all have ended: {:?}", failures.take().first_error),
    };

    let samples = failures.take();
    let mut outcome = Outcome::new(&samples, &usage, what(answers.get()));
    outcome.operations = plan.idle;
    if let (Some(before), Some(after)) = (before, after) {
        let each = [|m: Memory| m.pss, |m: Memory| m.rss].map(|of| {
            count(usize::try_from(of(after).saturating_sub(of(before))).unwrap_or(0))
                / count(plan.idle)
        });
        outcome = outcome
            .figure("PSS / RSS, KiB each", each.to_vec(), Better::Lower)
            .aim(aim);
    }
    if let Some(server) = usage.server {
        let cores = server.as_secs_f64() / usage.wall.as_secs_f64();
        outcome = outcome
            .figure("cores used", vec![cores], Better::Lower)
            .aim("0.05");
    }
    Ok(outcome)
}

/// Polls again and again, as a client does; ends only with a failure.
async fn poll(account: &Account, mut since: String, answers: &Cell<usize>) -> Result<(), Failure> {
    let mut person = Person::new(account)?;
    person.connection.wait_longer(POLL);
    loop {
        let query = format!("timeout={}&since={}", POLL.as_millis(), encode(&since));
        let answer = person.sync(&query).await?;
        answers.set(answers.get() + 1);
        since = next_batch(&answer)?;
    }
}

async fn for_ever(waiting: FuturesUnordered<impl Future<Output = ()>>) {
    waiting.collect::<()>().await;
}

/// Waits until the server has nothing more to do, but not for ever.
async fn settled(plan: &Plan, probe: &Probe) -> anyhow::Result<()> {
    let window = plan.idle_time.min(Duration::from_secs(1));
    for _ in 0..30 {
        let before = probe.read()?;
        sleep(window).await;
        let usage = probe.since(before)?;
        let busy = usage.server.unwrap_or_default();
        if busy * 20 < usage.wall {
            break;
        }
    }
    Ok(())
}
