//! Events that are sticky
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)): until when they are.

use rhizome_protocol::Pdu;
use rhizome_storage::{Fact, NewEvent, RoomWrite, Status, Sticky, WriteSet};

use crate::{Rooms, error::Result};

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
    for (event, pdu, allowed) in sticky {
        let Some(expires_ms) = expires_ms(pdu, rooms.store().clock().now_ms()) else {
            continue;
        };
        let sender = rooms.store().user_no(pdu.sender()).await?;
        facts.push(Fact::from(Sticky {
            event,
            room: write.room,
            sender,
            expires_ms,
            allowed,
        }));
    }
    Ok(WriteSet {
        rooms: vec![write],
        facts,
    })
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
