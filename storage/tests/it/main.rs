//! The store on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod collect;
mod commit;
mod factory;
mod facts;
mod given;
mod hostile;
mod log;
mod processes;
mod redaction;
mod restored;
mod state;
mod throughput;
