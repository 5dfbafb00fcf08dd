//! Stories of clients, told to the whole client API over a real store. Each runs on both databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod account_data;
mod accounts;
mod asking;
mod doors;
mod gaps;
mod harness;
mod http;
mod mangled;
mod profiles;
mod push_rules;
mod reading;
mod rooms;
mod stream;
mod sync;
mod sync_truth;
mod together;
mod visibility;
