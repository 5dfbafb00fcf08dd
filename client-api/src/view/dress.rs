//! What a reader's copy of an event quotes: the state that it replaced, and its redaction.

use std::{collections::HashMap, sync::Arc};

use rhizome_rooms::access::{self, EventAccess, Standing};
use rhizome_storage::{EventNo, Store, StoredEvent};

use crate::{
    MatrixError,
    view::seen::{Seen, Viewer},
};

/// Those of `events` that the reader may see, in the same order, dressed.
pub async fn visible(
    store: &Store,
    viewer: &Viewer,
    standing: &Standing,
    events: Vec<Arc<StoredEvent>>,
) -> Result<Vec<Seen>, MatrixError> {
    let mut access = EventAccess::new(store, &viewer.user_id, *standing);
    access.load(&events).await?;
    let judged = events.into_iter().filter_map(|event| {
        let verdict = access.judge(&event);
        Seen::of(event, verdict)
    });
    let mut seen: Vec<Seen> = judged.collect();
    dress(store, &mut seen).await?;
    Ok(seen)
}

/// State events for a reader who may see the state as a whole.
pub async fn as_state(
    store: &Store,
    events: Vec<Arc<StoredEvent>>,
) -> Result<Vec<Seen>, MatrixError> {
    let unapplied = access::unapplied(store, &events).await?;
    let shown = events
        .into_iter()
        .filter(|event| !unapplied.contains(&event.no));
    let mut seen: Vec<Seen> = shown.map(Seen::of_state).collect();
    quote(store, &mut seen, &[]).await?;
    Ok(seen)
}

/// Events for an application service, which sees all of the rooms that interest it (application service API,
/// "Pushing events"), but for redactions that aren't applied. In the same order, dressed.
pub async fn for_service(
    store: &Store,
    events: Vec<Arc<StoredEvent>>,
) -> Result<Vec<Seen>, MatrixError> {
    let unapplied = access::unapplied(store, &events).await?;
    let shown = events.into_iter();
    let shown = shown.filter(|event| !unapplied.contains(&event.no));
    let mut seen: Vec<Seen> = shown.map(Seen::of_state).collect();
    dress(store, &mut seen).await?;
    Ok(seen)
}

/// Looks up what `unsigned` quotes.
pub async fn dress(store: &Store, seen: &mut [Seen]) -> Result<(), MatrixError> {
    let replaced = if seen.iter().any(|one| one.event.pdu.state_key().is_some()) {
        access::replaced(store, seen.iter().map(|one| &one.event)).await?
    } else {
        Vec::new()
    };
    quote(store, seen, &replaced).await
}

/// Loads all the events that are quoted at once. `replaced`: the state that each replaced, or nothing.
async fn quote(
    store: &Store,
    seen: &mut [Seen],
    replaced: &[Option<EventNo>],
) -> Result<(), MatrixError> {
    let redactions = seen.iter().filter_map(|one| one.event.redacted_by);
    let mut nos: Vec<EventNo> = redactions
        .chain(replaced.iter().flatten().copied())
        .collect();
    if nos.is_empty() {
        return Ok(());
    }
    nos.sort_unstable();
    nos.dedup();
    let events = store.events_by_no(&nos).await?;
    let events: HashMap<EventNo, Arc<StoredEvent>> =
        events.into_iter().map(|event| (event.no, event)).collect();
    let replaced = replaced.iter().copied().chain(std::iter::repeat(None));
    for (one, replaced) in seen.iter_mut().zip(replaced) {
        let get = |no: Option<EventNo>| events.get(&no?).cloned();
        one.replaced = get(replaced);
        one.redaction = get(one.event.redacted_by);
    }
    Ok(())
}
