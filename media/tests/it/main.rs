//! Files, on both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod care;
mod crash;
mod pending;
mod pictures;
mod remote;
mod upload;
mod world;
