//! Where the history that we have of a room has gaps.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{EventNo, Store, StoredEvent};
use ruma::{EventId, OwnedEventId};

use crate::{MatrixError, view::seen::Viewer};

/// Those of some events of a room's history before which the history that we have has a gap, with the
/// events that we lack there.
///
/// Without a look at the database for what this server has built on its own history, or on what is
/// among the events: the warm path of `/sync`.
pub async fn gaps_before(
    store: &Store,
    viewer: &Viewer,
    events: &[Arc<StoredEvent>],
) -> Result<HashMap<EventNo, Vec<OwnedEventId>>, MatrixError> {
    // A join is built on what the server that let us in told.
    let foreign = |event: &&Arc<StoredEvent>| {
        event.pdu.sender().server_name() != viewer.user_id.server_name()
            || event.pdu.kind() == "m.room.member"
    };
    let Some(first) = events.iter().find(foreign) else {
        return Ok(HashMap::new());
    };
    let here: HashSet<&EventId> = events.iter().map(|event| event.pdu.event_id()).collect();
    let suspects: Vec<EventNo> = events
        .iter()
        .filter(foreign)
        .filter(|event| {
            let mut prevs = event.pdu.prev_events().iter();
            !prevs.all(|prev| here.contains(&**prev))
        })
        .map(|event| event.no)
        .collect();
    Ok(store.gaps_before(first.room, &suspects).await?)
}
