//! Whole copies of events that came mangled.
//!
//! An event whose content is not what its hash says goes on redacted, as the specification wants it. Anybody may
//! have mangled it on its way, and been quicker than its own server. So when a copy comes whose hash holds, it takes
//! the place of what is stored: the event keeps its number, its place and the states around it, while all that is
//! read from now on, and all that is decided, has its content. What a redaction took away doesn't come back so.
//!
//! The content is decided upon by what its redacted form was decided upon. Where that doesn't allow it, what is
//! stored stays: the room has gone on from there.

use std::sync::Arc;

use rhizome_protocol::{Pdu, Rejection, auth};
use rhizome_storage::{
    CommitError, CurrentState, KeyNo, Placement, Redacts, Restored, RoomHead, RoomWrite,
    StateChange, Status, StoredEvent,
};

use super::{
    backfill::redacts_now,
    checks::{allowed_by_auth_events, auth_events_of, completes},
    only,
    place::{narrowed, redacts, view_of},
};
use crate::{
    Error, Rooms,
    error::Result,
    send::{commit_error, known_room, queue::Warm, tries::Tries},
    state::Resolved,
    sticky::with_sticky,
};

/// Gives a stored event, which isn't rejected, the content that `pdu` [`completes`](super::checks::completes) it with, if that is allowed.
pub(super) async fn restore(rooms: &Rooms, stored: &StoredEvent, pdu: &Arc<Pdu>) -> Result<()> {
    let event = pdu.event_id();
    let head = rooms.store().room_by_no(stored.room).await?;
    let partial = head.and_then(|head| head.partial);
    let redacts = match allowed(rooms, stored, pdu).await? {
        Ok(redacts) => narrowed(rooms, partial, pdu, redacts),
        Err(rejection) => {
            tracing::info!(%event, %rejection, "the content of an event that came mangled isn't allowed");
            return Ok(());
        }
    };
    let queue = rooms.queues().of(stored.room);
    let mut warm = queue.enter().await;
    // It may have come whole twice at the same time.
    let now = rooms.store().event(event).await?;
    if now.is_none_or(|now| !completes(&now, pdu)) {
        return Ok(());
    }
    let mut tries = Tries::new(rooms, stored.room);
    while tries.again().await? {
        // After a join that failed the room has no state, but events.
        let Some(head) = rooms.store().room_by_no(stored.room).await? else {
            return Err(Error::UnknownRoom(pdu.room_id().to_owned()));
        };
        if head.partial != partial {
            return Err(Error::Contended);
        }
        let entry = current_entry(rooms, &head, stored).await?;
        // From the event to itself: what was decided upon the state without its content is void.
        let change = entry.map(|key| StateChange {
            key,
            old: Some(stored.no),
            new: Some(stored.no),
        });
        let current = head
            .snapshot
            .zip(change)
            .map(|(snapshot, change)| CurrentState {
                snapshot,
                changes: vec![change],
            });
        let write = RoomWrite {
            room: stored.room,
            expect: Some(head.state_version),
            restored: vec![Restored {
                no: stored.no,
                pdu: pdu.clone(),
                redacts: redacts.iter().cloned().collect(),
            }],
            current,
            ..RoomWrite::default()
        };
        let set = if stored.is_history() {
            with_sticky(rooms, write).await?
        } else {
            only(write)
        };
        match tries.commit(set).await {
            Ok(_) => {
                *warm = Warm::default();
                tracing::info!(%event, "an event that came mangled has its content now");
                return Ok(());
            }
            Err(CommitError::StateMoved { .. } | CommitError::TurnOver) => {}
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

/// Whether what the event was decided upon allows it with its content, and what it redacts.
async fn allowed(
    rooms: &Rooms,
    stored: &StoredEvent,
    pdu: &Arc<Pdu>,
) -> Result<std::result::Result<Option<Redacts>, Rejection>> {
    let Ok(auth_events) = auth_events_of(rooms, pdu).await? else {
        let rejection = Rejection::new("auth 3", "auth events are unknown here");
        return Ok(Err(rejection));
    };
    if let Err(rejection) = allowed_by_auth_events(pdu, &auth_events) {
        return Ok(Err(rejection));
    }
    if stored.placement == Placement::Outlier {
        return Ok(Ok(None));
    }
    let before = Resolved::stored_or_empty(stored.state_before);
    let view = view_of(rooms, &before, pdu).await?;
    if let Err(rejection) = auth::authorize(pdu, &view) {
        return Ok(Err(rejection));
    }
    let takes_effect = stored.status == Status::Accepted;
    let Some(found) = redacts(pdu, &view).filter(|_| takes_effect) else {
        return Ok(Ok(None));
    };
    let head = known_room(rooms, pdu.room_id()).await?;
    Ok(Ok(Some(redacts_now(rooms, &head, pdu, found).await?)))
}

/// The entry of the room's current state that the event is, if it is one.
async fn current_entry(
    rooms: &Rooms,
    head: &RoomHead,
    stored: &StoredEvent,
) -> Result<Option<KeyNo>> {
    let Some(state_key) = stored.pdu.state_key() else {
        return Ok(None);
    };
    let names = [(stored.pdu.kind(), state_key)];
    let at = Resolved::stored_or_empty(head.snapshot);
    let entries = at.entries(rooms.store(), &names).await?;
    if entries.first() != Some(&Some(stored.no)) {
        return Ok(None);
    }
    let key = rooms.store().key_no(names[0].0, names[0].1).await?;
    Ok(Some(key))
}
