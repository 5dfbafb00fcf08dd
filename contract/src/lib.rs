//! Checks what tests send and get against the specification's OpenAPI files.
//!
//! A [`Watch`] stands over a server's router in tests and looks at each [`Exchange`]: is there such an operation; are
//! the variables of its path and query, its body and its access token as the operation wants them, or was the request
//! refused; is the answer's status one of the operation's or of those that any may give; is its body as described, or
//! an error with an `errcode`. What isn't fails the test, unless [`DEVIATIONS`] says why it is right. What our servers ask of
//! others that are made up by a test, and may answer anything, is [looked at](Watch::asked) by itself.
//!
//! `contract/data/` holds what the files say in a form of its own, without their prose; `scripts/contract` makes it.
//! The schemas are judged by a small evaluator here: these files use 15 keywords, the crate `jsonschema` brings 78
//! crates and half a minute of compile time for the rest.
//!
//! With `RHIZOME_CONTRACT_DIR`, test binaries leave there what they saw, and `cargo run -p rhizome-contract -- coverage`
//! makes `docs/coverage.md` of it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![allow(clippy::panic)]

mod answer;
mod check;
pub mod coverage;
mod deviations;
mod exchange;
mod probe;
mod schema;
mod specification;
mod watch;

pub use check::{Checked, Finding, Part};
pub use deviations::{Case, DEVIATIONS, Deviation};
pub use exchange::Exchange;
pub use probe::probe;
pub use specification::limited;
pub use watch::Watch;
