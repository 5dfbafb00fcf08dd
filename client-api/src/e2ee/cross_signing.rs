//! A user uploads their cross-signing keys
//! (<https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysdevice_signingupload>).

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use rhizome_edge::{Body, MatrixError, RawJson};
use rhizome_protocol::{
    canonical::parse_object,
    device_keys::{CrossSigningKey, KeyError, KeyUsage, MAX_NAME_BYTES},
};
use rhizome_storage::{CommitError, CrossSigningChange};
use ruma::{
    UserId,
    api::client::{keys::upload_signing_keys::v3 as upload_signing_keys, uiaa::AuthData},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    App, Caller, Ruma,
    auth::uia::{self, Act},
};

/// How often it is decided again when the user's keys were changed in the meantime.
const ATTEMPTS: u32 = 3;

/// What a user uploads.
#[derive(Deserialize)]
pub struct Upload {
    master_key: Option<Box<RawValue>>,
    self_signing_key: Option<Box<RawValue>>,
    user_signing_key: Option<Box<RawValue>>,
    auth: Option<AuthData>,
}

/// Keys, read.
type Keys = BTreeMap<KeyUsage, CrossSigningKey>;

/// `POST /_matrix/client/v3/keys/device_signing/upload`
pub async fn upload(
    State(app): State<App>,
    Ruma {
        who,
        req,
        body: raw,
        peer,
    }: Ruma<Body<upload_signing_keys::Request, Upload>>,
) -> Result<RawJson, MatrixError> {
    who.require_own()?;
    let body = req.body;
    let mut uploaded = Keys::new();
    for (usage, key) in [
        (KeyUsage::Master, &body.master_key),
        (KeyUsage::SelfSigning, &body.self_signing_key),
        (KeyUsage::UserSigning, &body.user_signing_key),
    ] {
        if let Some(key) = key {
            uploaded.insert(usage, read(key.get(), &who.user_id, usage)?);
        }
    }
    let mut confirmed = false;
    for _ in 0..ATTEMPTS {
        let stored = (app.store.cross_signing_keys(&[who.user]).await?)
            .remove(&who.user)
            .unwrap_or_default();
        let change = decide(&who, &uploaded, &stored)?;
        if change.keys.is_empty() {
            return RawJson::of(&json!({}));
        }
        forbid_devices(&app, &who, &uploaded).await?;
        // The first ones need no proof (nobody trusts any yet), nor do the same ones again.
        if !stored.is_empty() && !confirmed {
            let act = Act {
                what: "device_signing",
                to: "",
                body: &raw,
                lately_will_do: true,
            };
            uia::confirm(&app, &who, act, (body.auth.as_ref(), peer)).await?;
            confirmed = true;
        }
        match app.store.set_cross_signing_keys(change).await {
            Ok(()) => return RawJson::of(&json!({})),
            Err(CommitError::AccountMoved(_)) => check_session(&app, &who).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(MatrixError::busy())
}

/// Who has logged out meanwhile, or ended the account, is told so.
async fn check_session(app: &App, who: &Caller) -> Result<(), MatrixError> {
    let Some(device) = &who.device_id else {
        return Ok(());
    };
    match app.store.device(who.user, device).await? {
        Some(_) => Ok(()),
        None => Err(MatrixError::unknown_token(false)),
    }
}

/// Reads a key that is uploaded, or stored.
fn read(key: &str, user: &UserId, usage: KeyUsage) -> Result<CrossSigningKey, MatrixError> {
    let object = parse_object(key.as_bytes())
        .map_err(|error| MatrixError::bad_json(format!("{}: {error}", usage.as_str())))?;
    let key = CrossSigningKey::read(object, user, usage)?;
    if key.public.len() > MAX_NAME_BYTES {
        return Err(MatrixError::bad_json("The public key is too long"));
    }
    Ok(key)
}

/// What changes.
fn decide(
    who: &Caller,
    uploaded: &Keys,
    stored: &BTreeMap<KeyUsage, Arc<str>>,
) -> Result<CrossSigningChange, MatrixError> {
    let mut before = Keys::new();
    for (usage, key) in stored {
        before.insert(*usage, read(key, &who.user_id, *usage)?);
    }
    let master = uploaded.get(&KeyUsage::Master);
    let master = master.or_else(|| before.get(&KeyUsage::Master));
    let master = master.ok_or_else(|| {
        MatrixError::missing_param("There is no master key that could have signed the others")
    })?;
    let mut change = CrossSigningChange {
        user: who.user,
        keys: BTreeMap::new(),
        expect: stored.clone(),
        replaced: Vec::new(),
    };
    let signed = |usage, key: &CrossSigningKey| match usage {
        KeyUsage::Master => Ok(()),
        _ => key.is_signed_by(&who.user_id, master),
    };
    for (usage, key) in uploaded {
        signed(*usage, key).map_err(KeyError::from)?;
        let old = before.get(usage);
        if old.is_some_and(|old| old.is_same(key) && signed(*usage, old).is_ok()) {
            continue;
        }
        change.keys.insert(*usage, Some(key.json.as_str().into()));
        let replaced = old.filter(|old| old.public != key.public);
        change
            .replaced
            .extend(replaced.map(|old| old.public.clone()));
    }
    // What another master key has signed counts for nothing.
    for (usage, old) in &before {
        if !uploaded.contains_key(usage) && signed(*usage, old).is_err() {
            change.keys.insert(*usage, None);
            change.replaced.push(old.public.clone());
        }
    }
    Ok(change)
}

/// Keys and devices of a user share their names: a key must not be called as a device is.
async fn forbid_devices(app: &App, who: &Caller, uploaded: &Keys) -> Result<(), MatrixError> {
    for key in uploaded.values() {
        let device = key.public.as_str().into();
        if app.store.device(who.user, device).await?.is_some() {
            return Err(MatrixError::forbidden(
                "The key's name is that of one of the user's devices",
            ));
        }
    }
    Ok(())
}
