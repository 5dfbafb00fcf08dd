//! A device uploads its keys
//! (<https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysupload>).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use rhizome_edge::{Body, MatrixError, RawJson};
use rhizome_protocol::{
    canonical::parse_object,
    device_keys::{self, DeviceKeys, MAX_NAME_BYTES},
};
use rhizome_storage::{CommitError, DecidedOn, DeviceUpload, OneTimeKey};
use ruma::{DeviceId, UserId, api::client::keys::upload_keys::v3 as upload};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{App, Ruma};

/// How many one-time keys may come at once. Clients send 50 or 100.
const MOST_ONE_TIME: usize = 500;

/// How many fallback keys, one for each algorithm.
const MOST_FALLBACK: usize = 16;

/// How often it is decided again when another upload of the device came in between.
const ATTEMPTS: u32 = 5;

/// How many signatures are verified without a pause.
const AT_ONCE: usize = 16;

/// Keys by `<algorithm>:<id>`.
pub(super) type Keys = BTreeMap<String, Box<RawValue>>;

/// What a device uploads.
#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "the specification's names")]
pub struct Upload {
    device_keys: Option<Box<RawValue>>,
    one_time_keys: Option<Keys>,
    fallback_keys: Option<Keys>,
}

/// `POST /_matrix/client/v3/keys/upload`
pub async fn upload(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<upload::Request, Upload>>,
) -> Result<RawJson, MatrixError> {
    let device = who.device()?;
    let body = req.body;
    let (one_time, fallback) = (
        body.one_time_keys.unwrap_or_default(),
        body.fallback_keys.unwrap_or_default(),
    );
    if body.device_keys.is_some() || !one_time.is_empty() || !fallback.is_empty() {
        let keys = body.device_keys.as_deref();
        let keys = keys.map(|keys| read_device(keys, &who.user_id, device));
        let keys = keys.transpose()?;
        for attempt in 1..=ATTEMPTS {
            let identity = Identity::of(&app, who.user, device, keys.as_ref()).await?;
            let signer = identity.signer.as_ref();
            let signer = signer.map(|key| (&*who.user_id, &**device, key));
            let upload = DeviceUpload {
                user: who.user,
                device: device.clone(),
                decided_on: DecidedOn::Keys(identity.before),
                keys: identity.new.map(Into::into),
                anew: identity.anew,
                one_time: one_time_keys(&one_time, signer).await?,
                fallback: fallback_keys(&fallback, signer).await?,
            };
            match app.store.upload_keys(upload).await {
                // Another upload of the device came in between.
                Err(CommitError::KeysMoved(_)) if attempt < ATTEMPTS => {}
                done => {
                    done.map_err(refused)?;
                    break;
                }
            }
        }
    }
    let counts = app.store.key_counts(who.user, device).await?;
    RawJson::of(&json!({ "one_time_key_counts": counts.one_time }))
}

/// What a device is, and what it signs with.
struct Identity {
    /// Its keys that are there.
    before: Option<Arc<str>>,
    /// Its keys, if they aren't those that are there already.
    new: Option<String>,
    /// It was another before.
    anew: bool,
    /// The key that must have signed its others, if it has said so.
    signer: Option<[u8; 32]>,
}

impl Identity {
    async fn of(
        app: &App,
        user: rhizome_storage::UserNo,
        device: &ruma::OwnedDeviceId,
        uploaded: Option<&DeviceKeys>,
    ) -> Result<Self, MatrixError> {
        let stored = app.store.device_keys_of(&[(user, device.clone())]).await?;
        let stored = stored.into_iter().next().map(|stored| stored.keys);
        let before = stored.as_deref();
        let before = before.and_then(|stored| DeviceKeys::signing_key(stored, device));
        let Some(uploaded) = uploaded else {
            return Ok(Self {
                signer: before,
                before: stored,
                new: None,
                anew: false,
            });
        };
        let is_known = stored.as_deref();
        let is_known = is_known.is_some_and(|stored| uploaded.say_the_same(stored, device));
        Ok(Self {
            anew: stored.is_some() && before != uploaded.ed25519,
            before: stored,
            signer: uploaded.ed25519,
            new: (!is_known).then(|| uploaded.json.clone()),
        })
    }
}

/// Checks what a device has signed of itself.
pub(super) fn read_device(
    keys: &RawValue,
    user: &UserId,
    device: &DeviceId,
) -> Result<DeviceKeys, MatrixError> {
    let object = parse_object(keys.get().as_bytes())
        .map_err(|error| MatrixError::bad_json(format!("device_keys: {error}")))?;
    Ok(DeviceKeys::read(object, user, device)?)
}

/// A user, a device of theirs, and the key that it signs with.
type Signer<'a> = (&'a UserId, &'a DeviceId, &'a [u8; 32]);

/// Checks one-time keys.
pub(super) async fn one_time_keys(
    keys: &Keys,
    signer: Option<Signer<'_>>,
) -> Result<Vec<OneTimeKey>, MatrixError> {
    read_all(keys, MOST_ONE_TIME, signer).await
}

/// Checks fallback keys.
pub(super) async fn fallback_keys(
    keys: &Keys,
    signer: Option<Signer<'_>>,
) -> Result<Vec<OneTimeKey>, MatrixError> {
    one_of_each(read_all(keys, MOST_FALLBACK, signer).await?)
}

/// A signature takes its time: others get theirs in between.
async fn read_all(
    keys: &Keys,
    most: usize,
    signer: Option<Signer<'_>>,
) -> Result<Vec<OneTimeKey>, MatrixError> {
    if keys.len() > most {
        let message = format!("No more than {most} of these keys can be uploaded at once");
        return Err(MatrixError::invalid_param(message));
    }
    let mut read = Vec::with_capacity(keys.len());
    for (number, (name, key)) in keys.iter().enumerate() {
        if number % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let (algorithm, key_id) = name
            .split_once(':')
            .filter(|(algorithm, id)| {
                !algorithm.is_empty() && !id.is_empty() && name.len() <= MAX_NAME_BYTES
            })
            .ok_or_else(|| MatrixError::bad_json("A key's name must be <algorithm>:<id>"))?;
        let key = device_keys::read_one_time_key(algorithm, key.get(), signer)?;
        read.push(OneTimeKey {
            algorithm: algorithm.to_owned(),
            key_id: key_id.to_owned(),
            key: key.into(),
        });
    }
    Ok(read)
}

/// "There can only be at most one key per algorithm uploaded".
fn one_of_each(keys: Vec<OneTimeKey>) -> Result<Vec<OneTimeKey>, MatrixError> {
    // They come in the order of their names.
    let each = keys.is_sorted_by(|one, next| one.algorithm < next.algorithm);
    if each {
        Ok(keys)
    } else {
        Err(MatrixError::invalid_param(
            "There can be one fallback key of each algorithm",
        ))
    }
}

/// A device that has gone meanwhile has no token any more either.
fn refused(error: CommitError) -> MatrixError {
    match error {
        CommitError::AccountMoved(_) => MatrixError::unknown_token(false),
        CommitError::KeysMoved(_) => MatrixError::limit_exceeded(1_000),
        error => error.into(),
    }
}
