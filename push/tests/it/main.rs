//! Notifications over real connections, to services that check what they get.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod apns;
mod attempt;
mod fcm;
mod gateway;
mod service;
mod token;
mod webpush;
mod world;
