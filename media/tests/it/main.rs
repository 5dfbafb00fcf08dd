//! Files, on both databases, on a disk and in a bucket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::large_futures,
    missing_docs
)]

mod bucket;
mod care;
mod crash;
mod pending;
mod pictures;
mod remote;
mod s3;
mod scanner;
mod upload;
mod world;
