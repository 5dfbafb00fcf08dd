//! Other servers' users knock on rooms of ours
//! (<https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms>).

use axum::extract::State;
use rhizome_protocol::Membership;
use ruma::api::federation::membership::{create_knock_event, prepare_knock_event};

use super::member;
use crate::{Federation, MatrixError, RawJson, Ruma, handshake::stripped};

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
pub(super) async fn make_knock(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<prepare_knock_event::v1::Request>,
) -> Result<prepare_knock_event::v1::Response, MatrixError> {
    let (event, rules) = member::template(
        &fed,
        &who,
        &req.room_id,
        &req.user_id,
        Membership::Knock,
        &member::spoken(req.ver),
    )
    .await?;
    Ok(prepare_knock_event::v1::Response::new(
        rules.version.clone(),
        event,
    ))
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
pub(super) async fn send_knock(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<create_knock_event::v1::Request>,
) -> Result<RawJson, MatrixError> {
    member::admit(
        &fed,
        &who,
        &req.room_id,
        &req.event_id,
        &req.pdu,
        Membership::Knock,
    )
    .await?;
    let state = stripped::for_servers(&fed, &req.room_id, None).await?;
    RawJson::of(&serde_json::json!({ "knock_room_state": state }))
}
