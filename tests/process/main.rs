//! Tests with real `rhizome` processes: killed, crashed at named points, and several on one database.
//!
//! Each runs on SQLite and on PostgreSQL (`RHIZOME_TEST_POSTGRES`, see `scripts/with-postgres`).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod backup;
mod balanced;
mod client;
mod cluster;
mod crash;
mod database;
mod delayed;
mod disk;
mod hostile;
mod hostile_requests;
mod load;
mod moved;
mod notified;
mod power;
mod process;
mod random;
mod renamed;
mod to_device;
