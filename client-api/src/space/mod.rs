//! What is told of rooms from outside, and what spaces hold.

pub(crate) mod hierarchy;
mod known;
mod place;
pub(crate) mod summary;
mod walk;
