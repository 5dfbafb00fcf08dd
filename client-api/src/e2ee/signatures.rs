//! A user's signatures of their own devices and master key, and of other users' master keys
//! (<https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload>).

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::{Body, MatrixError, RawJson};
use rhizome_protocol::{
    Object,
    canonical::parse_object,
    device_keys::{CrossSigningKey, DeviceKeys, KeyUsage, is_same_key, signatures_of},
    sign::verify_json_by,
};
use rhizome_storage::{KeySignature, UserNo};
use ruma::{
    OwnedDeviceId, OwnedUserId, UserId,
    api::client::keys::upload_signatures::v3 as upload_signatures,
};
use serde_json::{Value, json, value::RawValue};

use crate::{App, Caller, Ruma};

/// How many keys may be signed at once.
const MOST: usize = 1_000;

/// Signed keys by user and by the id of the key: a device's, or a public key.
pub type Signed = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>;

/// `POST /_matrix/client/v3/keys/signatures/upload`
pub async fn upload(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<upload_signatures::Request, Signed>>,
) -> Result<RawJson, MatrixError> {
    let signed = req.body;
    if signed.values().map(BTreeMap::len).sum::<usize>() > MOST {
        let message = format!("No more than {MOST} keys can be signed at once");
        return Err(MatrixError::invalid_param(message));
    }
    let known = Known::load(&app, &who, &signed).await?;
    let mut signatures = Vec::new();
    let mut failures: BTreeMap<OwnedUserId, BTreeMap<String, Value>> = BTreeMap::new();
    for (user, keys) in signed {
        for (id, key) in keys {
            match known.check(&user, &id, &key) {
                Ok(found) => signatures.extend(found),
                Err(error) => {
                    let failures = failures.entry(user.clone()).or_default();
                    failures.insert(id, error.body());
                }
            }
        }
    }
    app.store.add_key_signatures(who.user, signatures).await?;
    RawJson::of(&json!({ "failures": failures }))
}

/// The keys that are signed and those that sign.
struct Known<'a> {
    who: &'a Caller,
    /// The signer's own devices, as they are kept.
    devices: BTreeMap<OwnedDeviceId, String>,
    /// The signer's own keys.
    own: BTreeMap<KeyUsage, CrossSigningKey>,
    /// Master keys, the signer's own too.
    masters: BTreeMap<OwnedUserId, (UserNo, CrossSigningKey)>,
}

impl<'a> Known<'a> {
    async fn load(app: &App, who: &'a Caller, signed: &Signed) -> Result<Self, MatrixError> {
        let mut users: Vec<OwnedUserId> = signed.keys().cloned().collect();
        users.push(who.user_id.clone());
        let numbers = app.store.known_users(&users).await?;
        let nos: Vec<UserNo> = numbers.values().copied().collect();
        let keys = app.store.cross_signing_keys(&nos).await?;
        let read = |user: &UserId, no: &UserNo, usage| {
            let json = keys.get(no)?.get(&usage)?;
            let object = parse_object(json.as_bytes()).ok()?;
            CrossSigningKey::read(object, user, usage).ok()
        };
        let mut masters = BTreeMap::new();
        for (user, no) in &numbers {
            if let Some(master) = read(user, no, KeyUsage::Master) {
                masters.insert(user.clone(), (*no, master));
            }
        }
        let usages = [KeyUsage::SelfSigning, KeyUsage::UserSigning];
        let own = usages
            .into_iter()
            .filter_map(|usage| Some((usage, read(&who.user_id, &who.user, usage)?)));
        let devices = if signed.contains_key(&who.user_id) {
            app.store.device_keys(&[who.user]).await?
        } else {
            Vec::new()
        };
        Ok(Self {
            who,
            own: own.collect(),
            masters,
            devices: (devices.into_iter())
                .map(|device| (device.device, device.keys.to_string()))
                .collect(),
        })
    }

    /// The signatures that are new of a key, each of which must hold.
    fn check(
        &self,
        user: &UserId,
        id: &str,
        key: &RawValue,
    ) -> Result<Vec<KeySignature>, MatrixError> {
        let key = parse_object(key.get().as_bytes())
            .map_err(|error| MatrixError::bad_json(error.to_string()))?;
        if user == self.who.user_id
            && let Some(kept) = self.devices.get(<&ruma::DeviceId>::from(id))
        {
            let kept = parse_object(kept.as_bytes()).map_err(|_| MatrixError::internal())?;
            same(&key, &kept)?;
            let signer = self.signer(KeyUsage::SelfSigning)?;
            let signature = self.by(&key, &signer.key_id(), &signer.key)?;
            let target = (self.who.user, id, true);
            return Ok(vec![self.made(target, signer.key_id(), signature)]);
        }
        let (no, master) = (self.masters.get(user))
            .filter(|(_, master)| master.public == id)
            .ok_or_else(|| MatrixError::not_found("There is no such key"))?;
        same(&key, master.object())?;
        let target = (*no, id, false);
        if user != self.who.user_id {
            let signer = self.signer(KeyUsage::UserSigning)?;
            let signature = self.by(&key, &signer.key_id(), &signer.key)?;
            return Ok(vec![self.made(target, signer.key_id(), signature)]);
        }
        // One's own master key is signed by one's devices.
        let mut made = Vec::new();
        for (name, _) in signatures_of(&key, user) {
            if name == master.key_id() {
                continue;
            }
            let device = name.strip_prefix("ed25519:").unwrap_or_default();
            let device = <&ruma::DeviceId>::from(device);
            let public = self.devices.get(device);
            let public = public.and_then(|keys| DeviceKeys::signing_key(keys, device));
            let public =
                public.ok_or_else(|| invalid("A signature is by no device of the user"))?;
            let signature = self.by(&key, name, &public)?;
            made.push(self.made(target, name.to_owned(), signature));
        }
        if made.is_empty() {
            return Err(invalid("None of the user's devices has signed it"));
        }
        Ok(made)
    }

    fn signer(&self, usage: KeyUsage) -> Result<&CrossSigningKey, MatrixError> {
        let none = || {
            invalid(format!(
                "There is no {} key that could sign it",
                usage.as_str()
            ))
        };
        self.own.get(&usage).ok_or_else(none)
    }

    /// The caller's signature with a key, verified.
    fn by(&self, key: &Object, name: &str, public: &[u8; 32]) -> Result<String, MatrixError> {
        verify_json_by(key, self.who.user_id.as_str(), name, public)
            .map_err(|error| invalid(error.to_string()))?;
        let made = signatures_of(key, &self.who.user_id);
        let signature = made.get(name).copied().unwrap_or_default();
        Ok(signature.to_owned())
    }

    fn made(
        &self,
        (target_user, id, is_device): (UserNo, &str, bool),
        signer_key: String,
        signature: String,
    ) -> KeySignature {
        KeySignature {
            target_user,
            target_id: id.to_owned(),
            is_device,
            signer: self.who.user,
            signer_key,
            signature,
        }
    }
}

/// Whether it is the key that is known that was signed.
fn same(signed: &Object, kept: &Object) -> Result<(), MatrixError> {
    if is_same_key(signed, kept) {
        Ok(())
    } else {
        Err(invalid("What is signed isn't the key that is known"))
    }
}

fn invalid(message: impl Into<String>) -> MatrixError {
    let status = http::StatusCode::BAD_REQUEST;
    MatrixError::new(status, "M_INVALID_SIGNATURE", message)
}
