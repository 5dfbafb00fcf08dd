//! Events from other servers: what is missing, what came before, and whether they may be believed.

pub mod backfill;
pub(crate) mod gather;
pub mod moment;
pub mod relationships;
pub(crate) mod verify;

use ruma::OwnedRoomId;

use self::gather::Servers;
use crate::keyed::Keyed;

/// What is known in memory of fetching from other servers.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    /// Rooms whose history is being fetched: one request at a time.
    backfills: Keyed<OwnedRoomId>,
    /// Servers that were asked for what is missing.
    pub(crate) servers: Servers,
}
