//! Claiming one-time keys of devices, to begin sessions with
//! (<https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim>).

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::{Body, MatrixError, RawJson};
use rhizome_federation::devices::ours;
use rhizome_protocol::device_keys::MAX_NAME_BYTES;
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, api::client::keys::claim_keys::v3 as claim_keys,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{App, Ruma};

/// How many keys may be claimed at once.
const MOST: usize = 10_000;

/// Users, their devices, and which algorithm's key is wanted of each.
pub type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>;

/// What is claimed.
#[derive(Deserialize)]
pub struct Claim {
    one_time_keys: Claims,
    /// How long other servers may take, in milliseconds.
    timeout: Option<u64>,
}

/// By `<algorithm>:<id>`, of which there is one.
pub type Given = BTreeMap<String, Box<RawValue>>;

/// What is given.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// By user and device.
    pub one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Given>>,
    /// Servers that couldn't be asked, and why.
    pub failures: BTreeMap<OwnedServerName, Value>,
}

/// `POST /_matrix/client/v3/keys/claim`
pub async fn claim(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Body<claim_keys::Request, Claim>>,
) -> Result<RawJson, MatrixError> {
    let Claim {
        one_time_keys: claims,
        timeout,
    } = req.body;
    if claims.values().map(BTreeMap::len).sum::<usize>() > MOST {
        let message = format!("No more than {MOST} keys can be claimed at once");
        return Err(MatrixError::invalid_param(message));
    }
    let algorithms = claims.values().flat_map(BTreeMap::values);
    if algorithms
        .into_iter()
        .any(|algorithm| algorithm.len() > MAX_NAME_BYTES)
    {
        return Err(MatrixError::invalid_param(
            "An algorithm's name is too long",
        ));
    }
    let here = |user: &OwnedUserId| user.server_name() == app.config.server_name;
    let (here, elsewhere): (Claims, Claims) = claims.into_iter().partition(|(user, _)| here(user));
    let mut answer = Answer::default();
    let ours = Box::pin(ours::claim(&app.federation, here)).await?;
    answer.one_time_keys.extend(ours);
    answer.elsewhere(&app, elsewhere, timeout).await?;
    RawJson::of(&answer)
}
