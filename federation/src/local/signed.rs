//! Events of ours that others sign before they are stored.
//!
//! 1. In a room with a policy server one event is signed after the other, so that each follows the one before it. (Not
//!    invites: the invited user's server may take its time.)
//! 2. A transaction that was done is answered with what it made then, and nobody is asked.
//! 3. The event is decided upon the room as it is, and signed by us.
//! 4. The room's policy server signs it, then the invited user's server.
//! 5. It is stored with all that its sender wanted. If the room has moved on too far, it begins again at 3.

use rhizome_protocol::draft::Draft;
use rhizome_rooms::{
    Error, admit,
    send::{self, Prepared, SendOptions, Sent},
};
use ruma::UserId;

use super::invite;
use crate::{Federation, MatrixError, policy};

/// How often an event is decided and signed anew.
const TRIES: usize = 5;

/// Sends an event of a local user in a room with a policy server, or an invite to `target`, a user of another server.
pub(super) async fn send(
    fed: &Federation,
    draft: &Draft,
    options: &SendOptions,
    target: Option<&UserId>,
) -> Result<Sent, MatrixError> {
    let Some(room_id) = &draft.room_id else {
        return Err(Error::Invalid("No room given".to_owned()).into());
    };
    // Step 1.
    let _turn = match target {
        None => Some(fed.policies().turn(room_id).await?),
        Some(_) => None,
    };
    // Step 2.
    if let Some(txn) = &options.txn
        && let Some(event_id) = fed.store().transaction(txn).await?
    {
        return Ok(Sent {
            event_id,
            fresh: false,
        });
    }
    for _ in 0..TRIES {
        // Step 3. Whose server has lost an invite is invited once more.
        let anew = target.is_some();
        let pdu = match send::prepare_to_sign(fed.rooms(), draft, options, anew).await? {
            Prepared::Done(sent) => return Ok(sent),
            Prepared::Event(pdu) => pdu,
        };
        // Step 4.
        let pdu = policy::signed(fed, pdu, None).await?;
        let pdu = match target {
            Some(target) => invite::signed(fed, &pdu, target).await?,
            None => pdu,
        };
        // Step 5.
        match admit::admit_own(fed.rooms(), pdu, options).await {
            Err(Error::Contended) if target.is_none() => {}
            sent => return Ok(sent?),
        }
    }
    Err(Error::Contended.into())
}
