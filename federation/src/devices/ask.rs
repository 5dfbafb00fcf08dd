//! Asking another server for devices and keys of its users.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::list::{List, OneDevice};
use crate::{
    Federation,
    outbound::{Limits, OutboundError, answer},
};

/// Users, and which of their devices; none named is all of them.
pub type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

#[derive(Deserialize)]
struct WholeList {
    user_id: OwnedUserId,
    stream_id: i64,
    devices: Vec<OneDevice>,
    master_key: Option<Value>,
    self_signing_key: Option<Value>,
}

/// A user's list with its stream id: `GET /_matrix/federation/v1/user/devices/{userId}`
pub(super) async fn devices(
    fed: &Federation,
    user: &UserId,
    timeout: Duration,
) -> Result<List, OutboundError> {
    let target = format!(
        "/_matrix/federation/v1/user/devices/{}",
        utf8_percent_encode(user.as_str(), NON_ALPHANUMERIC)
    );
    let limits = Limits {
        timeout: Some(timeout),
        max_body: answer::DEVICES,
    };
    let answer = (fed.outbound())
        .call(user.server_name(), Method::GET, &target, None, limits)
        .await?;
    let found: WholeList = read(&answer)?;
    if found.user_id != user {
        let message = "it is another user's list".to_owned();
        return Err(OutboundError::Answer(message));
    }
    let mut list = List::of(
        user,
        found.devices,
        found.master_key,
        found.self_signing_key,
    )
    .map_err(|error| OutboundError::Answer(error.to_string()))?;
    list.stream_id = Some(found.stream_id);
    Ok(list)
}

/// What is said of users' keys.
#[derive(Deserialize)]
pub(super) struct Queried {
    #[serde(default, rename = "device_keys")]
    pub(super) devices: BTreeMap<String, BTreeMap<OwnedDeviceId, Value>>,
    #[serde(default, rename = "master_keys")]
    pub(super) masters: BTreeMap<String, Value>,
    #[serde(default, rename = "self_signing_keys")]
    pub(super) self_signing: BTreeMap<String, Value>,
}

/// The lists of some users of a server: `POST /_matrix/federation/v1/user/keys/query`. What wasn't asked for is left
/// out; a list that can't be used is, too.
pub(super) async fn keys(
    fed: &Federation,
    server: &ServerName,
    wanted: &Wanted,
    timeout: Duration,
) -> Result<BTreeMap<OwnedUserId, List>, OutboundError> {
    let body = json!({ "device_keys": wanted });
    let path = "/_matrix/federation/v1/user/keys/query";
    let mut found: Queried = post(fed, server, path, &body, timeout).await?;
    let mut lists = BTreeMap::new();
    for (user, named) in wanted {
        let id = user.as_str();
        let mut devices = found.devices.remove(id).unwrap_or_default();
        if !named.is_empty() {
            devices.retain(|device, _| named.contains(device));
        }
        let devices = devices.into_iter().map(OneDevice::queried).collect();
        let master = found.masters.remove(id);
        let signing = found.self_signing.remove(id);
        match List::of(user, devices, master, signing) {
            Ok(list) => drop(lists.insert(user.clone(), list)),
            Err(error) => tracing::info!(%server, %user, %error, "a list of devices can't be used"),
        }
    }
    Ok(lists)
}

/// One-time keys by user, device, and `<algorithm>:<id>`.
pub type OneTimeKeys =
    BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>;

#[derive(Deserialize)]
struct Claimed {
    #[serde(default)]
    one_time_keys: OneTimeKeys,
}

/// Claims one-time keys: `POST /_matrix/federation/v1/user/keys/claim`
pub(super) async fn claim(
    fed: &Federation,
    server: &ServerName,
    claims: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
    timeout: Duration,
) -> Result<OneTimeKeys, OutboundError> {
    let body = json!({ "one_time_keys": claims });
    let path = "/_matrix/federation/v1/user/keys/claim";
    let claimed: Claimed = post(fed, server, path, &body, timeout).await?;
    Ok(claimed.one_time_keys)
}

async fn post<T: DeserializeOwned>(
    fed: &Federation,
    server: &ServerName,
    path: &str,
    body: &Value,
    timeout: Duration,
) -> Result<T, OutboundError> {
    let body = to_raw_value(body).map_err(|error| OutboundError::Request(error.to_string()))?;
    let limits = Limits {
        timeout: Some(timeout),
        max_body: answer::DEVICES,
    };
    let answer = (fed.outbound())
        .call(server, Method::POST, path, Some(&body), limits)
        .await?;
    read(&answer)
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, OutboundError> {
    serde_json::from_slice(answer).map_err(|error| OutboundError::Answer(error.to_string()))
}
