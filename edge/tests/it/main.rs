//! The door with made-up endpoints: whatever doesn't depend on what is behind it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod bodies;
mod callers;
mod hangup;
mod routes;
mod support;
