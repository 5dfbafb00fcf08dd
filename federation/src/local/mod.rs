//! The one door for local events: gathers what others must give first, then sends.
//!
//! Today that is the signature of an invited user's server. Policy servers and restricted joins belong
//! here as well.

mod invite;

use rhizome_protocol::draft::Draft;
use rhizome_rooms::{
    invites,
    send::{self, SendOptions, Sent},
};

use crate::{Federation, MatrixError};

/// Sends an event of a local user; it is durable when this returns.
///
/// # Errors
/// What the room has against it, and, for invites of other servers' users, what their server has.
pub async fn send(
    fed: &Federation,
    draft: Draft,
    options: SendOptions,
) -> Result<Sent, MatrixError> {
    if let Some(target) = invite::remote_target(fed, &draft) {
        // Boxed: most events go the other way, and needn't carry the room that this one takes.
        return Box::pin(invite::send(fed, &draft, &target)).await;
    }
    if draft.kind == "m.room.member" {
        Box::pin(invites::require_wanted(fed.rooms(), &draft)).await?;
    }
    Ok(send::send(fed.rooms(), draft, options).await?)
}
