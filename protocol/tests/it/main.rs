//! The room model as a whole: named stories, and other implementations as oracles.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod oracle;
mod random;
mod resolve;
mod room;
mod signatures;
