//! History from before what we have.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::Pdu;
use rhizome_storage::Placement;
use ruma::{OwnedEventId, RoomId};

use super::{Gathered, How, KeepRefused, Need, Received, admit, outliers::order_by};
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
    let pdus = order_by(pdus, |pdu| pdu.prev_events().to_vec());
    let depths = depths(rooms, &pdus).await?;
    for pdu in pdus {
        if pdu.room_id() != room_id {
            continue;
        }
        let id = pdu.event_id().to_owned();
        let how = How {
            placement: Placement::Backfilled,
            relay: false,
            depth: depths.get(&id).copied(),
            keep_refused: KeepRefused::Always,
        };
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

/// Where each of these belongs in the history: as deep as it says, but above what follows it, whatever it
/// says. `pdus` have parents before their children.
async fn depths(rooms: &Rooms, pdus: &[Arc<Pdu>]) -> Result<HashMap<OwnedEventId, i64>> {
    let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let mut after = rooms.store().depths_after(&ids).await?;
    let mut depths = HashMap::with_capacity(ids.len());
    for (pdu, id) in pdus.iter().zip(ids).rev() {
        let ceiling = after.get(&id).map(|depth| depth.saturating_sub(1));
        let depth = ceiling.unwrap_or(i64::MAX).min(pdu.depth());
        for prev in pdu.prev_events() {
            let known = after.entry(prev.clone()).or_insert(depth);
            *known = depth.min(*known);
        }
        depths.insert(id, depth);
    }
    Ok(depths)
}
