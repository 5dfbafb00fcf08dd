//! Random rooms of every version: graphs of many forks with all that moderators do and servers get wrong.
//! Every merge and every decision is compared with a naive reading of the specification, and with ruma
//! where that has the algorithm. A difference is made as small as can be and told as a story.
//!
//! `RHIZOME_RANDOM_ROOMS` sets how many rooms of each version are played (60 unless set).

use rhizome_protocol::sign::{KeyPair, sign_json};
use ruma::ServerName;
use serde_json::{Value, json};

use crate::{
    room::{ALICE, BOB, CARL, DORA, VERSIONS, What, levels, member, message, object, state},
    scenario::{AuthTrick, Count, Scenario, Step},
};

/// SplitMix64: a seed names a room for good. Bytes go first, if there are any: a fuzzer's.
struct Dice<'a>(u64, &'a [u8]);

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        if let Some((first, rest)) = self.1.split_first() {
            self.1 = rest;
            return usize::from(*first) % sides;
        }
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

/// Whoever signs for third parties.
fn third_party() -> KeyPair {
    KeyPair::from_seed("third", &[3; 32]).unwrap()
}

/// What a random room is made of.
struct Maker<'a> {
    dice: Dice<'a>,
    version: u32,
    /// Only what ruma reads as we do.
    tame: bool,
}

/// The room that these bytes tell, and `seed` where they end.
pub fn scenario(version: &'static str, seed: u64, bytes: &[u8]) -> Scenario {
    Maker::scenario(version, Dice(seed, bytes))
}

impl<'a> Maker<'a> {
    fn scenario(version: &'static str, mut dice: Dice<'a>) -> Scenario {
        let lively = dice.roll(4) > 0;
        let tame = dice.roll(4) > 0;
        let mut maker = Self {
            dice,
            version: version.parse().unwrap(),
            tame,
        };
        let count = 20 + maker.dice.roll(40);
        let steps = (1..=count).map(|name| maker.step(name)).collect();
        Scenario {
            version,
            lively,
            tame,
            steps,
        }
    }

    fn step(&mut self, name: usize) -> Step {
        // Old tips stay in reach, so that forks grow long and meet late.
        let reach = name.min(12);
        let after = (0..=self.dice.roll(4)).map(|_| name - 1 - self.dice.roll(reach));
        let mut after: Vec<usize> = after.collect();
        let (sender, what) = self.something();
        if what.kind == "m.room.create" && self.dice.roll(3) > 0 {
            after.clear();
        }
        let auth = match self.dice.roll(12) {
            0 => AuthTrick::Omit(1 + self.dice.roll(4)),
            1 | 2 => AuthTrick::Stale(1 + self.dice.roll(4), self.dice.roll(name)),
            _ => AuthTrick::Honest,
        };
        Step {
            name,
            after,
            // Few different timestamps, so that ids decide at times.
            ts: 1_000 + i64::try_from(self.dice.roll(8)).unwrap(),
            sender,
            what,
            auth,
            mangled: self.dice.roll(12) == 0,
            keep_rejected: self.dice.roll(5) == 0,
        }
    }

    fn something(&mut self) -> (&'static str, What) {
        let (sender, target) = (self.dice.pick(&USERS), self.dice.pick(&USERS));
        let what = match self.dice.roll(17) {
            0..=2 => member(sender, "join"),
            3 => member(sender, self.dice.pick(&["leave", "knock", "invite"])),
            4 | 5 => {
                let change = ["leave", "ban", "leave", "invite", "join", "dance"];
                member(target, self.dice.pick(&change))
            }
            6 => {
                let rule = self.dice.pick(&[
                    "public",
                    "public",
                    "invite",
                    "knock",
                    "restricted",
                    "knock_restricted",
                    "private",
                ]);
                state("m.room.join_rules", "", json!({"join_rule": rule}))
            }
            7 | 8 => levels(self.levels()),
            9 => state("m.room.topic", "", json!({"topic": self.dice.roll(1000)})),
            10 => {
                let mut join = member(sender, "join");
                join.content["join_authorised_via_users_server"] = json!(target);
                join
            }
            11 => {
                let server = self.dice.pick(&["one.org", "two.org", "three.org"]);
                state(
                    "m.room.aliases",
                    server,
                    json!({"aliases": [self.dice.roll(1000)]}),
                )
            }
            12 => What {
                kind: "m.room.redaction",
                redacts: Some(format!("$x:{}", self.dice.pick(&["one.org", "two.org"]))),
                ..message()
            },
            13 => state(
                "m.room.third_party_invite",
                self.token(sender),
                json!({"display_name": "x", "public_key": third_party().public_base64()}),
            ),
            14 => self.third_party_invite(sender, target),
            15 => What {
                kind: "m.room.create",
                key: self.dice.pick(&[None, Some(""), Some("x")]).map(Into::into),
                content: json!({"creator": sender, "room_version": self.version.to_string()}),
                redacts: None,
            },
            _ => state(
                "org.example.own",
                sender,
                json!({"x": self.dice.roll(1000)}),
            ),
        };
        (sender, what)
    }

    /// The token of a third-party invite: mostly the sender's own.
    fn token(&mut self, sender: &'static str) -> &'static str {
        if self.dice.roll(4) > 0 {
            sender
        } else {
            self.dice.pick(&USERS)
        }
    }

    /// An invite that comes of a third-party invite: rightly, or for somebody else, or by nobody.
    fn third_party_invite(&mut self, sender: &'static str, target: &str) -> What {
        let mxid = if self.dice.roll(4) > 0 {
            target
        } else {
            self.dice.pick(&USERS)
        };
        let mut signed = object(json!({"mxid": mxid, "token": self.token(sender)}));
        let server = ServerName::parse("third.org").unwrap();
        sign_json(&mut signed, &server, &third_party()).unwrap();
        if self.dice.roll(5) == 0 {
            signed.insert("token".into(), self.token(sender).into());
        }
        let mut invite = member(target, "invite");
        invite.content["third_party_invite"] = json!({"display_name": "x", "signed": signed});
        if self.dice.roll(8) == 0 {
            invite.content["third_party_invite"] = json!({});
        }
        invite
    }

    /// A level in one of the forms that the version knows.
    fn level(&mut self, levels: &[i64]) -> Value {
        let level = self.dice.pick(levels);
        if self.version >= 10 || self.dice.roll(4) > 0 {
            return json!(level);
        }
        json!(self.dice.pick(&["", "+", " ", "00"]).to_owned() + &level.to_string())
    }

    fn levels(&mut self) -> Value {
        let mut users = json!({});
        for user in USERS {
            if self.dice.roll(3) > 0 {
                users[user] = self.level(&[0, 10, 50, 50, 100]);
            }
        }
        let mut content = json!({
            "users": users,
            "kick": self.level(&[0, 50, 60]),
            "events": {"m.room.topic": self.level(&[0, 50])},
            "users_default": self.level(&[0, 0, 10]),
            "invite": self.level(&[0, 20]),
            "notifications": {"room": self.level(&[50, 50, 60])},
        });
        if !self.tame {
            let field = self.dice.pick(&[
                "ban",
                "kick",
                "redact",
                "state_default",
                "invite",
                "users",
                "events",
            ]);
            match self.dice.roll(4) {
                0 => content[field] = json!(self.dice.pick(&["x", "5.5", "+-1"])),
                1 => content[field] = Value::Null,
                2 => drop(content.as_object_mut().unwrap().remove(field)),
                _ => content[field] = json!(self.dice.roll(100)),
            }
        }
        content
    }
}

fn rooms() -> u64 {
    std::env::var("RHIZOME_RANDOM_ROOMS").map_or(60, |count| {
        count.parse().expect("RHIZOME_RANDOM_ROOMS is a number")
    })
}

fn play_all(version: &'static str) {
    let mut count = Count::default();
    let first_seed = version.parse::<u64>().unwrap() * 100_000_000;
    for seed in first_seed..first_seed + rooms() {
        let scenario = scenario(version, seed, &[]);
        let Ok(more) = scenario.play() else {
            panic!("seed {seed}: {}", scenario.shrink().tell());
        };
        count.add(more);
    }
    println!(
        "version {version}: {} rooms, {} merges of different states, {} decisions",
        rooms(),
        count.merges,
        count.decisions
    );
    assert!(
        count.merges as u64 > rooms() * 5,
        "{} merges of different states prove little",
        count.merges
    );
}

/// One test per version, so that they run side by side.
macro_rules! random_rooms {
    ($($test:ident = $at:literal),*) => { $(
        #[test]
        fn $test() {
            play_all(VERSIONS[$at - 1]);
        }
    )* };
}

random_rooms!(
    v1 = 1,
    v2 = 2,
    v3 = 3,
    v4 = 4,
    v5 = 5,
    v6 = 6,
    v7 = 7,
    v8 = 8,
    v9 = 9,
    v10 = 10,
    v11 = 11,
    v12 = 12
);
