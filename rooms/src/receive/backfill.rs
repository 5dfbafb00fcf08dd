//! History from before what we have.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::Pdu;
use rhizome_storage::Placement;
use ruma::{OwnedEventId, RoomId};

use super::{Gathered, How, Need, Received, admit, outliers::order_by};
use crate::{Rooms, error::Result, send::known_room};

/// What became of a page of history.
#[derive(Debug, Clone, Default)]
pub struct Backfilled {
    /// New history.
    pub accepted: Vec<OwnedEventId>,
    /// Stored, but not allowed.
    pub rejected: Vec<OwnedEventId>,
    /// Not stored, and what each would need.
    pub needs: HashMap<OwnedEventId, Need>,
}

/// Stores history from before what we have: events that another server's `/backfill` gave, in any order.
///
/// The state before the oldest of them comes from `gathered`; without it they are named in `needs`, as is
/// whatever descends from them. Neither extremities nor the current state change.
pub async fn backfilled(
    rooms: &Rooms,
    room_id: &RoomId,
    pdus: Vec<Arc<Pdu>>,
    gathered: &Gathered,
) -> Result<Backfilled> {
    known_room(rooms, room_id).await?;
    let mut report = Backfilled::default();
    let how = How {
        placement: Placement::Backfilled,
        relay: false,
    };
    for pdu in order_by(pdus, |pdu| pdu.prev_events().to_vec()) {
        if pdu.room_id() != room_id {
            continue;
        }
        let id = pdu.event_id().to_owned();
        match admit(rooms, pdu, gathered, how).await? {
            Received::Accepted => report.accepted.push(id),
            Received::Rejected(_) | Received::SoftFailed(_) => report.rejected.push(id),
            Received::Known => {}
            Received::Need(need) => {
                report.needs.insert(id, need);
            }
        }
    }
    Ok(report)
}
