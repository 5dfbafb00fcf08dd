//! Members of whom a partial state says nothing, learnt from the events that name them.

use std::sync::Arc;

use rhizome_protocol::Pdu;
use rhizome_storage::{EventNo, RoomHead, RoomNo, Status};

use super::Resolved;
use crate::{Rooms, error::Result};

/// The kind of event that says who is a member.
pub(crate) const MEMBER: &str = "m.room.member";

/// A membership that an event rests on, of somebody of whom the state before it says nothing.
#[derive(Debug, Clone)]
pub(crate) struct Learnt {
    /// The state key.
    pub(crate) user: String,
    pub(crate) no: EventNo,
    pub(crate) pdu: Arc<Pdu>,
}

/// What an event's own auth events say of members of whom `state` says nothing, in a partial room. What the state says
/// goes before that.
pub(crate) async fn learnt(
    rooms: &Rooms,
    head: &RoomHead,
    state: &Resolved,
    pdu: &Pdu,
) -> Result<Vec<Learnt>> {
    if head.partial.is_none() {
        return Ok(Vec::new());
    }
    let store = rooms.store();
    let mut named: Vec<Learnt> = Vec::new();
    for event in store.events(pdu.auth_events()).await? {
        let counts = event.room == head.room && event.status != Status::Rejected;
        if let (MEMBER, Some(user), true) = (event.pdu.kind(), event.pdu.state_key(), counts) {
            named.push(Learnt {
                user: user.to_owned(),
                no: event.no,
                pdu: event.pdu.clone(),
            });
        }
    }
    let keys: Vec<(&str, &str)> = named
        .iter()
        .map(|member| (MEMBER, member.user.as_str()))
        .collect();
    let there = state.entries(store, &keys).await?;
    let unknown = named.into_iter().zip(there);
    let unknown = unknown.filter(|(_, there)| there.is_none());
    Ok(unknown.map(|(member, _)| member).collect())
}

/// The state with what was learnt.
pub(crate) async fn with_learnt(
    rooms: &Rooms,
    room: RoomNo,
    state: &Resolved,
    learnt: &[Learnt],
) -> Result<Resolved> {
    let mut state = state.clone();
    for member in learnt {
        let key = rooms.store().key_no(MEMBER, &member.user).await?;
        state = state.with(rooms.store(), room, key, member.no).await?;
    }
    Ok(state)
}
