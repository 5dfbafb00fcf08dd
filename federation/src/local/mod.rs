//! The one door for local events: gathers what others must give first, then sends.
//!
//! That is the signature of an invited user's server, and that of the room's policy server.

mod invite;
mod signed;
pub(crate) mod tying;
mod upgrade;

use rhizome_protocol::{draft::Draft, policy::PolicyServer};
use rhizome_rooms::{
    invites,
    send::{self, SendOptions, Sent},
};

use crate::{Federation, MatrixError, policy};

pub use upgrade::upgrade;

/// Sends an event of a local user; it is durable when this returns.
///
/// # Errors
/// What the room has against it, what its policy server has, and, for invites of other servers' users, what their server
/// has.
pub async fn send(
    fed: &Federation,
    draft: Draft,
    options: SendOptions,
) -> Result<Sent, MatrixError> {
    let target = invite::remote_target(fed, &draft);
    if target.is_none() && draft.kind == "m.room.member" {
        Box::pin(invites::require_wanted(fed.rooms(), &draft)).await?;
    }
    if target.is_none() && !has_policy_server(fed, &draft).await? {
        return Ok(send::send(fed.rooms(), draft, options).await?);
    }
    // Boxed: most events go the other way, and needn't carry the room that this one takes.
    Box::pin(signed::send(fed, &draft, &options, target.as_deref())).await
}

/// Whether the room has a policy server that signs such events. One that is named in this very moment may miss this event:
/// other servers ask it then.
async fn has_policy_server(fed: &Federation, draft: &Draft) -> Result<bool, MatrixError> {
    let Some(room_id) = &draft.room_id else {
        return Ok(false);
    };
    if !PolicyServer::signs(&draft.kind, draft.state_key.as_deref()) {
        return Ok(false);
    }
    Ok(policy::in_force(fed, room_id).await?.is_some())
}
