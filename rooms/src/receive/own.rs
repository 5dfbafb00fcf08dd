//! An event of a local user that others have signed before it is stored: it can't be made anew when the room has moved on
//! meanwhile, so it comes in like one from elsewhere. What its sender wants with it is seen to in the same commit.

use std::sync::Arc;

use rhizome_protocol::Pdu;
use rhizome_storage::{CommitError, Placement, RoomHead, RoomWrite};

use super::{
    Gathered, How, KeepRefused, Received, decide,
    gather::{self, Gather},
    place, require_resident,
};
use crate::{
    Error, Rooms,
    error::Result,
    policy_server::{Asked, in_its_place},
    send::{SendOptions, Sent, commit_error, known_room, queue::Warm, tries::Tries},
    sticky::with_sticky,
};

/// It goes to the room's other servers. What the room has against it by now is its sender's to hear, and nothing to keep.
const OWN: How = How {
    placement: Placement::Live,
    counts: true,
    relay: true,
    depth: None,
    keep_refused: KeepRefused::Never,
};

/// Stores the event, unless its transaction was done already.
pub(crate) async fn own(rooms: &Rooms, pdu: &Arc<Pdu>, options: &SendOptions) -> Result<Sent> {
    let head = known_room(rooms, pdu.room_id()).await?;
    require_resident(rooms, &head).await?;
    let gathered = Gathered::default();
    let Gather::Found(found) = gather::gather(rooms, &head, pdu, &gathered, false).await? else {
        // It was made a moment ago, upon what is here.
        return Err(Error::Contended);
    };
    let placed = place::place(rooms, &head, pdu, found, OWN).await?;
    let placed = placed.map_err(|refused| Error::Forbidden(refused.rejection))?;
    let event_id = pdu.event_id().to_owned();
    let queue = rooms.queues().of(head.room);
    let mut warm = queue.enter().await;
    let mut tries = Tries::new(rooms, head.room);
    while tries.again().await? {
        let head = known_room(rooms, pdu.room_id()).await?;
        if head.partial != placed.partial {
            return Err(Error::Contended);
        }
        require_replaced(rooms, &head, pdu, options).await?;
        let asked = Asked::NotYet;
        let decided = decide::decide(rooms, &head, pdu, &placed, (OWN, &asked)).await?;
        match decided.outcome {
            Received::Accepted => {}
            Received::SoftFailed(rejection) | Received::Rejected(rejection) => {
                return Err(Error::Forbidden(rejection));
            }
            // The room has another policy server by now.
            Received::Need(_) | Received::Known => return Err(Error::Contended),
        }
        let mut event = decided.event;
        event.txn.clone_from(&options.txn);
        let moves = decided.current.is_some();
        let write = RoomWrite {
            room: head.room,
            expect: Some(head.state_version),
            events: vec![event],
            snapshots: decided.snapshots,
            current: decided.current,
            drop_extremities: decided.ends.drop,
            add_extremities: decided.ends.add,
            ..RoomWrite::default()
        };
        let mut set = with_sticky(rooms, write).await?;
        if let Some(delayed) = &options.delayed {
            let now_ms = rooms.store().clock().now_ms();
            set.facts.push(delayed.sent(event_id.clone(), now_ms));
        }
        match tries.commit(set).await {
            Ok(_) => {
                if moves {
                    *warm = Warm::default();
                }
                return Ok(Sent {
                    event_id,
                    fresh: true,
                });
            }
            Err(CommitError::DuplicateTxn { event_id, .. }) => {
                return Ok(Sent {
                    event_id,
                    fresh: false,
                });
            }
            Err(CommitError::StateMoved { .. } | CommitError::TurnOver) => {}
            Err(CommitError::DuplicateEvent { .. }) => return Err(Error::Contended),
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

/// What the event is to replace must still be so.
async fn require_replaced(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
    options: &SendOptions,
) -> Result<()> {
    let Some(replaces) = &options.replaces else {
        return Ok(());
    };
    let stands = in_its_place(rooms, head, pdu).await?;
    if stands.is_some_and(|stands| stands.pdu.event_id() == replaces) {
        return Ok(());
    }
    Err(Error::Replaced)
}
