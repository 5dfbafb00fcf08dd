//! Files, on both databases, on a disk and in a bucket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::large_futures,
    missing_docs
)]

mod blur;
mod bucket;
mod care;
mod crash;
mod crash_resumed;
mod held;
mod pending;
mod pictures;
mod remote;
mod resumable;
mod resumable_limits;
mod room;
mod s3;
mod scanner;
mod stills;
mod stores;
mod upload;
mod world;
