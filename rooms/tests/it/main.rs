//! Stories of rooms, on both databases.

mod creating;
mod forks;
mod reading;
mod remote;
mod rig;
mod sending;
