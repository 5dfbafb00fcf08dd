//! Files that want harm: each ends as a clean error or a clean picture, within its limits, in this process and in a
//! child.

#![allow(clippy::unwrap_used)]

#[path = "../make/mod.rs"]
mod make;

mod bombs;
mod liars;

use std::time::{Duration, Instant};

use rhizome_decoder::picture::{Accepts, Ask, Method, thumbnails};
use rhizome_decoder::strip::{self, strip};
use rhizome_decoder::{Decoders, Error, Excess, Fault, Limits, Program, Settings};

/// What is to come of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Thumbnails.
    Picture,
    NotAPicture,
    Broken,
    TooLarge(Excess),
    /// Either, as the decoder likes.
    BrokenOrPicture,
}

struct Evil {
    name: &'static str,
    file: Vec<u8>,
    end: End,
}

fn evil(name: &'static str, file: Vec<u8>, end: End) -> Evil {
    Evil { name, file, end }
}

fn all() -> Vec<Evil> {
    let mut all = bombs::all();
    all.extend(liars::all());
    all
}

fn asks() -> [Ask; 3] {
    let accepts = Accepts {
        webp: true,
        ..Accepts::default()
    };
    let ask = Ask {
        width: 32,
        height: 32,
        method: Method::Crop,
        animated: false,
        accepts,
    };
    [
        ask,
        Ask {
            animated: true,
            ..ask
        },
        Ask {
            method: Method::Scale,
            width: 320,
            height: 240,
            ..ask
        },
    ]
}

impl Evil {
    fn check(&self, outcome: Result<(), Fault>, where_it_was: &str) {
        let fits = match (&outcome, self.end) {
            (Ok(()), End::Picture | End::BrokenOrPicture)
            | (Err(Fault::NotAPicture), End::NotAPicture)
            | (Err(Fault::Broken(_)), End::Broken | End::BrokenOrPicture) => true,
            (Err(Fault::TooLarge(excess)), End::TooLarge(expected)) => *excess == expected,
            _ => false,
        };
        assert!(
            fits,
            "{} in {where_it_was}: {outcome:?} instead of {:?}",
            self.name, self.end
        );
    }
}

#[test]
fn each_ends_well_here() {
    for evil in all() {
        let start = Instant::now();
        let made = thumbnails(&evil.file, &asks(), true, &Limits::default());
        evil.check(made.map(|_| ()), "this process");
        match strip(&*evil.file, std::io::sink()) {
            Ok(_) | Err(strip::Error::Fault(_)) => {}
            Err(error) => panic!("{}: {error}", evil.name),
        }
        // Far from what a machine under load takes.
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{} took {:?}",
            evil.name,
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn each_ends_well_in_a_child() {
    let program = Program::Other(
        env!("CARGO_BIN_EXE_rhizome-decoder-misbehaves").into(),
        vec!["decode".into()],
    );
    let decoders = Decoders::new(Settings {
        program,
        ..Settings::default()
    });
    for evil in all() {
        let made = decoders.thumbnails(&*evil.file, &asks(), true).await;
        let outcome = match made {
            Ok(_) => Ok(()),
            Err(Error::Fault(fault)) => Err(fault),
            Err(other) => panic!("{}: {other}", evil.name),
        };
        evil.check(outcome, "a child");
        let mut out = Vec::new();
        match decoders.strip(&*evil.file, &mut out).await {
            Ok(told) => assert_eq!(told.written, out.len() as u64),
            Err(Error::Fault(_)) => {}
            Err(other) => panic!("{}: {other}", evil.name),
        }
    }
}

#[test]
fn nothing_is_allocated_for_a_header() {
    // Were it, this would fail at once: nothing has so much memory.
    let limits = Limits {
        pixels: u64::MAX,
        memory: 8 << 20,
        ..Limits::default()
    };
    for evil in all()
        .iter()
        .filter(|evil| evil.end == End::TooLarge(Excess::Pixels))
    {
        let made = thumbnails(&evil.file, &asks(), true, &limits);
        assert_eq!(
            made.unwrap_err(),
            Fault::TooLarge(Excess::Memory),
            "{}",
            evil.name
        );
    }
}
