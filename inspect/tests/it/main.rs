//! What is told of rooms, on both databases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_imports,
    clippy::too_many_lines,
    reason = "stories"
)]

mod inspecting;
mod recomputing;
#[allow(dead_code, reason = "the tests of rooms use all of it")]
#[path = "../../../rooms/tests/it/rig.rs"]
mod rig;
