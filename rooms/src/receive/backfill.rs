//! History from before what we have.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu, auth,
    power::{Action, Level, Power},
    topological::by_prev_events,
};
use rhizome_storage::{Placement, Redacts, RoomHead, RoomNo};
use ruma::{OwnedEventId, RoomId};

use super::{Gathered, How, KeepRefused, Need, Received, admit, place::view_of};
use crate::{Rooms, error::Result, send::known_room, state::Resolved};

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
/// What doesn't lead to where the room's history has a hole is left out: it isn't known to be history.
///
/// The state before the oldest of them comes from `gathered`; without it they are named in `needs`, as is
/// whatever descends from them. Mostly neither extremities nor the current state change. But a hole may lie
/// after what we have seen of the room; what then follows an extremity has happened since, and counts.
pub async fn backfilled(
    rooms: &Rooms,
    room_id: &RoomId,
    mut pdus: Vec<Arc<Pdu>>,
    gathered: &Gathered,
) -> Result<Backfilled> {
    let head = known_room(rooms, room_id).await?;
    let mut report = Backfilled::default();
    pdus.retain(|pdu| pdu.room_id() == room_id);
    let pdus = by_prev_events(&pdus);
    let depths = depths(rooms, head.room, &pdus).await?;
    let ends = head.extremities.iter();
    let mut since: HashSet<OwnedEventId> = ends.map(|end| end.event_id.clone()).collect();
    for pdu in pdus {
        let id = pdu.event_id().to_owned();
        let Some(depth) = depths.get(&id).copied() else {
            continue;
        };
        let counts = pdu.prev_events().iter().any(|prev| since.contains(prev));
        let how = How {
            placement: Placement::Backfilled,
            counts,
            relay: false,
            depth: Some(depth),
            keep_refused: KeepRefused::Always,
        };
        let outcome = admit(rooms, pdu, gathered, how).await?;
        if counts && !matches!(outcome, Received::Need(_)) {
            since.insert(id.clone());
        }
        match outcome {
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
/// says. `pdus` have parents before their children; those that no hole leads to have no place.
async fn depths(
    rooms: &Rooms,
    room: RoomNo,
    pdus: &[Arc<Pdu>],
) -> Result<HashMap<OwnedEventId, i64>> {
    let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let mut after = rooms.store().depths_after(room, &ids).await?;
    let mut depths = HashMap::with_capacity(ids.len());
    for (pdu, id) in pdus.iter().zip(ids).rev() {
        let Some(ceiling) = after.get(&id) else {
            continue;
        };
        let depth = ceiling.saturating_sub(1).min(pdu.depth());
        for prev in pdu.prev_events() {
            let known = after.entry(prev.clone()).or_insert(depth);
            *known = depth.min(*known);
        }
        depths.insert(id, depth);
    }
    Ok(depths)
}

/// What a redaction from history takes effect on. With the state before it of another server's choice, its
/// sender may have had any power: on the events of other servers it needs what the room grants today.
pub(crate) async fn redacts_now(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    redacts: Redacts,
) -> Result<Redacts> {
    if redacts.only_from.is_some() {
        return Ok(redacts);
    }
    let current = Resolved::stored_or_empty(head.snapshot);
    let view = view_of(rooms, &current, pdu).await?;
    let power = Power::of(pdu.rules(), &view);
    let any = power.user(pdu.sender()) >= Level::Int(power.action(Action::Redact))
        && auth::authorize(pdu, &view).is_ok();
    Ok(Redacts {
        only_from: (!any).then(|| pdu.sender().server_name().to_owned()),
        ..redacts
    })
}
