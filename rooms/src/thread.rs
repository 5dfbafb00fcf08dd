//! Threads: which one an event is in
//! (<https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts>).

use std::sync::Arc;

use rhizome_storage::{Store, StoredEvent};
use ruma::{EventId, OwnedEventId};

use crate::Error;

/// The name of what is in no thread.
pub const MAIN: &str = "main";

/// How far relations are followed, as the specification recommends.
const MAX_HOPS: usize = 3;

/// Whether a receipt for `event` may be one of the thread `thread`: `main`, or the id of a thread's root.
///
/// The root is in the main timeline, and is also what a thread that has nothing yet is read up to. So is what is
/// related to it otherwise: clients show it with the thread, and read the thread up to there.
pub async fn holds(store: &Store, event: &Arc<StoredEvent>, thread: &str) -> Result<bool, Error> {
    let root = root_of(store, event).await?;
    if thread == MAIN {
        return Ok(root.is_none());
    }
    if let Some(root) = root {
        return Ok(root == thread && in_same_room(store, event, &root).await?.is_some());
    }
    let mut at = event.clone();
    for _ in 0..=MAX_HOPS {
        if at.pdu.event_id() == thread {
            return Ok(true);
        }
        let parent = match relation(&at) {
            Some((_, to)) => in_same_room(store, event, &to).await?,
            None => None,
        };
        match parent {
            Some(parent) => at = parent,
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// The root of the thread that an event is in; `None` in the main timeline.
pub async fn root_of(
    store: &Store,
    event: &Arc<StoredEvent>,
) -> Result<Option<OwnedEventId>, Error> {
    let mut at = event.clone();
    for _ in 0..=MAX_HOPS {
        let Some((kind, to)) = relation(&at) else {
            return Ok(None);
        };
        if kind == "m.thread" {
            return Ok(Some(to));
        }
        match in_same_room(store, event, &to).await? {
            Some(parent) => at = parent,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// What an event says of its relation: the type, and to what.
fn relation(event: &StoredEvent) -> Option<(&str, OwnedEventId)> {
    let relates_to = event.pdu.content_field("m.relates_to")?;
    let text = |key: &str| relates_to.get(key)?.as_str();
    let to = EventId::parse(text("event_id")?).ok()?;
    Some((text("rel_type")?, to))
}

/// An event of the same room's history.
async fn in_same_room(
    store: &Store,
    event: &StoredEvent,
    id: &EventId,
) -> Result<Option<Arc<StoredEvent>>, Error> {
    let found = store.event(id).await?;
    Ok(found.filter(|found| found.room == event.room && found.is_history()))
}
