//! Chaos: people on three to five servers do what they like while ways are cut, slow and forgetful, servers are killed and
//! started again, and clocks differ. When all is well again everybody agrees: servers on the events and the state of each
//! room that they are in together, and clients on what they were told.
//!
//! A story follows from its number (`story`); one that goes wrong is told again with less and less of it (`tell`,
//! `shrink`), and its shortest form is printed. `RHIZOME_CHAOS_SEEDS=1000` tells a thousand, `RHIZOME_CHAOS_SEED=7` the
//! seventh alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod acts;
mod agree;
mod devices;
mod panics;
#[path = "../it/random.rs"]
mod random;
mod rooms;
mod shrink;
mod site;
mod story;
mod tell;
mod view;
mod weather;
mod world;

use std::time::Duration;

use self::{
    story::{Act, Step, Story},
    tell::{How, tell},
};

#[test]
fn whatever_happens_everybody_agrees_in_the_end_on_sqlite() {
    tell::all(false);
}

#[test]
fn whatever_happens_everybody_agrees_in_the_end_on_postgres() {
    tell::all(true);
}

/// Ben comes to Ann's room, Ann says something in it, and writes to Ben.
fn short() -> Story {
    let ann = |act| Step::Act { who: 0, act };
    let ben = Act::Join { room: 0, via: 0 };
    Story {
        seed: 0,
        servers: 3,
        versions: ["11", "12", "10"],
        steps: vec![
            Step::Act { who: 1, act: ben },
            ann(Act::Say(0)),
            ann(Act::Write(1)),
        ],
    }
}

/// What is told of a story in which something never gets to Ben's server.
fn without(words: &'static str) -> String {
    let how = How {
        postgres: false,
        patience: Duration::from_secs(2),
        withheld: Some(words),
    };
    let failure = tell(&short(), how).expect_err("it is noticed");
    assert_eq!(failure.came.len(), short().steps.len());
    failure.why
}

#[test]
fn an_event_that_never_arrives_is_noticed() {
    let why = without("the words of say1");
    assert!(why.contains("room 0: b.example lacks $"), "{why}");
}

#[test]
fn a_message_that_never_arrives_is_noticed() {
    let why = without("org.example.note");
    assert!(
        why.contains("@ben:b.example has heard [] of @ann:a.example, not [2]"),
        "{why}"
    );
}
