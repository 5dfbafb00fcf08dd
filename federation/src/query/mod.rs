//! Queries across servers: profiles, aliases, versions; both directions
//! (<https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>).

pub mod directory;
mod openid;

use std::time::Duration;

use axum::extract::State;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_edge::Table;
use rhizome_protocol::{Object, canonical};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, ServerName, UserId,
    api::federation::{
        discovery::get_server_version,
        query::{get_profile_information, get_room_information},
    },
};
use serde_json::{Value, json};

use crate::{
    Federation, MatrixError, RawJson, Ruma,
    outbound::{Limits, OutboundError, answer},
    services,
};

/// The limits of a question with an answer of this size. Somebody waits for it.
const fn limits(max_body: usize) -> Limits {
    Limits {
        timeout: Some(Duration::from_secs(15)),
        max_body,
    }
}
/// Servers that are told, or believed, to know a room.
const MAX_SERVERS: usize = 100;

/// `/_matrix/federation/v1/query/…`, `/version`, and whose OpenID tokens are.
pub(crate) fn endpoints(table: Table<Federation>) -> Table<Federation> {
    table
        .serve(profile_of_ours)
        .serve(alias_of_ours)
        .serve(version_of_ours)
        .serve(openid::of_ours)
}

/// The profile of a user of another server: all of its fields, or the one that is asked for.
///
/// # Errors
/// The user has no profile there (`M_NOT_FOUND`), or the server doesn't answer.
pub async fn profile(
    fed: &Federation,
    user: &UserId,
    field: Option<&str>,
) -> Result<Object, MatrixError> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut target = format!(
        "/_matrix/federation/v1/query/profile?user_id={}",
        encode(user.as_str())
    );
    if let Some(field) = field {
        target.push_str("&field=");
        target.push_str(&encode(field));
    }
    let to = user.server_name();
    let answer = fed
        .outbound()
        .call(to, Method::GET, &target, None, limits(answer::PROFILE))
        .await?;
    Ok(canonical::parse_object(&answer)
        .map_err(|error| OutboundError::Answer(error.to_string()))?)
}

/// Where an alias of another server leads: the room, and servers to join it through.
///
/// # Errors
/// There is no such alias (`M_NOT_FOUND`), or the server doesn't answer.
pub async fn alias(
    fed: &Federation,
    alias: &RoomAliasId,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), MatrixError> {
    let request = get_room_information::v1::Request::new(alias.to_owned());
    let mut answer = fed
        .outbound()
        .send_limited(alias.server_name(), request, limits(answer::ALIAS))
        .await?;
    answer.servers.retain(|server| server != fed.server_name());
    answer.servers.truncate(MAX_SERVERS);
    if answer.servers.is_empty() {
        answer.servers.push(alias.server_name().to_owned());
    }
    Ok((answer.room_id, answer.servers))
}

/// What software another server runs: name and version, as far as it tells.
///
/// # Errors
/// The server doesn't answer.
pub async fn version(
    fed: &Federation,
    server: &ServerName,
) -> Result<(Option<String>, Option<String>), MatrixError> {
    let request = get_server_version::v1::Request::new();
    let limits = limits(answer::PROFILE);
    let answer = fed.outbound().send_limited(server, request, limits).await?;
    Ok(answer
        .server
        .map_or((None, None), |server| (server.name, server.version)))
}

/// `GET /_matrix/federation/v1/query/profile`
async fn profile_of_ours(
    State(fed): State<Federation>,
    Ruma { req, .. }: Ruma<get_profile_information::v1::Request>,
) -> Result<RawJson, MatrixError> {
    if req.user_id.server_name() != fed.server_name() {
        return Err(MatrixError::invalid_param("The user isn't of this server"));
    }
    let no_user = || MatrixError::not_found("There is no such user");
    let mut profile = fed.store().profile(&req.user_id).await?;
    if profile.is_none() && services::user(&fed, &req.user_id, None).await? {
        profile = fed.store().profile(&req.user_id).await?;
    }
    let mut profile = profile.ok_or_else(no_user)?;
    if let Some(field) = req.field {
        profile.retain(|name, _| name == field.as_str());
    }
    RawJson::of(&Value::Object(profile))
}

/// `GET /_matrix/federation/v1/query/directory`
async fn alias_of_ours(
    State(fed): State<Federation>,
    Ruma { req, .. }: Ruma<get_room_information::v1::Request>,
) -> Result<RawJson, MatrixError> {
    let no_alias = || MatrixError::not_found("There is no such alias");
    if req.room_alias.server_name() != fed.server_name() {
        return Err(no_alias());
    }
    let alias = services::alias(&fed, &req.room_alias)
        .await?
        .ok_or_else(no_alias)?;
    let members = fed.store().joined_servers(alias.room).await?;
    // Ourselves first: we have just been reachable.
    let us = members.iter().find(|name| *name == fed.server_name());
    let others = members.iter().filter(|name| *name != fed.server_name());
    let servers: Vec<_> = us.into_iter().chain(others).take(MAX_SERVERS).collect();
    RawJson::of(&json!({ "room_id": alias.room_id, "servers": servers }))
}

/// `GET /_matrix/federation/v1/version`
async fn version_of_ours(
    State(fed): State<Federation>,
    _: Ruma<get_server_version::v1::Request>,
) -> Result<RawJson, MatrixError> {
    let config = fed.config();
    RawJson::of(&json!({
        "server": { "name": config.software_name, "version": config.software_version }
    }))
}
