//! Other servers' users join rooms of ours: `make_join` gives a template, `send_join` takes the event
//! (<https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>).

use axum::extract::State;
use rhizome_edge::Content;
use rhizome_protocol::Membership;
use ruma::{
    ServerName,
    api::federation::membership::{create_join_event, prepare_join_event},
};

use super::{member, v1, wire::Writer};
use crate::{Federation, MatrixError, Ruma};

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
pub(super) async fn make_join(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<prepare_join_event::v1::Request>,
) -> Result<prepare_join_event::v1::Response, MatrixError> {
    let (event, rules) = member::template(
        &fed,
        &who,
        &req.room_id,
        &req.user_id,
        Membership::Join,
        &member::spoken(req.ver),
    )
    .await?;
    let mut response = prepare_join_event::v1::Response::new(event);
    response.room_version = Some(rules.version.clone());
    Ok(response)
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
pub(super) async fn send_join(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<create_join_event::v2::Request>,
) -> Result<Content, MatrixError> {
    let answer = accept(&fed, &who, req).await?;
    answer.finish(fed.store()).await
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`: the same answer inside `[200, …]`.
pub(super) async fn send_join_v1(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<v1::SendJoin>,
) -> Result<Content, MatrixError> {
    let answer = accept(&fed, &who, req.0).await?;
    answer.within("[200,", "]").finish(fed.store()).await
}

async fn accept(
    fed: &Federation,
    origin: &ServerName,
    req: create_join_event::v2::Request,
) -> Result<Writer, MatrixError> {
    let (head, admitted) = member::admit(
        fed,
        origin,
        &req.room_id,
        &req.event_id,
        &req.pdu,
        Membership::Join,
    )
    .await?;
    let servers = fed.store().joined_servers(head.room).await?;
    Ok(Writer::new()
        .value("origin", &fed.server_name())?
        .value("members_omitted", &false)?
        .value("servers_in_room", &servers)?
        .events("auth_chain", admitted.before.auth_chain)
        .events("state", admitted.before.state)
        .event("event", &admitted.event.pdu))
}
