//! What connections cost that wait.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;

use crate::{
    drive::Samples,
    follow::{Follower, Form},
    http::Failure,
    outcome::{Better, Outcome},
    person::Account,
    plan::Plan,
    probe::Probe,
    process::Memory,
    stats::count,
    world::World,
};

/// How long the polls wait: longer than they are watched.
const POLL: Duration = Duration::from_mins(3);

/// `plan.idle` connections of this form, of at most `plan.crowd` accounts.
pub async fn idle(world: &mut World, form: Form) -> anyhow::Result<Outcome> {
    let (plan, probe) = (&world.plan, &world.probe);
    let accounts = world.one.accounts(plan, plan.crowd.min(plan.idle)).await?;
    settled(plan, probe).await?;
    let before = probe.memory()?;
    let (answers, failures) = (Cell::new(0), RefCell::new(Samples::default()));
    let waiting: FuturesUnordered<_> = accounts
        .iter()
        .cycle()
        .take(plan.idle)
        .enumerate()
        .map(|(number, account)| {
            let connection = number / accounts.len();
            let (answers, failures) = (&answers, &failures);
            async move {
                // Not all in the same moment.
                sleep(Duration::from_millis(number as u64)).await;
                if let Err(failure) = wait(account, form, connection, answers).await {
                    failures.borrow_mut().fail(&failure);
                }
            }
        })
        .collect();
    let watch = async {
        sleep(Duration::from_millis(plan.idle as u64)).await;
        settled(plan, probe).await?;
        let after = probe.memory()?;
        let reading = probe.read()?;
        answers.set(0);
        sleep(plan.idle_time).await;
        anyhow::Ok((after, probe.since(reading)?))
    };
    let (after, usage) = tokio::select! {
        done = watch => done?,
        () = for_ever(waiting) => anyhow::bail!("all polls ended"),
    };

    let samples = failures.take();
    let what = format!(
        "{} of {} accounts by {}, {} answered meanwhile",
        plan.idle,
        accounts.len(),
        form.name(),
        answers.get()
    );
    let mut outcome = Outcome::new(&samples, &usage, what);
    outcome.operations = plan.idle;
    if let (Some(before), Some(after)) = (before, after) {
        let each = [|m: Memory| m.pss, |m: Memory| m.rss].map(|of| {
            count(usize::try_from(of(after).saturating_sub(of(before))).unwrap_or(0))
                / count(plan.idle)
        });
        outcome = outcome
            .figure("PSS / RSS, KiB each", each.to_vec(), Better::Lower)
            .aim("20");
    }
    if let Some(server) = usage.server {
        let cores = server.as_secs_f64() / usage.wall.as_secs_f64();
        outcome = outcome
            .figure("cores used", vec![cores], Better::Lower)
            .aim("0.02");
    }
    Ok(outcome)
}

/// Waits again and again, as a client does; ends only with a failure.
async fn wait(
    account: &Account,
    form: Form,
    connection: usize,
    answers: &Cell<usize>,
) -> Result<(), Failure> {
    let mut follower = Follower::begin_as(account, form, POLL, connection).await?;
    loop {
        follower.next().await?;
        answers.set(answers.get() + 1);
    }
}

/// Until the last of them ends.
pub async fn for_ever(waiting: FuturesUnordered<impl Future<Output = ()>>) {
    waiting.collect::<()>().await;
}

/// Waits until the server has nothing more to do, but not for ever.
pub async fn settled(plan: &Plan, probe: &Probe) -> anyhow::Result<()> {
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
