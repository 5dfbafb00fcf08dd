//! Deleting account data
//! ([MSC3391](https://github.com/matrix-org/matrix-spec-proposals/pull/3391)): the same as setting it
//! to `{}`, which is how other devices of the user hear of it.

use axum::extract::State;
use http::Method;
use rhizome_edge::{MatrixError, RawJson};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::{
        IncomingRequest, Metadata, auth_scheme::AccessToken, client::account::whoami,
        error::DeserializationError, path_builder::SinglePath,
    },
};
use serde_json::json;

use crate::{
    App, Ruma,
    account::data::{delete, own, room_of},
};

/// `DELETE` of global account data.
pub struct Global {
    user_id: OwnedUserId,
    kind: String,
}

/// `DELETE` of account data of a room.
pub struct InRoom {
    user_id: OwnedUserId,
    room_id: OwnedRoomId,
    kind: String,
}

impl Metadata for Global {
    const METHOD: Method = Method::DELETE;
    const RATE_LIMITED: bool = true;
    type Authentication = AccessToken;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new(
        "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}",
    );
}

impl Metadata for InRoom {
    const METHOD: Method = Method::DELETE;
    const RATE_LIMITED: bool = true;
    type Authentication = AccessToken;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new(
        "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}",
    );
}

impl IncomingRequest for Global {
    type EndpointError = ruma::api::error::Error;
    type OutgoingResponse = whoami::v3::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let part = |index: usize| path.get(index).copied().unwrap_or_default();
        Ok(Self {
            user_id: OwnedUserId::try_from(part(0))?,
            kind: part(1).to_owned(),
        })
    }
}

impl IncomingRequest for InRoom {
    type EndpointError = ruma::api::error::Error;
    type OutgoingResponse = whoami::v3::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let part = |index: usize| path.get(index).copied().unwrap_or_default();
        Ok(Self {
            user_id: OwnedUserId::try_from(part(0))?,
            room_id: OwnedRoomId::try_from(part(1))?,
            kind: part(2).to_owned(),
        })
    }
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/account_data/{type}`
pub async fn global(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Global>,
) -> Result<RawJson, MatrixError> {
    own(&who, &req.user_id)?;
    delete(&app, &who, None, &req.kind).await?;
    RawJson::of(&json!({}))
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn in_room(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<InRoom>,
) -> Result<RawJson, MatrixError> {
    own(&who, &req.user_id)?;
    let room = room_of(&app, &who, &req.room_id).await?;
    delete(&app, &who, Some(room), &req.kind).await?;
    RawJson::of(&json!({}))
}
