//! What rules and counts cost where many are members: all have the default rules, some a keyword of their own.
//!
//! Four times the same number of messages, one at a time: into a small room and into the large one while nobody has a
//! phone, so that what is more is counting; and into both when half of the large one's members have one. These are
//! events by which nobody is notified but for one whose keyword they hold: everybody's rules are asked to their end,
//! and no thousand notifications go out, which `push-many` measures. One phone is told of each, in both rooms: so the
//! difference is what the others' rules and counts cost.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{
    drive::{Samples, Series, each, paced},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person, Room, message},
    plan::Plan,
    probe::{Probe, Usage},
    scenario::{
        idle::settled,
        push::{Gateways, heard},
    },
    stats::{Latencies, count},
    world::{WIDTH, World},
};

/// So many times as many messages as where only latencies are taken: the CPU that they take is little.
const TIMES: usize = 3;

/// See the module.
pub async fn keywords(world: &mut World) -> anyhow::Result<Outcome> {
    let (members, with) = world.plan.keywords;
    let small = world.one.room(&world.plan, "small", 2).await?;
    let large = world.one.room(&world.plan, "keywords", members).await?;
    let accounts = world.one.accounts(&world.plan, members).await?;
    let (sender, others) = accounts.split_first().context("nobody to send")?;
    let with = others.get(..with).context("too few for the keywords")?;
    let (plan, probe) = (&world.plan, &world.probe);
    let words = each(
        with.iter().enumerate(),
        WIDTH,
        plan.setup_limit,
        async |(n, one)| Person::new(one)?.add_keyword(&word(n)).await,
    );
    words.await.all(with.len(), "adding keywords")?;

    let mut person = Person::new(sender)?;
    let alone = series(plan, probe, async |n| person.say(&small, &message(n)).await).await?;
    let counted = series(plan, probe, async |n| person.say(&large, &message(n)).await).await?;
    let phones = others.get(..members / 2).unwrap_or(others);
    let rooms = [&small, &large];
    let [one, found] = with_phones(plan, probe, (&mut person, rooms), (phones, with.len())).await?;

    let what = format!(
        "one at a time into a room of {members}, {} with a keyword; then {} with phones, one told of each",
        with.len(),
        phones.len()
    );
    let mut outcome = Outcome::new(&found.0, &found.1, what);
    for (name, (samples, usage)) in [
        ("small room", &alone),
        ("counts", &counted),
        ("small room and a phone", &one),
        ("counts and phones", &found),
    ] {
        outcome.errors += if name == "counts and phones" {
            0
        } else {
            samples.errors
        };
        let latencies = Latencies::new(samples.latencies.clone());
        outcome = outcome.latency(&format!("answer, {name}"), &latencies);
        if let Some(each) = each_ms(samples, usage) {
            let name = format!("CPU ms per message, {name}");
            outcome = outcome.figure(&name, vec![each], Better::Lower);
        }
    }
    if let (Some(alone), Some(found)) = (each_ms(&one.0, &one.1), each_ms(&found.0, &found.1)) {
        let name = "CPU ms per message for rules and counts";
        outcome = outcome
            .figure(name, vec![(found - alone).max(0.0)], Better::Lower)
            .aim("2");
    }
    Ok(outcome)
}

/// The word of which somebody wants to be notified.
fn word(number: usize) -> String {
    format!("word{number}")
}

/// Messages, and all that the server does because of them.
async fn series(
    plan: &Plan,
    probe: &Probe,
    mut send: impl AsyncFnMut(u64) -> Result<(), Failure>,
) -> anyhow::Result<(Samples, Usage)> {
    settled(plan, probe).await?;
    let series = Series {
        count: TIMES * plan.latencies,
        limit: plan.limit,
        every: plan.every,
    };
    let before = probe.read()?;
    let (samples, _) = paced(series, 0, probe, async |number| {
        let start = Instant::now();
        send(number as u64).await?;
        Ok(start.elapsed())
    })
    .await?;
    settled(plan, probe).await?;
    Ok((samples, probe.since(before)?))
}

/// The same with phones, of which one is told of each message: into the small room, whose other member is the first of
/// the owners, and into the large one.
async fn with_phones(
    plan: &Plan,
    probe: &Probe,
    (person, [small, large]): (&mut Person, [&Room; 2]),
    (owners, words): (&[Account], usize),
) -> anyhow::Result<[(Samples, Usage); 2]> {
    let gateways = Gateways::start(1).await?;
    let phones = each(
        owners.iter().enumerate(),
        WIDTH,
        plan.setup_limit,
        async |(n, owner)| Ok((n, gateways.phone(&mut Person::new(owner)?).await?)),
    );
    let mut phones = phones.await.all(owners.len(), "adding phones")?;
    phones.sort_unstable_by_key(|(number, _)| *number);
    let words = words.clamp(1, phones.len().max(1));
    let mut found = Vec::new();
    for (room, words) in [(small, 1), (large, words)] {
        let series = series(plan, probe, async |number| {
            let word = word(usize::try_from(number).unwrap_or(0) % words);
            let text = format!("{} {word}", message(number));
            person.note(room, &text).await
        });
        let (samples, usage) = series.await?;
        for number in 0..samples.latencies.len() {
            let (_, phone) = phones
                .get_mut(number % words)
                .context("a phone is missing")?;
            heard(phone).await?;
        }
        found.push((samples, usage));
    }
    found.try_into().ok().context("one for each room")
}

fn each_ms(samples: &Samples, usage: &Usage) -> Option<f64> {
    let server: Duration = usage.server?;
    Some(server.as_secs_f64() * 1000.0 / count(samples.latencies.len().max(1)))
}
