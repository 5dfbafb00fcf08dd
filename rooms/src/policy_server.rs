//! Which policy server has a say in a room
//! (<https://spec.matrix.org/v1.19/server-server-api/#determining-if-a-policy-server-is-enabled-in-a-room>).
//!
//! What the room's state names is remembered by state version, so that most rooms, which have none, cost nothing.

use std::sync::Arc;

use rhizome_protocol::{
    Pdu, Rejection,
    policy::{KIND, PolicyServer},
};
use rhizome_storage::{Cache, EventNo, RoomHead, RoomNo, StoredEvent};

use crate::{Rooms, error::Result};

/// How many rooms are remembered.
const REMEMBERED: usize = 10_000;

/// The event that names a room's policy server, if there is one, at a state version.
pub(crate) struct Named(Cache<RoomNo, (i64, Option<EventNo>)>);

impl Default for Named {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// What became of asking a room's policy server for its signature on an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asked {
    /// It wasn't asked, or hasn't answered: what isn't signed can't be decided.
    #[default]
    NotYet,
    /// This one won't sign it.
    Refused(PolicyServer),
    /// Another server of the room, which let the event in, has seen to it.
    Elsewhere,
}

/// The room's policy server, if its current state names one that has a joined user there.
///
/// # Errors
///
/// The database's.
pub async fn in_force(rooms: &Rooms, head: &RoomHead) -> Result<Option<PolicyServer>> {
    let Some(event) = named(rooms, head).await? else {
        return Ok(None);
    };
    let store = rooms.store();
    // As it is now: a redaction takes away what it says, and changes no state.
    let event = store.event_by_no(event).await?;
    let Some(policy) = event.and_then(|event| PolicyServer::of(event.pdu.content())) else {
        return Ok(None);
    };
    let servers = store.joined_servers(head.room).await?;
    let is_there = servers.iter().any(|server| server == policy.server());
    Ok(is_there.then_some(policy))
}

async fn named(rooms: &Rooms, head: &RoomHead) -> Result<Option<EventNo>> {
    let Some(at) = head.snapshot else {
        return Ok(None);
    };
    let known = &rooms.policy_servers().0;
    if let Some((version, event)) = known.get(&head.room)
        && version == head.state_version
    {
        return Ok(event);
    }
    let store = rooms.store();
    // It gets its number now if no room has one: what has none is looked for in the database each time.
    let key = store.key_no(KIND, "").await?;
    let found = store.state_lookup(at, &[key]).await?;
    let event = found.into_iter().next().flatten();
    known.insert(head.room, (head.state_version, event));
    Ok(event)
}

/// Whether the event is part of the room's current state already. Nobody is asked about what the room obeys anyway: it was
/// there before the policy server, or came in past it.
///
/// # Errors
///
/// The database's.
pub async fn stands(rooms: &Rooms, head: &RoomHead, pdu: &Pdu) -> Result<bool> {
    let stands = in_its_place(rooms, head, pdu).await?;
    Ok(stands.is_some_and(|event| event.pdu.event_id() == pdu.event_id()))
}

/// The event that stands now where this one would in the room's state.
pub(crate) async fn in_its_place(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
) -> Result<Option<Arc<StoredEvent>>> {
    let (Some(at), Some(key)) = (head.snapshot, pdu.state_key()) else {
        return Ok(None);
    };
    Ok(rooms.store().state_event(at, pdu.kind(), key).await?)
}

/// What the room's policy server has to do with an event that has just come.
pub(crate) enum Verdict {
    /// Nothing is lacking.
    Passes,
    /// It is "soft failed".
    Refused(Rejection),
    /// It has to be asked first.
    Unsigned(PolicyServer),
}

/// Step 7 of the checks: the event is validated by the policy server, if the room is using one.
pub(crate) async fn verdict(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
    asked: &Asked,
) -> Result<Verdict> {
    if *asked == Asked::Elsewhere {
        return Ok(Verdict::Passes);
    }
    let Some(policy) = in_force(rooms, head).await? else {
        return Ok(Verdict::Passes);
    };
    if policy.passes(pdu) || stands(rooms, head, pdu).await? {
        return Ok(Verdict::Passes);
    }
    if matches!(asked, Asked::Refused(by) if *by == policy) {
        let reason = format!(
            "the room's policy server {} hasn't signed it",
            policy.server()
        );
        return Ok(Verdict::Refused(Rejection::new(Rejection::POLICY, reason)));
    }
    Ok(Verdict::Unsigned(policy))
}
