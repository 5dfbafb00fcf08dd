//! Stories of clients, told to the whole client API over a real store. Each runs on both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod harness;
mod reading;
mod stream;
mod sync;
