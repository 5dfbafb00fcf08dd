//! What other servers are told when they ask for devices and keys of users here.

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::{Body, Table};
use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::{KeysOf, UserNo};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::federation::{
        device::get_devices::v1 as get_devices,
        keys::{claim_keys::v1 as claim_keys, get_keys::v1 as get_keys},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ours, proxied};
use crate::{Federation, MatrixError, RawJson, Ruma};

/// Of how many users or devices keys may be asked for at once.
const MOST: usize = 10_000;

/// The endpoints of this module.
pub(crate) fn endpoints(table: Table<Federation>) -> Table<Federation> {
    table.serve(devices).serve(query).serve(claim)
}

/// Users of ours and their numbers; others are left out.
async fn of_ours<'a>(
    fed: &Federation,
    users: impl Iterator<Item = &'a OwnedUserId>,
) -> Result<BTreeMap<OwnedUserId, UserNo>, MatrixError> {
    let ours = users.filter(|user| user.server_name() == fed.server_name());
    let ours: Vec<OwnedUserId> = ours.cloned().collect();
    Ok(fed.store().known_users(&ours).await?.into_iter().collect())
}

/// `GET /_matrix/federation/v1/user/devices/{userId}`
async fn devices(
    State(fed): State<Federation>,
    Ruma { req, .. }: Ruma<get_devices::Request>,
) -> Result<RawJson, MatrixError> {
    let user_id = req.user_id;
    let no_user = || MatrixError::not_found("There is no such user here");
    if user_id.server_name() != fed.server_name() {
        return Err(no_user());
    }
    let account = fed.store().account(&user_id).await?.ok_or_else(no_user)?;
    let user = account.user;
    // In this order: what has changed in between is told once more, and changes nothing then.
    let stream = fed.store().device_stream(user).await?;
    let names = fed.config().tell_device_names;
    let asked = BTreeMap::from([(user, Vec::new())]);
    let mut found = fed.store().query_keys(&asked, None, names).await?;
    let mut found = found.remove(&user).unwrap_or_default();
    let mut known: BTreeMap<_, _> = BTreeMap::new();
    if names {
        let devices = fed.store().devices(user).await?;
        known.extend(devices.into_iter().map(|one| (one.device_id, one.name)));
    }
    let devices = found.devices.iter().map(|(device, keys)| {
        let mut one = json!({ "device_id": device, "keys": keys });
        if let Some(Some(name)) = known.get(device) {
            one["device_display_name"] = Value::from(name.as_str());
        }
        one
    });
    let mut answer = json!({
        "user_id": user_id,
        "stream_id": stream.0,
        "devices": devices.collect::<Vec<_>>(),
    });
    for (usage, field) in [
        (KeyUsage::Master, "master_key"),
        (KeyUsage::SelfSigning, "self_signing_key"),
    ] {
        if let Some(key) = found.cross_signing.remove(&usage) {
            answer[field] = json!(key);
        }
    }
    RawJson::of(&answer)
}

/// What is asked: users with their devices; none named is all of them.
#[derive(Deserialize)]
struct Query {
    device_keys: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
}

/// `POST /_matrix/federation/v1/user/keys/query`
async fn query(
    State(fed): State<Federation>,
    Ruma { req, .. }: Ruma<Body<get_keys::Request, Query>>,
) -> Result<RawJson, MatrixError> {
    let mut asked = req.body.device_keys;
    let devices: usize = asked.values().map(Vec::len).sum();
    bounded(asked.len().max(devices))?;
    let users = of_ours(&fed, asked.keys()).await?;
    asked.retain(|user, _| users.contains_key(user));
    let mut of_services = Box::pin(proxied::query(&fed, &asked)).await;
    let wanted = users
        .iter()
        .map(|(user, no)| (*no, asked.remove(user).unwrap_or_default()));
    let names = fed.config().tell_device_names;
    let mut found = (fed.store())
        .query_keys(&wanted.collect(), None, names)
        .await?;
    let (mut devices, mut masters, mut signing) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (user, no) in users {
        let KeysOf {
            devices: mut of_user,
            mut cross_signing,
        } = found.remove(&no).unwrap_or_default();
        // What a service says of its user counts more than what is stored (MSC3984).
        if let Some(said) = of_services.remove(&user) {
            of_user.extend(said.devices);
            cross_signing.extend(said.cross_signing);
        }
        if let Some(key) = cross_signing.remove(&KeyUsage::Master) {
            masters.insert(user.clone(), key);
        }
        if let Some(key) = cross_signing.remove(&KeyUsage::SelfSigning) {
            signing.insert(user.clone(), key);
        }
        devices.insert(user, of_user);
    }
    RawJson::of(&json!({
        "device_keys": devices,
        "master_keys": masters,
        "self_signing_keys": signing,
    }))
}

fn bounded(asked: usize) -> Result<(), MatrixError> {
    if asked > MOST {
        let message = format!("No more than {MOST} users or devices can be asked for at once");
        return Err(MatrixError::invalid_param(message));
    }
    Ok(())
}

/// What is claimed.
#[derive(Deserialize)]
struct Claims {
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
}

/// `POST /_matrix/federation/v1/user/keys/claim`
async fn claim(
    State(fed): State<Federation>,
    Ruma { req, .. }: Ruma<Body<claim_keys::Request, Claims>>,
) -> Result<RawJson, MatrixError> {
    let claims = req.body.one_time_keys;
    bounded(claims.values().map(BTreeMap::len).sum())?;
    let given = ours::claim(&fed, claims).await?;
    RawJson::of(&json!({ "one_time_keys": given }))
}
