//! Events from other servers: what is missing, what came before, and whether they may be believed.

pub mod backfill;
pub(crate) mod gather;
pub mod moment;
pub mod relationships;
pub(crate) mod verify;

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use serde_json::value::RawValue;

use self::gather::{Lacking, Once, Servers};
use crate::keyed::Keyed;

/// What is known in memory of fetching from other servers.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    /// Rooms whose history is being fetched: one request at a time.
    backfills: Keyed<OwnedRoomId>,
    /// Events before which something is being fetched: others wait, and find it.
    gaps: Keyed<OwnedEventId>,
    /// Single events that are being asked for, and of whom.
    asked: Once<(OwnedServerName, OwnedEventId), Option<Box<RawValue>>>,
    /// What servers that were asked lacked.
    lacking: Lacking,
    /// Servers that were asked for what is missing.
    pub(crate) servers: Servers,
}
