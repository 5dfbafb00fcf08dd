//! What happens in a story: made from a number, and readable line by line.

use std::fmt::{self, Display, Formatter};

use crate::random::Random;

/// Who is there. They live on the servers in turn.
pub const NAMES: [&str; 6] = ["ann", "ben", "cat", "dan", "eve", "fay"];
/// How many rooms there are; the first is made by the first person, and so on.
pub const ROOMS: usize = 3;
/// How much happens once people have come into the rooms.
const STEPS: usize = 40;
/// Of which versions the rooms are.
const VERSIONS: [&str; 8] = ["12", "11", "10", "12", "6", "11", "3", "1"];
/// The state that everybody may set.
pub const KINDS: [&str; 3] = ["m.room.topic", "m.room.name", "org.example.thing"];
const LEVELS: [i64; 4] = [0, 50, 50, 100];
const WAYS: [Way; 8] = [
    Way::Open,
    Way::Cut,
    Way::Cut,
    Way::Slow,
    Way::Late,
    Way::Late,
    Way::Doubled,
    Way::Deaf,
];

/// A story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    pub seed: u64,
    pub servers: usize,
    pub versions: [&'static str; ROOMS],
    pub steps: Vec<Step>,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A person does something.
    Act { who: usize, act: Act },
    /// What one server sends to another goes so from now on.
    Way { from: usize, to: usize, way: Way },
    /// A server ends without a word.
    Kill(usize),
    /// Those that have ended start again, from their files.
    Restart,
    /// A server's clock is set forward.
    Clock { server: usize, seconds: u64 },
    /// Time goes by for everybody.
    Pass(u64),
}

/// What a person does. Others and rooms go by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Say(usize),
    /// Sets one of [`KINDS`].
    Set {
        room: usize,
        kind: usize,
        key: usize,
    },
    Join {
        room: usize,
        via: usize,
    },
    Leave(usize),
    Member {
        room: usize,
        whom: usize,
        verb: &'static str,
    },
    /// Redacts what was said so many messages ago.
    Redact {
        room: usize,
        back: usize,
    },
    Power {
        room: usize,
        whom: usize,
        level: i64,
    },
    Upload,
    /// Gets what was uploaded so many files ago.
    Fetch(usize),
    /// Logs in once more, or out again.
    Device,
    /// Writes to another's device.
    Write(usize),
    /// Hears what is new.
    Look,
}

/// How requests of one server to another go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    #[default]
    Open,
    /// None arrives.
    Cut,
    /// Transactions take their time.
    Slow,
    /// Transactions seem lost, and come after those that were sent later.
    Late,
    /// Transactions come twice.
    Doubled,
    /// Answers are lost.
    Deaf,
}

/// How servers come into rooms of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// They are told the whole of it first.
    Whole,
    /// Before its members are known.
    Partial,
}

impl Story {
    /// How the servers of this story join: in every second it is before members are known.
    pub fn joins(&self) -> Joins {
        if self.seed.is_multiple_of(2) {
            Joins::Whole
        } else {
            Joins::Partial
        }
    }

    /// The story with this number.
    pub fn of(seed: u64) -> Self {
        let mut chance = Random(seed);
        // What neighbours draw first is alike.
        for _ in 0..8 {
            chance.below(2);
        }
        let servers = match seed % 8 {
            3 => 4,
            7 => 5,
            _ => 3,
        };
        let versions = std::array::from_fn(|_| VERSIONS[chance.below(VERSIONS.len())]);
        let mut steps = Vec::new();
        for room in 0..ROOMS {
            for who in (0..NAMES.len()).filter(|who| *who != room) {
                let via = room % servers;
                let act = Act::Join { room, via };
                if chance.below(4) > 0 {
                    steps.push(Step::Act { who, act });
                }
            }
        }
        steps.extend((0..STEPS).map(|_| step(&mut chance, servers)));
        Self {
            seed,
            servers,
            versions,
            steps,
        }
    }
}

fn step(chance: &mut Random, servers: usize) -> Step {
    match chance.below(24) {
        0..=3 => {
            let from = chance.below(servers);
            let to = (from + 1 + chance.below(servers - 1)) % servers;
            let way = WAYS[chance.below(WAYS.len())];
            Step::Way { from, to, way }
        }
        4 => Step::Kill(chance.below(servers)),
        5 => Step::Restart,
        6 => Step::Pass([5, 60][chance.below(2)]),
        7 if chance.below(2) == 0 => Step::Clock {
            server: chance.below(servers),
            seconds: [30, 600, 7_200][chance.below(3)],
        },
        _ => {
            let act = act(chance, servers);
            let who = match act {
                // Few others may.
                Act::Member { room, .. } | Act::Power { room, .. } if chance.below(3) > 0 => room,
                _ => chance.below(NAMES.len()),
            };
            Step::Act { who, act }
        }
    }
}

fn act(chance: &mut Random, servers: usize) -> Act {
    let (room, whom) = (chance.below(ROOMS), chance.below(NAMES.len()));
    match chance.below(34) {
        0..=8 => Act::Say(room),
        9..=13 => Act::Set {
            room,
            kind: chance.below(KINDS.len()),
            key: chance.below(2),
        },
        14..=16 => Act::Join {
            room,
            via: chance.below(servers),
        },
        17 | 18 => Act::Leave(room),
        19..=21 => Act::Member {
            room,
            whom,
            verb: ["invite", "kick", "ban", "unban"][chance.below(4)],
        },
        22 | 23 => Act::Redact {
            room,
            back: chance.below(6),
        },
        24 => Act::Power {
            room,
            whom,
            level: LEVELS[chance.below(LEVELS.len())],
        },
        25 => Act::Upload,
        26 => Act::Fetch(chance.below(4)),
        27 => Act::Device,
        28..=30 => Act::Write(whom),
        _ => Act::Look,
    }
}

/// What a server is called.
pub fn server_name(index: usize) -> String {
    let letter = u8::try_from(index).map_or('z', |index| char::from(b'a' + index));
    format!("{letter}.example")
}

impl Display for Story {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (servers, versions) = (self.servers, self.versions.join(", "));
        writeln!(f, "{servers} servers; rooms of versions {versions}.")?;
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "{n:4}  {step}")?;
        }
        Ok(())
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Act { who, act } => write!(f, "{} {act}", NAMES[who]),
            Self::Way { from, to, way } => {
                let (from, to) = (server_name(from), server_name(to));
                write!(f, "from {from} to {to}: {way}")
            }
            Self::Kill(server) => write!(f, "{} is killed", server_name(server)),
            Self::Restart => write!(f, "who was killed starts again"),
            Self::Clock { server, seconds } => {
                let server = server_name(server);
                write!(f, "the clock of {server} is set forward by {seconds} s")
            }
            Self::Pass(seconds) => write!(f, "{seconds} s go by"),
        }
    }
}

impl Display for Act {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Say(room) => write!(f, "says something in room {room}"),
            Self::Set { room, kind, key } => {
                write!(f, "sets {} ({key}) in room {room}", KINDS[kind])
            }
            Self::Join { room, via } => write!(f, "joins room {room} via {}", server_name(via)),
            Self::Leave(room) => write!(f, "leaves room {room}"),
            Self::Member { room, whom, verb } => {
                write!(f, "{verb}s {} in room {room}", NAMES[whom])
            }
            Self::Redact { room, back } => {
                write!(f, "redacts the last message but {back} of room {room}")
            }
            Self::Power { room, whom, level } => {
                write!(f, "gives {} power {level} in room {room}", NAMES[whom])
            }
            Self::Upload => write!(f, "uploads a file"),
            Self::Fetch(back) => write!(f, "gets the last file but {back}"),
            Self::Device => write!(f, "logs in or out at another device"),
            Self::Write(whom) => write!(f, "writes to the device of {}", NAMES[whom]),
            Self::Look => write!(f, "looks"),
        }
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "all arrives",
            Self::Cut => "nothing arrives",
            Self::Slow => "transactions take their time",
            Self::Late => "transactions seem lost and come later",
            Self::Doubled => "transactions come twice",
            Self::Deaf => "answers are lost",
        })
    }
}

#[test]
fn a_number_stands_for_a_story() {
    assert_eq!(Story::of(7), Story::of(7));
    assert_ne!(Story::of(7).steps, Story::of(8).steps);
    let told = Story::of(7).to_string();
    assert_eq!(told.lines().count(), 1 + Story::of(7).steps.len(), "{told}");
}
