//! Whose devices have which keys
//! (<https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery>).

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::{Body, MatrixError, RawJson};
use rhizome_federation::devices::proxied;
use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::{KeysOf, UserNo};
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, api::client::keys::get_keys::v3 as get_keys,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{App, Ruma};

/// Of how many users, or of how many devices, keys may be asked for at once.
const MOST: usize = 10_000;

/// Users with their devices; none named is all of them.
pub type Asked = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// What is asked.
#[derive(Deserialize)]
pub struct Query {
    device_keys: Asked,
    /// How long other servers may take, in milliseconds.
    timeout: Option<u64>,
}

/// Keys by user, as JSON.
pub type ByUser = BTreeMap<OwnedUserId, Box<RawValue>>;

/// What is answered.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// By user and device.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Box<RawValue>>>,
    /// Servers that couldn't be asked, and why.
    pub failures: BTreeMap<OwnedServerName, Value>,
    /// Users' master keys, …
    pub master_keys: ByUser,
    /// … self-signing keys, …
    pub self_signing_keys: ByUser,
    /// … and the user-signing key of whoever asks.
    pub user_signing_keys: ByUser,
}

/// `POST /_matrix/client/v3/keys/query`
pub async fn query(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<get_keys::Request, Query>>,
) -> Result<RawJson, MatrixError> {
    let Query {
        device_keys: asked,
        timeout,
    } = req.body;
    let devices: usize = asked.values().map(Vec::len).sum();
    if asked.len().max(devices) > MOST {
        let message = format!("Keys of no more than {MOST} users or devices can be asked for");
        return Err(MatrixError::invalid_param(message));
    }
    let here = |user: &OwnedUserId| user.server_name() == app.config.server_name;
    let (here, elsewhere): (Asked, Asked) = asked.into_iter().partition(|(user, _)| here(user));
    let mut answer = Answer::default();
    let of_services = Box::pin(proxied::query(&app.federation, &here)).await;
    answer.stored(&app, who.user, here).await?;
    answer.said(&app, who.user, of_services).await?;
    answer.elsewhere(&app, who.user, elsewhere, timeout).await?;
    RawJson::of(&answer)
}

impl Answer {
    /// Adds what is stored of these users: of ours all that there is, of others what is remembered. Whoever is known
    /// and has no devices with keys is named as such.
    pub async fn stored(
        &mut self,
        app: &App,
        viewer: UserNo,
        asked: Asked,
    ) -> Result<(), MatrixError> {
        let users: Vec<OwnedUserId> = asked.keys().cloned().collect();
        let known = app.store.known_users(&users).await?;
        let mut by_number = BTreeMap::new();
        for (user, devices) in asked {
            if let Some(no) = known.get(&user) {
                by_number.insert(*no, devices);
            }
        }
        let mut found = (app.store)
            .query_keys(&by_number, Some(viewer), true)
            .await?;
        for (user, no) in known {
            self.add(user, found.remove(&no).unwrap_or_default());
        }
        Ok(())
    }

    fn add(&mut self, user: OwnedUserId, keys: KeysOf) {
        for (usage, key) in keys.cross_signing {
            let keys = match usage {
                KeyUsage::Master => &mut self.master_keys,
                KeyUsage::SelfSigning => &mut self.self_signing_keys,
                KeyUsage::UserSigning => &mut self.user_signing_keys,
            };
            keys.insert(user.clone(), key);
        }
        self.device_keys.insert(user, keys.devices);
    }
}
