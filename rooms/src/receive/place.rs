//! The state before an event, and whether it allows the event.

use std::sync::Arc;

use rhizome_protocol::{
    Pdu, Rejection,
    auth::{self, StateView},
    power::{Action, Level, Power},
};
use rhizome_storage::{EventNo, NewEvent, NewSnapshot, Redacts, RoomHead, Status, StoredEvent};

use super::{How, gather::Found};
use crate::{
    Rooms,
    error::Result,
    send::{
        batch,
        view::{ALWAYS, View, ViewState, keys_of},
    },
    state::{self, Learnt, Resolved},
};

/// An event with the states around it, allowed by the one before it.
pub(super) struct Placed {
    pub(super) event: NewEvent,
    pub(super) prevs: Vec<Arc<StoredEvent>>,
    pub(super) before: Resolved,
    pub(super) after: Resolved,
    /// The join by whose partial state this is so.
    pub(super) partial: Option<EventNo>,
    /// What the state before it has learnt from it.
    pub(super) learnt: Vec<Learnt>,
}

/// An event that is not allowed by its auth events or by the state before it.
pub(super) struct Refused {
    pub(super) event: NewEvent,
    pub(super) snapshots: Vec<NewSnapshot>,
    pub(super) rejection: Rejection,
}

/// Finds the states before and after the event and checks it against the one before.
pub(super) async fn place(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    found: Found,
    how: How,
) -> Result<Result<Placed, Refused>> {
    let store = rooms.store();
    let no = match found.no {
        Some(no) => no,
        None => store.next_event_no().await?,
    };
    let known = state::resolve(rooms, head, found.forks, None).await?;
    let learnt = state::learnt(rooms, head, &known, pdu).await?;
    let before = state::with_learnt(rooms, head.room, &known, &learnt).await?;
    let view = view_of(rooms, &before, pdu).await?;
    let event = NewEvent {
        depth: how.depth.unwrap_or_else(|| depth_of(pdu, &found.prevs)),
        placement: how.placement,
        state_before: before.snapshot,
        state_after: before.snapshot,
        visibility: Some(view.visibility()),
        ..NewEvent::new(no, pdu.clone())
    };
    // 5. Passes authorisation rules based on the state before the event, otherwise it is rejected.
    let allowed = match found.rejection {
        Some(rejection) => Err(rejection),
        None => auth::authorize(pdu, &view),
    };
    if let Err(rejection) = allowed {
        let reason = Some(rejection.to_string());
        // Nothing is learnt from it.
        let event = NewEvent {
            status: Status::Rejected,
            reason,
            state_before: known.snapshot,
            state_after: known.snapshot,
            ..event
        };
        return Ok(Err(Refused {
            event,
            snapshots: known.new,
            rejection,
        }));
    }
    let after = match pdu.state_key() {
        Some(key) => {
            let key = store.key_no(pdu.kind(), key).await?;
            before.with(store, head.room, key, no).await?
        }
        None => before.clone(),
    };
    let event = NewEvent {
        state_after: after.snapshot,
        redacts: narrowed(rooms, head.partial, pdu, redacts(pdu, &view)),
        ..event
    };
    Ok(Ok(Placed {
        event,
        prevs: found.prevs,
        before,
        after,
        partial: head.partial,
        learnt,
    }))
}

/// How deep an event stands in the history: where we know what it follows, whatever it says.
fn depth_of(pdu: &Pdu, prevs: &[Arc<StoredEvent>]) -> i64 {
    let above = batch::above(prevs);
    if prevs.len() == pdu.prev_events().len() {
        above
    } else {
        pdu.depth().max(above)
    }
}

/// What authorising `pdu` looks at, in a state that may not be stored yet. The event itself may not be
/// stored, so the view holds stored events only: the state before `pdu` never names it.
pub(crate) async fn view_of(rooms: &Rooms, state: &Resolved, pdu: &Pdu) -> Result<View> {
    let keys = keys_of(
        pdu.rules(),
        pdu.kind(),
        pdu.sender(),
        pdu.state_key(),
        pdu.content(),
    );
    let mut wanted: Vec<(&str, &str)> = ALWAYS.to_vec();
    wanted.extend(keys.iter().map(|(kind, key)| (kind.as_str(), key.as_str())));
    wanted.sort_unstable();
    wanted.dedup();
    let entries = state.entries(rooms.store(), &wanted).await?;
    let nos: Vec<EventNo> = entries.iter().flatten().copied().collect();
    let events = rooms.store().events_by_no(&nos).await?;
    let mut view = View::default();
    for ((kind, key), no) in wanted.into_iter().zip(entries) {
        let held = no.and_then(|no| {
            let event = events.iter().find(|event| event.no == no)?;
            Some(ViewState {
                no,
                pdu: event.pdu.clone(),
            })
        });
        view.put(kind, key, held);
    }
    Ok(view)
}

/// What a redaction takes effect on while the room is partial: that somebody of another server may redact others' events isn't
/// known before they are known to be there.
pub(super) fn narrowed(
    rooms: &Rooms,
    partial: Option<EventNo>,
    pdu: &Pdu,
    redacts: Option<Redacts>,
) -> Option<Redacts> {
    let sender = pdu.sender();
    let redacts = redacts?;
    if partial.is_none() || rooms.is_local(sender) {
        return Some(redacts);
    }
    Some(Redacts {
        only_from: Some(sender.server_name().to_owned()),
        ..redacts
    })
}

/// Whether and where a redaction takes effect (room versions "Handling redactions"): everywhere with
/// the power for it, otherwise on events of the sender's own server. In v1 and v2 the authorisation rules
/// have settled that already, by the ids' domains.
///
/// The room's create event stays: without its content nobody could join any more.
pub(crate) fn redacts(pdu: &Pdu, state: &View) -> Option<Redacts> {
    let target = pdu.redacts()?.to_owned();
    if StateView::get(state, "m.room.create", "").is_some_and(|create| *create.event_id() == target)
    {
        return None;
    }
    let power = Power::of(pdu.rules(), state);
    let any = pdu.rules().auth.special_redaction
        || power.user(pdu.sender()) >= Level::Int(power.action(Action::Redact));
    Some(Redacts {
        target,
        only_from: (!any).then(|| pdu.sender().server_name().to_owned()),
    })
}
