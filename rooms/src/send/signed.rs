//! Drafts of local users that others sign before they are stored: the server of whoever is invited, the policy server of
//! the room. Nobody waits for them but their sender.

use std::sync::Arc;

use rhizome_protocol::{Pdu, draft::Draft};

use super::{
    SendOptions, Sent,
    batch::{Batch, Tip},
    choose::{Choice, choose},
    commit_error, known_room, require_own,
    view::View,
};
use crate::{Rooms, error::Result};

/// A draft that is decided and not stored.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// It needs no event: one says it already, and what else its sender wanted is written down.
    Done(Sent),
    /// It is to be signed, and stored by [`crate::admit::admit_own`].
    Event(Arc<Pdu>),
}

/// Decides and signs a draft without storing it. `anew`: even if it is what stands already.
///
/// # Errors
///
/// As [`super::send`].
pub async fn prepare_to_sign(
    rooms: &Rooms,
    draft: &Draft,
    options: &SendOptions,
    anew: bool,
) -> Result<Prepared> {
    let head = known_room(rooms, require_own(rooms, draft)?).await?;
    let mut batch = Batch::upon(rooms, Tip::of(rooms, &head, View::default()).await?);
    let event_id = match choose(rooms, &mut batch, draft, options, anew).await? {
        Choice::New(pdu, _) => return Ok(Prepared::Event(pdu)),
        Choice::Stands(event_id) => event_id,
    };
    if let Some(delayed) = &options.delayed {
        let store = rooms.store();
        let sent = delayed.sent(event_id.clone(), store.clock().now_ms());
        store
            .commit(vec![sent].into())
            .await
            .map_err(commit_error)?;
    }
    Ok(Prepared::Done(Sent {
        event_id,
        fresh: false,
    }))
}
