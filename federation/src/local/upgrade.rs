//! Replacing a room that may have a policy server: the events that end it are signed like all others.

use rhizome_rooms::{
    send::SendOptions,
    upgrade::{self as rooms, Step, Upgrade, plan::UpgradeRoom},
};
use ruma::OwnedRoomId;

use super::send;
use crate::{Federation, MatrixError, policy};

/// Replaces a room by one of another version, or does nothing at all; gives the new room's id.
///
/// # Errors
/// Those of [`rhizome_rooms::upgrade::upgrade`], and what the old room's policy server has against it.
pub async fn upgrade(fed: &Federation, request: &UpgradeRoom) -> Result<OwnedRoomId, MatrixError> {
    if policy::in_force(fed, &request.room_id).await?.is_none() {
        return Ok(rooms::upgrade(fed.rooms(), request).await?);
    }
    Box::pin(signed(fed, request)).await
}

async fn signed(fed: &Federation, request: &UpgradeRoom) -> Result<OwnedRoomId, MatrixError> {
    let turn = fed.policies().turn(&request.room_id).await?;
    let mut upgrade = Upgrade::begin(fed.rooms(), request).await?;
    // Deciding counts the tries.
    let done = loop {
        let mut decided = match upgrade.decide().await? {
            Step::Replaced(room_id) => return Ok(room_id),
            Step::Decided(decided) => decided,
        };
        let mut signed = Vec::new();
        for pdu in decided.last_events() {
            signed.push(policy::signed(fed, pdu, None).await?);
        }
        decided.put_signed(&signed);
        if let Some(done) = decided.store().await? {
            break done;
        }
    };
    // Each of the rest takes a turn of its own.
    drop(turn);
    for draft in done.rest {
        let (room_id, kind) = (&request.room_id, draft.kind.clone());
        if let Err(error) = send(fed, draft, SendOptions::default()).await {
            tracing::info!(room.id = %room_id, kind, %error, "the old room stays as it was");
        }
    }
    Ok(done.room_id)
}
