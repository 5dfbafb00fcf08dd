//! What becomes of valid files, and of children that misbehave.

#![allow(clippy::unwrap_used)]

#[path = "../make/mod.rs"]
mod make;

mod children;
mod mutated;
mod odd;
mod stripped;
mod thumbnails;
