//! Deleting account data
//! ([MSC3391](https://github.com/matrix-org/matrix-spec-proposals/pull/3391)): the same as setting it
//! to `{}`, which is how other devices of the user hear of it.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use ruma::{UserId, api::auth_scheme::AccessToken, metadata};
use serde_json::json;

use crate::{
    App, Caller, Ruma,
    account::data::{delete, own, room_of},
    content,
};

/// `DELETE` of global account data.
pub struct Global;
metadata! {
    @for Global,
    method: DELETE,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}",
}

/// `DELETE` of account data of a room.
pub struct InRoom;
metadata! {
    @for InRoom,
    method: DELETE,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}",
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/account_data/{type}`
pub async fn global(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<Global>>,
) -> Result<RawJson, MatrixError> {
    check_own(&who, req.part(0))?;
    delete(&app, &who, None, req.part(1)).await?;
    RawJson::of(&json!({}))
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn in_room(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<InRoom>>,
) -> Result<RawJson, MatrixError> {
    check_own(&who, req.part(0))?;
    let room = room_of(&app, &who, &content::room_id(req.part(1))?).await?;
    delete(&app, &who, Some(room), req.part(2)).await?;
    RawJson::of(&json!({}))
}

fn check_own(who: &Caller, user: &str) -> Result<(), MatrixError> {
    let user = UserId::parse(user)
        .map_err(|error| MatrixError::invalid_param(format!("user id: {error}")))?;
    own(who, &user)
}
