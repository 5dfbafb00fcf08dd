//! Sticky events that a room's state had something against when they came
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)).

use std::sync::Arc;

use rhizome_protocol::auth;
use rhizome_storage::{EventNo, Fact, Logged, Sticky};

use super::place::view_of;
use crate::{Rooms, error::Result, policy_server, send::commit_error, state::Resolved};

/// Asks the rooms' current states about events that they refused when these came: other servers may have had other
/// states then, and everybody is to come to the same. What is allowed now is told to those who are in the room.
///
/// # Errors
///
/// Those of the database.
pub async fn look_again_at_sticky(rooms: &Rooms, refused: &[Arc<Logged<Sticky>>]) -> Result<()> {
    let store = rooms.store();
    let nos: Vec<EventNo> = refused.iter().map(|one| one.event).collect();
    let events = store.events_by_no(&nos).await?;
    let mut facts = Vec::new();
    for one in refused {
        let event = events.iter().find(|event| event.no == one.event);
        let (Some(event), Some(head)) = (event, store.room_by_no(one.room).await?) else {
            continue;
        };
        // What the policy server wouldn't sign isn't allowed by a change of state, but by a signature, or without such a server.
        let policy = policy_server::in_force(rooms, &head).await?;
        if policy.is_some_and(|policy| !policy.passes(&event.pdu)) {
            continue;
        }
        let current = Resolved::stored_or_empty(head.snapshot);
        let view = view_of(rooms, &current, &event.pdu).await?;
        if auth::authorize(&event.pdu, &view).is_ok() {
            facts.push(Fact::from(Sticky {
                allowed: true,
                ..one.fact
            }));
        }
    }
    if !facts.is_empty() {
        store.commit(facts.into()).await.map_err(commit_error)?;
    }
    Ok(())
}
