//! Other servers' users leave rooms of ours, or reject our invites
//! (<https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>).

use axum::extract::State;
use rhizome_protocol::Membership;
use ruma::{
    ServerName,
    api::federation::membership::{create_leave_event, prepare_leave_event},
};

use super::{member, v1};
use crate::{Federation, MatrixError, RawJson, Ruma};

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
pub(super) async fn make_leave(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<prepare_leave_event::v1::Request>,
) -> Result<prepare_leave_event::v1::Response, MatrixError> {
    let (event, rules) = member::template(
        &fed,
        &who,
        &req.room_id,
        &req.user_id,
        Membership::Leave,
        &[],
    )
    .await?;
    Ok(prepare_leave_event::v1::Response::new(
        Some(rules.version.clone()),
        event,
    ))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
pub(super) async fn send_leave(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<create_leave_event::v2::Request>,
) -> Result<RawJson, MatrixError> {
    accept(&fed, &who, req).await?;
    Ok(RawJson("{}".into()))
}

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`: the same answer inside `[200, …]`.
pub(super) async fn send_leave_v1(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<v1::SendLeave>,
) -> Result<RawJson, MatrixError> {
    accept(&fed, &who, req.0).await?;
    Ok(RawJson("[200,{}]".into()))
}

async fn accept(
    fed: &Federation,
    origin: &ServerName,
    req: create_leave_event::v2::Request,
) -> Result<(), MatrixError> {
    member::admit(
        fed,
        origin,
        &req.room_id,
        &req.event_id,
        &req.pdu,
        Membership::Leave,
    )
    .await?;
    Ok(())
}
