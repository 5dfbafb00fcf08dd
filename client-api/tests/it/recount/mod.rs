//! What is unread, in every way in which it is told, against a naive recount, while users of two servers do what they
//! like: `/sync` at first and going on, by room and by thread, sliding sync, and the number that a push gateway was told
//! last.

mod acts;
mod life;
mod look;
mod oracle;
mod rules;

use std::fmt::Debug;

use rhizome_storage::testing::eventually;

use self::{
    life::{Life, SERVERS, SOON},
    look::{Follower, Slider, Told, at_first},
    oracle::{Counts, Pair, whole},
};
use crate::{e2ee::several::on, pushers::Gateway, random::Random};

const STEPS: usize = 90;
/// Now and then everybody looks whether it is so.
const PAUSES: usize = 15;

/// Which stories are told: more by hand, as `first-last`.
fn stories() -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("RHIZOME_RANDOM_COUNTS").unwrap_or_default();
    let asked = asked
        .split_once('-')
        .and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    asked.unwrap_or(1..=1)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tells_of_what_is_unread_tells_what_is_counted_naively_on_sqlite() {
    for seed in stories() {
        story(seed, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tells_of_what_is_unread_tells_what_is_counted_naively_on_postgres() {
    for seed in stories() {
        story(seed, true).await;
    }
}

/// The devices of a user.
struct Devices {
    followers: [Follower; 2],
    slider: Slider,
}

async fn story(seed: u64, postgres: bool) {
    on(postgres, SERVERS, async |all| {
        let gateway = Gateway::attach(&all.network);
        let mut random = Random(seed);
        let mut life = Life::begin(all, seed).await;
        let mut devices = Vec::new();
        for person in &life.people {
            let user = &person.user;
            devices.push(Devices {
                followers: [
                    Follower::begin(user, false).await,
                    Follower::begin(user, true).await,
                ],
                slider: Slider::begin(user).await,
            });
        }
        for step in 1..=STEPS {
            match random.below(24) {
                0..=3 => {
                    let devices = &mut devices[random.below(life.people.len())];
                    match random.below(3) {
                        2 => devices.slider.look().await,
                        which => devices.followers[which].look().await,
                    }
                }
                4 if random.below(3) == 0 => {
                    life.restart(all, random.below(usize::from(SERVERS))).await;
                    for (devices, person) in devices.iter_mut().zip(&life.people) {
                        devices
                            .followers
                            .iter_mut()
                            .for_each(|one| one.at(&person.user));
                        devices.slider.at(&person.user);
                    }
                }
                _ => life.goes_on(all, &mut random).await,
            }
            if step % PAUSES == 0 {
                life.settle().await;
                for (who, devices) in devices.iter_mut().enumerate() {
                    check(&life, who, devices, &gateway).await;
                }
            }
        }
        life.end().await;
    })
    .await;
}

/// Whatever tells a user of what they haven't read tells the same.
async fn check(life: &Life, who: usize, devices: &mut Devices, gateway: &Gateway) {
    let user = &life.people[who].user;
    let expected = life.recount(who).await;
    let rooms: Told<Pair> = (expected.iter())
        .map(|(room, counts)| (room.clone(), whole(counts)))
        .collect();
    let simple: Told<Counts> = (rooms.iter())
        .map(|(room, counts)| (room.clone(), Counts::from([(None, *counts)])))
        .collect();
    let mut wrong = Vec::new();

    let (told, invites) = at_first(user, false).await;
    compare("a first /sync", &told, &simple, &mut wrong);
    let (told, _) = at_first(user, true).await;
    compare("a first /sync by thread", &told, &expected, &mut wrong);
    for (follower, expected) in devices.followers.iter_mut().zip([&simple, &expected]) {
        follower.look().await;
        compare("a /sync that goes on", &follower.told, expected, &mut wrong);
    }
    devices.slider.look().await;
    let told = &devices.slider.told;
    compare("sliding sync that goes on", told, &rooms, &mut wrong);
    let mut new = Slider::begin(user).await;
    new.look().await;
    compare("sliding sync at first", &new.told, &rooms, &mut wrong);

    // "The number of unread messages a user has across all of the rooms", and the invites of which they are notified.
    let unread: u64 = rooms.values().map(|counts| counts.0).sum();
    let badge = unread + life.invites(who, &invites).await;
    let last = || gateway.badge(&user.id);
    let told = eventually("the gateway is told the number", async || last() == badge);
    if tokio::time::timeout(SOON, told).await.is_err() {
        wrong.push(format!("the gateway: {} for {badge}", last()));
    }
    assert!(wrong.is_empty(), "{}", life.about(who, &wrong.join("\n")));
}

/// What a user was told of the rooms that they are in, and what it should have been.
fn compare<T: PartialEq + Debug>(
    way: &str,
    told: &Told<T>,
    expected: &Told<T>,
    wrong: &mut Vec<String>,
) {
    for (room, expected) in expected {
        let told = told.get(room);
        if told != Some(expected) {
            wrong.push(format!("{way}: {room}: {told:?} for {expected:?}"));
        }
    }
}
