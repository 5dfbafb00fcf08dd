//! Events that are sticky
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)): until when they are.

use std::collections::BTreeSet;

use rhizome_protocol::Pdu;
use rhizome_storage::{Fact, NewEvent, RoomNo, RoomWrite, Status, Sticky, UserNo, WriteSet};

use crate::{Rooms, error::Result};

/// How many events of a user in a room are sticky at a time: everybody there gets them, whatever else there is.
pub const MOST: usize = 100;
/// How many of those of other servers' users may be such as the room's state doesn't allow.
const MOST_REFUSED: usize = 10;

/// Until when an event that came at `received_ms` is sticky, if it is at all. Whoever says that it was made later
/// gains nothing.
pub fn expires_ms(pdu: &Pdu, received_ms: i64) -> Option<i64> {
    let start = received_ms.min(pdu.origin_server_ts());
    let expires = start.saturating_add(i64::from(pdu.sticky_ms()?));
    (expires > received_ms).then_some(expires)
}

/// A room's write with what it says of sticky events.
pub(crate) async fn with_sticky(rooms: &Rooms, write: RoomWrite) -> Result<WriteSet> {
    let restored = write
        .restored
        .iter()
        .map(|restored| (restored.no, &restored.pdu, true));
    let events = write.events.iter().filter_map(|event| {
        let allowed = is_allowed(event)?;
        Some((event.no, &event.pdu, allowed))
    });
    let sticky = events
        .chain(restored)
        .filter(|(_, pdu, _)| pdu.sticky_ms().is_some());
    let mut facts = Vec::new();
    let mut strangers = BTreeSet::new();
    for (event, pdu, allowed) in sticky {
        let Some(expires_ms) = expires_ms(pdu, rooms.store().clock().now_ms()) else {
            continue;
        };
        let sender = rooms.store().user_no(pdu.sender()).await?;
        if !rooms.is_local(pdu.sender()) {
            strangers.insert(sender);
        }
        facts.push(Sticky {
            event,
            room: write.room,
            sender,
            expires_ms,
            allowed,
        });
    }
    bound(rooms, write.room, &strangers, &mut facts).await?;
    Ok(WriteSet {
        rooms: vec![write],
        facts: facts.into_iter().map(Fact::from).collect(),
    })
}

/// Leaves out what users of other servers have too much of: those events are as any others. Ours are refused before they
/// are made.
async fn bound(
    rooms: &Rooms,
    room: RoomNo,
    strangers: &BTreeSet<UserNo>,
    facts: &mut Vec<Sticky>,
) -> Result<()> {
    if strangers.is_empty() {
        return Ok(());
    }
    let store = rooms.store();
    let whose: Vec<_> = strangers.iter().map(|user| (room, *user)).collect();
    let mut counts = store.sticky_counts(&whose, store.clock().now_ms()).await?;
    facts.retain(|fact| {
        if !strangers.contains(&fact.sender) {
            return true;
        }
        let (all, refused) = counts.entry((room, fact.sender)).or_default();
        if *all >= MOST || !fact.allowed && *refused >= MOST_REFUSED {
            return false;
        }
        *all += 1;
        *refused += usize::from(!fact.allowed);
        true
    });
    Ok(())
}

/// Whether the room's current state allows it; `None`: it is nothing of the room.
fn is_allowed(event: &NewEvent) -> Option<bool> {
    let placed = event.state_before.is_some();
    match event.status {
        Status::Accepted if placed => Some(true),
        Status::SoftFailed => Some(false),
        _ => None,
    }
}
