//! Redactions that clients aren't shown: those that have no effect, or none yet (room versions from 3 on,
//! "Handling redactions").
//!
//! Whether one has taken effect stands at its target, which is redacted in the commit that brings the later
//! of the two. So nothing is remembered of redactions that wait, and other events cost nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu,
    power::{Action, Power},
};
use rhizome_storage::{EventNo, Status, Store, StoredEvent};
use ruma::OwnedEventId;

use crate::error::Result;

/// Whether an event is a redaction, whatever became of it.
pub(super) fn is_redaction(event: &StoredEvent) -> bool {
    event.pdu.kind() == "m.room.redaction"
}

/// Those of some events that are redactions which aren't applied: the target is unknown, or of another room, or
/// not their sender's to redact.
///
/// # Errors
///
/// Those of the database.
pub async fn unapplied<'e>(
    store: &Store,
    events: impl IntoIterator<Item = &'e Arc<StoredEvent>>,
) -> Result<HashSet<EventNo>> {
    let redactions: Vec<&Arc<StoredEvent>> = events
        .into_iter()
        .filter(|event| is_redaction(event))
        .collect();
    let mut unapplied = HashSet::new();
    if redactions.is_empty() {
        return Ok(unapplied);
    }
    let named: Vec<OwnedEventId> = redactions
        .iter()
        .filter_map(|event| event.pdu.redacts().map(ToOwned::to_owned))
        .collect();
    let targets = store.events(&named).await?;
    let targets: HashMap<_, _> = targets
        .iter()
        .map(|target| (target.pdu.event_id(), target))
        .collect();
    let mut open = Vec::new();
    for event in redactions {
        let target = match event.pdu.redacts() {
            None => Target::Lost,
            Some(id) => targets
                .get(id)
                .map_or(Target::Unknown, |target| Target::Stored(target)),
        };
        match judge(event, target) {
            Effect::Applied => {}
            Effect::None => drop(unapplied.insert(event.no)),
            Effect::OfPower => open.push(event),
        }
    }
    unapplied.extend(without_power(store, &open).await?);
    Ok(unapplied)
}

/// What a redaction does.
enum Effect {
    Applied,
    None,
    /// It applies if its sender may redact what others sent.
    OfPower,
}

/// What a redaction names.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// Nothing, any more: it was redacted itself.
    Lost,
    /// An event that we lack.
    Unknown,
    Stored(&'a StoredEvent),
}

/// Decides on a redaction.
fn judge(event: &StoredEvent, target: Target<'_>) -> Effect {
    let of = |applied| {
        if applied {
            Effect::Applied
        } else {
            Effect::None
        }
    };
    // In old versions the authorisation rules have judged it, whatever it names.
    let judged = event.pdu.rules().auth.special_redaction;
    let target = match target {
        // It says nothing, and how it came to that is told.
        Target::Lost => return of(event.redacted_by.is_some()),
        Target::Unknown => return of(judged),
        Target::Stored(target) => target,
    };
    if target.room != event.room || target.status == Status::Rejected {
        return Effect::None;
    }
    match target.redacted_by {
        None => Effect::None,
        Some(by) if by == event.no => Effect::Applied,
        // Somebody else was first. Would it apply?
        // 2. The domain of the redaction's sender matches that of the original event's sender.
        Some(_)
            if judged || event.pdu.sender().server_name() == target.pdu.sender().server_name() =>
        {
            Effect::Applied
        }
        // 1. The power level of the redaction's sender is at least the redact level.
        Some(_) => Effect::OfPower,
    }
}

/// Those of some redactions whose senders mayn't redact what others sent.
async fn without_power(store: &Store, redactions: &[&Arc<StoredEvent>]) -> Result<Vec<EventNo>> {
    let mut entries = Vec::new();
    for before in redactions.iter().filter_map(|event| event.state_before) {
        entries.push((before, "m.room.create", ""));
        entries.push((before, "m.room.power_levels", ""));
    }
    if redactions.is_empty() {
        return Ok(Vec::new());
    }
    let found = store.state_entries_at(&entries).await?;
    let nos: HashSet<EventNo> = found.iter().flatten().copied().collect();
    let nos: Vec<EventNo> = nos.into_iter().collect();
    let events: HashMap<EventNo, Arc<Pdu>> = store
        .events_by_no(&nos)
        .await?
        .iter()
        .map(|event| (event.no, event.pdu.clone()))
        .collect();
    let mut states = found.chunks(2);
    let mut without = Vec::new();
    for event in redactions {
        let state = event.state_before.and_then(|_| states.next());
        let may = state.is_some_and(|state| {
            let state = state.iter().flatten().filter_map(|no| events.get(no));
            let state: Vec<Arc<Pdu>> = state.cloned().collect();
            Power::of(event.pdu.rules(), &state).may(event.pdu.sender(), Action::Redact)
        });
        if !may {
            without.push(event.no);
        }
    }
    Ok(without)
}
