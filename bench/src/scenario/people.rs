//! Finding people, and changing one's name in many rooms.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};

use crate::{
    drive::{Series, each, paced},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person, Room, encode},
    stats::Latencies,
    world::{WIDTH, World, found},
};

/// Members of a room in which people are.
const TOGETHER: usize = 50;
/// No filling takes longer.
const PATIENCE: Duration = Duration::from_hours(1);
/// Names are changed so often.
const RENAMES: usize = 5;

const GIVEN: [&str; 20] = [
    "Alice",
    "Anna",
    "Ben",
    "Carl",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Hannah",
    "Иван",
    "Jan",
    "Julia",
    "Karim",
    "Lena",
    "María",
    "Noah",
    "Olga",
    "Paul",
    "Sofia",
    "Σοφία",
];
const SYLLABLES: [&str; 12] = [
    "ber", "dor", "gan", "hof", "kel", "lin", "mar", "nov", "ros", "ste", "tal", "win",
];

/// What somebody is called: a given name of twenty, a surname of 1,728.
fn name(number: usize) -> String {
    let syllable = |at: usize| SYLLABLES[number / at % SYLLABLES.len()];
    let surname = format!("{}{}{}", syllable(20), syllable(240), syllable(2_880));
    format!("{} {surname}", GIVEN[number % GIVEN.len()])
}

/// What people write of a name: its beginning, all of it, or a part of both.
fn term(number: usize) -> String {
    let name = name(number * 7_919);
    let chars = |count: usize| name.chars().take(count).collect();
    match number % 4 {
        0 => chars(2),
        1 => chars(4),
        2 => name,
        _ => name
            .split(' ')
            .next_back()
            .map_or_else(String::new, |surname| surname[..4].to_owned()),
    }
}

async fn rename(person: &mut Person, account: &Account, name: &str) -> Result<(), Failure> {
    let path = format!(
        "/_matrix/client/v3/profile/{}/displayname",
        encode(&account.id)
    );
    let body = json!({ "displayname": name }).to_string();
    person
        .connection
        .call(Method::PUT, &path, Some(body))
        .await?;
    Ok(())
}

/// Searches for names among `plan.people` users, who are in rooms of 50.
pub async fn directory(world: &mut World) -> anyhow::Result<Outcome> {
    let people = world.plan.people;
    let accounts = world.one.accounts(&world.plan, people).await?;
    let numbered: Vec<(usize, Account)> = accounts.iter().cloned().enumerate().collect();
    let groups: Vec<&[(usize, Account)]> = numbered.chunks(TOGETHER).collect();
    let rooms = groups.len();
    let made = each(groups, WIDTH, PATIENCE, async |members| {
        let accounts: Vec<Account> = members.iter().map(|(_, account)| account.clone()).collect();
        let (room, _) = found(&accounts, "people").await.map_err(Failure::of)?;
        for (at, (number, account)) in members.iter().enumerate() {
            let mut person = Person::new(account)?;
            rename(&mut person, account, &name(*number)).await?;
            if at > 0 {
                person.join(&room, None).await?;
            }
        }
        Ok(())
    });
    made.await.all(rooms, "making rooms")?;
    let Some(first) = accounts.first() else {
        anyhow::bail!("nobody to search");
    };
    let mut person = Person::new(first)?;
    let series = Series {
        count: world.plan.latencies,
        limit: world.plan.limit,
        every: world.plan.every,
    };
    let mut results = 0;
    let (samples, usage) = paced(series, 10, &world.probe, async |n| {
        let term = term(n);
        let start = Instant::now();
        results += search(&mut person, &term).await?;
        Ok(start.elapsed())
    })
    .await?;
    let what = format!(
        "a name or its beginning, ten of {people} users in rooms of {TOGETHER}; {results} results"
    );
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    let outcome = outcome.latency("answer", &latencies).aim("3/-/10");
    Ok(outcome.cost(&usage, latencies.count(), "per search"))
}

async fn search(person: &mut Person, term: &str) -> Result<usize, Failure> {
    let body = json!({ "search_term": term }).to_string();
    let path = "/_matrix/client/v3/user_directory/search";
    let answer = person
        .connection
        .call(Method::POST, path, Some(body))
        .await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(Failure::of)?;
    Ok(answer["results"].as_array().map_or(0, Vec::len))
}

/// Somebody who is in `plan.renamed` rooms changes their name: how long that takes to be answered, and until all rooms
/// know.
pub async fn renaming(world: &mut World) -> anyhow::Result<Outcome> {
    let count = world.plan.renamed;
    // An account of its own: no other scenario's rooms have to be told.
    let made = world.one.register(&world.plan, 1, 1).await;
    let made = made.all(1, "registering")?;
    let Some(account) = made.first() else {
        anyhow::bail!("nobody to rename");
    };
    let rooms = each(0..count, WIDTH, world.plan.setup_limit, async |number| {
        Person::new(account)?
            .create_room(&format!("renamed {number}"))
            .await
    });
    let rooms = rooms.await.all(count, "creating many rooms")?;
    let mut person = Person::new(account)?;
    let series = Series {
        count: RENAMES,
        limit: world.plan.limit,
        every: world.plan.every,
    };
    let done = RefCell::new(Vec::new());
    let (samples, usage) = paced(series, 1, &world.probe, async |n| {
        let name = format!("Name {n}");
        let start = Instant::now();
        rename(&mut person, account, &name).await?;
        let answered = start.elapsed();
        for room in &rooms {
            knows(&mut person, room, account, &name).await?;
        }
        if n > 0 {
            done.borrow_mut().push(start.elapsed());
        }
        Ok(answered)
    })
    .await?;
    let what = format!("a display name in {count} rooms, {RENAMES} times");
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    let done = Latencies::new(done.take());
    let longest = done.percentile(100.0).unwrap_or_default() / 1_000.0;
    Ok(outcome
        .latency("answer", &latencies)
        .aim("20/-/-")
        .figure(
            "until all rooms know: longest, s",
            vec![longest],
            Better::Lower,
        )
        .cost(&usage, latencies.count() * count.max(1), "per room"))
}

/// Waits until a room says so.
async fn knows(
    person: &mut Person,
    room: &Room,
    account: &Account,
    name: &str,
) -> Result<(), Failure> {
    let path = room.path(&format!("state/m.room.member/{}", encode(&account.id)));
    loop {
        let answer = person.connection.call(Method::GET, &path, None).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(Failure::of)?;
        if answer["displayname"] == name {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_many_and_searched_for_by_parts() {
        let names: std::collections::BTreeSet<String> = (0..20_000).map(name).collect();
        assert_eq!(names.len(), 20_000);
        assert_eq!(name(0), "Alice berberber");
        assert!((0..100).map(term).all(|term| !term.is_empty()));
    }
}
