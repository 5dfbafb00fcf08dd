//! The `rhizome` binary's parts, with a library face for its tests: configuration, listeners,
//! wiring and supervised tasks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cli;
pub mod config;
mod demo;
mod http;
mod metrics;
pub mod server;
pub mod tasks;
mod tls;
