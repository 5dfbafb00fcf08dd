//! The state of a room at an event, and what authorises an event.

use axum::extract::State;
use rhizome_edge::Content;
use rhizome_rooms::state::{self, StateBefore};
use rhizome_storage::Placement;
use ruma::{
    EventId, RoomId, ServerName,
    api::federation::{
        authorization::get_event_authorization,
        event::{get_room_state, get_room_state_ids},
    },
};

use super::{guard, wire::Writer};
use crate::{Federation, MatrixError, Ruma};

/// `GET /_matrix/federation/v1/state/{roomId}`: the state before an event, with its auth chain.
pub(super) async fn state(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_room_state::v1::Request>,
) -> Result<Content, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    let before = state_before(&fed, &who, &req.room_id, &req.event_id).await?;
    Writer::new()
        .events("auth_chain", before.auth_chain)
        .events("pdus", before.state)
        .finish(fed.store())
        .await
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`: the same as ids.
pub(super) async fn state_ids(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_room_state_ids::v1::Request>,
) -> Result<Content, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    let before = state_before(&fed, &who, &req.room_id, &req.event_id).await?;
    Writer::new()
        .ids("auth_chain_ids", before.auth_chain)
        .ids("pdu_ids", before.state)
        .finish(fed.store())
        .await
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`: everything that an event rests on.
pub(super) async fn event_auth(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_event_authorization::v1::Request>,
) -> Result<Content, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    let head = guard::resident(&fed, &who, &req.room_id).await?;
    let event = guard::event(&fed, &head, &req.event_id).await?;
    let chain = state::auth_chain(fed.rooms(), &event).await?;
    let answer = Writer::new().events("auth_chain", chain);
    answer.finish(fed.store()).await
}

/// The state right before an event of the room, for a server that may know it.
///
/// # Errors
/// 404 for events that we don't have, or have without a place in the room's history; 403 for those that were decided upon
/// partial state.
async fn state_before(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<StateBefore, MatrixError> {
    let head = guard::resident(fed, origin, room_id).await?;
    let event = guard::event(fed, &head, event_id).await?;
    if fed.store().is_partial_event(event.no).await? {
        return Err(MatrixError::forbidden(format!(
            "The state at event {event_id} is not known here in full"
        )));
    }
    let before = match event.placement {
        Placement::Outlier => None,
        _ => state::before(fed.rooms(), &event).await?,
    };
    before.ok_or_else(|| {
        MatrixError::not_found(format!("The state at event {event_id} is not known here"))
    })
}
