//! The whole server, through its public face: starting and stopping, the command line, two servers
//! that talk, and the demo.
//!
//! Flows run on SQLite and on PostgreSQL (`RHIZOME_TEST_POSTGRES`, see `scripts/with-postgres`).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod away;
mod bench;
mod cli;
mod cli_appservice;
mod cli_federation;
mod cli_keys;
mod cli_registration;
mod database;
mod decode;
mod demo;
mod files;
mod front;
mod harness;
mod inspect;
mod metrics;
mod serve;
mod talk;
mod users;
