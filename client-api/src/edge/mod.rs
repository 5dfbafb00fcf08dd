//! What the door asks of the client API: who it is, and how much they may ask for.

mod door;
pub(crate) mod limits;
