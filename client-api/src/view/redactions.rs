//! Redactions that clients aren't shown: those that have no effect, or none yet (room versions from 3 on,
//! "Handling redactions").
//!
//! Whether one has taken effect stands at its target, which is redacted in the commit that brings the later
//! of the two. So nothing is remembered of redactions that wait, and other events cost nothing.

use std::sync::Arc;

use rhizome_protocol::{
    Pdu,
    power::{Action, Power},
};
use rhizome_storage::{Status, Store, StoredEvent};

use crate::MatrixError;

/// Whether an event is a redaction that isn't applied: its target is unknown, or of another room, or not
/// its sender's to redact.
pub async fn withheld(store: &Store, event: &StoredEvent) -> Result<bool, MatrixError> {
    if event.pdu.kind() != "m.room.redaction" {
        return Ok(false);
    }
    let Some(target) = event.pdu.redacts() else {
        // One that was redacted itself has lost its target. It says nothing, and how it came to that is told.
        return Ok(event.redacted_by.is_none());
    };
    let Some(target) = store.event(target).await? else {
        // In old versions the authorisation rules have judged it, whatever it names.
        return Ok(!event.pdu.rules().auth.special_redaction);
    };
    if target.room != event.room || target.status == Status::Rejected {
        return Ok(true);
    }
    match target.redacted_by {
        None => Ok(true),
        Some(by) if by == event.no => Ok(false),
        // Somebody else was first.
        Some(_) => Ok(!would_apply(store, event, &target).await?),
    }
}

async fn would_apply(
    store: &Store,
    event: &StoredEvent,
    target: &StoredEvent,
) -> Result<bool, MatrixError> {
    let rules = event.pdu.rules();
    let sender = event.pdu.sender();
    // 2. The domain of the redaction's sender matches that of the original event's sender.
    let same_server = sender.server_name() == target.pdu.sender().server_name();
    if rules.auth.special_redaction || same_server {
        return Ok(true);
    }
    // 1. The power level of the redaction's sender is at least the redact level.
    let Some(before) = event.state_before else {
        return Ok(false);
    };
    let keys = [("m.room.create", ""), ("m.room.power_levels", "")];
    let found = store.state_entries(before, &keys).await?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    let events = store.events_by_no(&found).await?;
    let state: Vec<Arc<Pdu>> = events.iter().map(|event| event.pdu.clone()).collect();
    Ok(Power::of(rules, &state).may(sender, Action::Redact))
}
