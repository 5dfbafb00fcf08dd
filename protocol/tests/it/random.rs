//! Random rooms: graphs of many forks with all that moderators do, compared with ruma at every step.
//!
//! `RHIZOME_RANDOM_ROOMS` sets how many rooms of each version are played (100 unless set).

use std::sync::Arc;

use rhizome_protocol::{
    Pdu,
    auth::authorize,
    resolve::{StateMap, resolve},
};
use ruma::OwnedEventId;
use serde_json::json;

use crate::room::{ALICE, BOB, CARL, DORA, Room, What, levels, member, state};

/// SplitMix64: a seed names a room for good.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as usize % sides
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }
}

const USERS: [&str; 5] = [ALICE, BOB, CARL, DORA, "@eve:five.org"];

fn something(dice: &mut Dice) -> (&'static str, What) {
    let (sender, target) = (dice.pick(&USERS), dice.pick(&USERS));
    let what = match dice.roll(12) {
        0..=2 => member(sender, "join"),
        3 => member(sender, dice.pick(&["leave", "knock", "invite"])),
        4 | 5 => member(
            target,
            dice.pick(&["leave", "ban", "leave", "invite", "join"]),
        ),
        6 => {
            let rule = dice.pick(&[
                "public",
                "invite",
                "knock",
                "restricted",
                "knock_restricted",
                "private",
            ]);
            state("m.room.join_rules", "", json!({"join_rule": rule}))
        }
        7 | 8 => {
            let mut users = json!({});
            for user in USERS {
                if dice.roll(3) > 0 {
                    users[user] = json!(dice.pick(&[0, 10, 50, 50, 100]));
                }
            }
            levels(
                json!({"users": users, "kick": dice.pick(&[0, 50, 60]), "events": {"m.room.topic": dice.pick(&[0, 50])},
                "users_default": dice.pick(&[0, 0, 10]), "invite": dice.pick(&[0, 20])}),
            )
        }
        9 => state("m.room.topic", "", json!({"topic": dice.roll(1000)})),
        10 => {
            let mut join = member(sender, "join");
            join.content["join_authorised_via_users_server"] = json!(target);
            join
        }
        _ => state("org.example.own", sender, json!({"x": dice.roll(1000)})),
    };
    (sender, what)
}

/// Plays one room; panics with the seed where we differ from ruma. Returns how many merges had conflicts.
fn play(version: &str, seed: u64) -> usize {
    let mut dice = Dice(seed);
    let (mut room, last) = if dice.roll(4) == 0 {
        let creators = json!({"additional_creators": [BOB]});
        let mut room = Room::bare(
            version,
            if room_has_creators(version) {
                creators
            } else {
                json!({})
            },
        );
        let last = room.chain(
            &[room.create.clone()],
            &[
                (ALICE, member(ALICE, "join")),
                (
                    ALICE,
                    state("m.room.join_rules", "", json!({"join_rule": "public"})),
                ),
            ],
        );
        (room, last)
    } else {
        Room::lively(version)
    };
    let mut tips: Vec<OwnedEventId> = vec![last];
    let mut conflicts = 0;
    for _ in 0..20 + dice.roll(40) {
        // Old tips stay in reach, so that forks grow long and meet late.
        let mut prev: Vec<OwnedEventId> = Vec::new();
        for _ in 0..=dice.roll(4) {
            let tip = tips[tips.len() - 1 - dice.roll(tips.len().min(12))].clone();
            if !prev.contains(&tip) {
                prev.push(tip);
            }
        }
        let forks: Vec<_> = prev.iter().map(|id| room.after[id].clone()).collect();
        let before = resolve(room.rules, &forks, &room).unwrap();
        assert_eq!(
            before,
            room.ruma_resolves(&forks),
            "version {version}, seed {seed}"
        );
        conflicts += usize::from(forks.iter().any(|fork| *fork != forks[0]));

        // Few different timestamps, so that ids decide at times.
        let ts = 1_000 + i64::try_from(dice.roll(8)).unwrap();
        let (sender, what) = something(&mut dice);
        let event: Arc<Pdu> = room.build(&before, &prev, ts, sender, &what);
        let Some(allowed) = judge(&room, &event, &before) else {
            continue;
        };
        // It is judged by other states too, as on receipt.
        judge(&room, &event, &room.after[&tips[dice.roll(tips.len())]]);

        let rejected = !allowed;
        if !rejected || dice.roll(5) == 0 {
            tips.push(room.keep(event, before, rejected));
        }
    }
    conflicts
}

/// Whether the event is allowed, by ruma's judgement and ours; `None` where these differ on purpose.
fn judge(room: &Room, event: &Arc<Pdu>, state: &StateMap) -> Option<bool> {
    let ours = authorize(event, &room.view(state));
    let theirs = room.ruma_allows(event, state);
    // Merged forks may lose all join rules. To Synapse and to us that means `invite`; ruma lets nobody in.
    if theirs
        .as_ref()
        .is_err_and(|error| error.contains("no `m.room.join_rules`"))
    {
        return None;
    }
    assert_eq!(
        ours.is_ok(),
        theirs.is_ok(),
        "{ours:?}, {theirs:?}, {}",
        event.json()
    );
    Some(ours.is_ok())
}

fn room_has_creators(version: &str) -> bool {
    version == "12"
}

fn rooms() -> u64 {
    std::env::var("RHIZOME_RANDOM_ROOMS").map_or(100, |count| {
        count.parse().expect("RHIZOME_RANDOM_ROOMS is a number")
    })
}

fn play_all(version: &str, first_seed: u64) {
    let conflicts: usize = (0..rooms())
        .map(|seed| play(version, first_seed + seed))
        .sum();
    println!(
        "version {version}: {} rooms, {conflicts} merges of different states",
        rooms()
    );
    assert!(
        conflicts as u64 > rooms() * 5,
        "{conflicts} merges of different states prove little"
    );
}

#[test]
fn random_rooms_of_v10() {
    play_all("10", 0);
}

#[test]
fn random_rooms_of_v11() {
    play_all("11", 1_000_000);
}

#[test]
fn random_rooms_of_v12() {
    play_all("12", 2_000_000);
}
