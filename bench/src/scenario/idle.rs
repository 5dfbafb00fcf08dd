//! What connections cost that wait.

use std::{cell::Cell, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;

use crate::{
    drive::{Samples, each},
    outcome::{Better, Outcome},
    person::{Person, encode},
    plan::Plan,
    probe::Probe,
    process::Memory,
    stats::count,
    world::{WIDTH, World},
};

/// How long the polls wait: longer than they are watched.
const POLL: Duration = Duration::from_secs(180);

/// `plan.idle` long polls, of at most `plan.crowd` accounts.
pub async fn idle(world: &mut World) -> anyhow::Result<Outcome> {
    let (plan, probe) = (&world.plan, &world.probe);
    let accounts = world.one.accounts(plan, plan.crowd.min(plan.idle)).await?;
    let done = each(&accounts, WIDTH, plan.setup_limit, async |account| {
        let since = Person::new(account)?.now().await?;
        Ok((account, since))
    })
    .await;
    let tokens = done.all(accounts.len(), "a first sync of everybody")?;

    settled(plan, probe).await?;
    let before = probe.memory()?;
    let ended = Cell::new(0);
    let waiting: FuturesUnordered<_> = tokens
        .iter()
        .cycle()
        .take(plan.idle)
        .enumerate()
        .map(|(number, (account, since))| {
            let ended = &ended;
            async move {
                // Not all in the same moment.
                sleep(Duration::from_millis(number as u64)).await;
                let query = format!("timeout={}&since={}", POLL.as_millis(), encode(since));
                let poll = async {
                    let mut person = Person::new(account)?;
                    person.connection.wait_longer(POLL);
                    person.sync(&query).await
                };
                let _ = poll.await;
                ended.set(ended.get() + 1);
            }
        })
        .collect();
    let watch = async {
        sleep(Duration::from_millis(plan.idle as u64)).await;
        settled(plan, probe).await?;
        let after = probe.memory()?;
        let reading = probe.read()?;
        sleep(plan.idle_time).await;
        anyhow::Ok((after, probe.since(reading)?))
    };
    let (after, usage) = tokio::select! {
        done = watch => done?,
        () = for_ever(waiting) => anyhow::bail!("all polls ended"),
    };

    let mut samples = Samples {
        errors: ended.get(),
        ..Samples::default()
    };
    if ended.get() > 0 {
        samples.first_error = Some("a poll ended early".to_owned());
    }
    let what = format!("{} polls of {} accounts", plan.idle, tokens.len());
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
