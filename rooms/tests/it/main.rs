//! Stories of rooms, on both databases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cloned_ref_to_slice_refs,
    clippy::wildcard_imports,
    clippy::too_many_lines,
    reason = "stories"
)]

mod access;
mod asking;
mod creating;
mod ends;
mod forks;
mod holes;
mod hostile;
mod line;
mod loose_ends;
mod mangled;
mod processes;
mod reading;
mod remote;
mod rig;
mod sending;
mod states_before;
mod stories;
