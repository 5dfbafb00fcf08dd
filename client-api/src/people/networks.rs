//! Other networks that are reached from here (client-server API, "Third-party Lookups"). Application services bring them;
//! without any there is no protocol, nobody and no place to be found there.

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::RawJson;
use ruma::{
    api::client::thirdparty::{
        get_location_for_protocol::v3 as location, get_location_for_room_alias::v3 as by_alias,
        get_protocol::v3 as protocol, get_protocols::v3 as protocols,
        get_user_for_protocol::v3 as user, get_user_for_user_id::v3 as by_id,
    },
    thirdparty::Protocol,
};

use crate::{App, MatrixError, Ruma};

/// What is known of other networks: filled by whoever reaches them.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    /// By their names.
    protocols: BTreeMap<String, Protocol>,
}

impl Networks {
    /// The protocol of this name.
    ///
    /// # Errors
    /// `M_NOT_FOUND`
    fn protocol(&self, name: &str) -> Result<&Protocol, MatrixError> {
        let found = self.protocols.get(name);
        found.ok_or_else(|| {
            MatrixError::not_found("No network of this protocol is reached from here")
        })
    }
}

fn nothing() -> MatrixError {
    MatrixError::not_found("Nothing like that was found on any network")
}

/// `GET /_matrix/client/v3/thirdparty/protocols`
pub async fn protocols(
    State(app): State<App>,
    Ruma { .. }: Ruma<protocols::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&app.networks.protocols)
}

/// `GET /_matrix/client/v3/thirdparty/protocol/{protocol}`
pub async fn protocol(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<protocol::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(app.networks.protocol(&req.protocol)?)
}

/// `GET /_matrix/client/v3/thirdparty/location/{protocol}`
pub async fn location(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<location::Request>,
) -> Result<RawJson, MatrixError> {
    app.networks.protocol(&req.protocol)?;
    Err(nothing())
}

/// `GET /_matrix/client/v3/thirdparty/user/{protocol}`
pub async fn user(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<user::Request>,
) -> Result<RawJson, MatrixError> {
    app.networks.protocol(&req.protocol)?;
    Err(nothing())
}

/// `GET /_matrix/client/v3/thirdparty/location`
pub async fn location_of_alias(
    State(_): State<App>,
    Ruma { .. }: Ruma<by_alias::Request>,
) -> Result<RawJson, MatrixError> {
    Err(nothing())
}

/// `GET /_matrix/client/v3/thirdparty/user`
pub async fn user_of_id(
    State(_): State<App>,
    Ruma { .. }: Ruma<by_id::Request>,
) -> Result<RawJson, MatrixError> {
    Err(nothing())
}
