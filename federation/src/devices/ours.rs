//! One-time keys of devices of users here, for whoever claims them.

use std::collections::BTreeMap;

use rhizome_storage::{KeyWanted, UserNo};
use ruma::OwnedUserId;
use serde_json::value::RawValue;

use super::ask::OneTimeKeys;
use super::keys::Claims;
use super::proxied;
use crate::{Federation, MatrixError};

/// Claims one-time keys of devices of users of ours; claims of others' are left out. Each key is given once. Where there is
/// none and an application service knows one, it is that, and otherwise the fallback key.
///
/// # Errors
/// The database's.
pub async fn claim(fed: &Federation, mut claims: Claims) -> Result<OneTimeKeys, MatrixError> {
    claims.retain(|user, _| user.server_name() == fed.server_name());
    let ids: Vec<OwnedUserId> = claims.keys().cloned().collect();
    let known = fed.store().known_users(&ids).await?;
    let known: BTreeMap<OwnedUserId, UserNo> = known.into_iter().collect();
    let mut given = Box::pin(proxied::claim(fed, &claims, &known)).await?;
    let (mut whose, mut wanted) = (Vec::new(), Vec::new());
    for (user_id, devices) in claims {
        let Some(user) = known.get(&user_id).copied() else {
            continue;
        };
        let has = given.get(&user_id);
        for (device, algorithm) in devices {
            if has.is_some_and(|has| has.contains_key(&device)) {
                continue;
            }
            whose.push((user_id.clone(), device.clone()));
            wanted.push(KeyWanted {
                user,
                device,
                algorithm,
            });
        }
    }
    let keys = fed.store().claim_keys(wanted).await?;
    for ((user, device), key) in whose.into_iter().zip(keys) {
        let Some(key) = key else { continue };
        let name = format!("{}:{}", key.algorithm, key.key_id);
        // It was JSON when it was uploaded.
        let json =
            RawValue::from_string(key.key.to_string()).map_err(|_| MatrixError::internal())?;
        let devices = given.entry(user).or_default();
        devices.insert(device, BTreeMap::from([(name, json)]));
    }
    Ok(given)
}
