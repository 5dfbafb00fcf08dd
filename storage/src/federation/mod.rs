//! What is kept for and about other servers.

pub(crate) mod destination;
pub(crate) mod destination_pages;
pub(crate) mod destinations;
pub(crate) mod devices;
pub(crate) mod inbound;
pub(crate) mod inbox;
pub(crate) mod joins;
pub(crate) mod keys;
pub(crate) mod known_destinations;
pub(crate) mod outbound;
pub(crate) mod partial;
