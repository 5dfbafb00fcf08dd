//! Keys for end-to-end encryption that clients upload and other servers tell: whether they are in their proper
//! form, whose they are, and whether they are signed as they must be
//! (<https://spec.matrix.org/v1.19/client-server-api/#key-distribution>).
//!
//! What has been read here is kept in its canonical form, without `unsigned`, and with no signatures but those of
//! the user whose it is: what others sign is for them alone to see.

mod shown;
#[cfg(test)]
mod tests;

use ruma::{DeviceId, UserId};
use serde_json::Value;

use crate::{
    Object, Refusal,
    canonical::{JsonError, parse_object, to_canonical},
    hash,
    sign::{SignatureError, verify_json_by},
};
pub use shown::{is_same_key, shown, signatures_of};

/// The longest that a cross-signing key may be, in bytes of its canonical form. Others may have signed it often.
pub const MAX_KEY_BYTES: usize = 65_536;

/// The longest that what a device signs of itself may be.
pub const MAX_DEVICE_KEYS_BYTES: usize = 16_384;

/// The longest that a one-time or fallback key may be: a device has many.
pub const MAX_ONE_TIME_KEY_BYTES: usize = 4_096;

/// The longest name of a key, `<algorithm>:<id>`, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Why a key isn't taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It isn't what a key must look like.
    #[error("The key isn't in its proper form: {0}")]
    Malformed(String),
    /// It says that it is another user's or device's.
    #[error("The key's `{0}` is another than that of whoever brings it")]
    NotYours(&'static str),
    /// A signature that must be there isn't, or doesn't hold.
    #[error("The key isn't signed as it must be: {0}")]
    Signature(#[from] SignatureError),
    /// It is larger than so many bytes.
    #[error("The key is larger than {0} bytes")]
    TooLarge(usize),
}

impl From<JsonError> for KeyError {
    fn from(error: JsonError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Refusal for KeyError {
    fn status(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            _ => 400,
        }
    }

    fn errcode(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "M_BAD_JSON",
            Self::NotYours(_) => "M_INVALID_PARAM",
            Self::Signature(_) => "M_INVALID_SIGNATURE",
            Self::TooLarge(_) => "M_TOO_LARGE",
        }
    }
}

fn malformed(what: &str) -> KeyError {
    KeyError::Malformed(what.to_owned())
}

/// What a cross-signing key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUsage {
    /// Signs the user's other two.
    Master,
    /// Signs the user's devices.
    SelfSigning,
    /// Signs other users' master keys. Only its user gets to see it.
    UserSigning,
}

impl KeyUsage {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }

    /// The usage that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Master, Self::SelfSigning, Self::UserSigning];
        all.into_iter().find(|usage| usage.as_str() == text)
    }
}

/// A device's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKeys {
    /// What is kept.
    pub json: String,
    /// The key that the device signs with.
    pub ed25519: Option<[u8; 32]>,
}

impl DeviceKeys {
    /// Reads the keys of `user`'s `device`. A signature of the device itself must hold. Without one they are taken
    /// all the same, as other servers do: no client believes them.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(mut object: Object, user: &UserId, device: &DeviceId) -> Result<Self, KeyError> {
        for (field, mine) in [("user_id", user.as_str()), ("device_id", device.as_str())] {
            match object.get(field) {
                Some(Value::String(theirs)) if theirs == mine => {}
                Some(Value::String(_)) => return Err(KeyError::NotYours(field)),
                _ => return Err(malformed(&format!("`{field}` must be text"))),
            }
        }
        let algorithms = object.get("algorithms").and_then(Value::as_array);
        if !algorithms.is_some_and(|list| list.iter().all(Value::is_string)) {
            return Err(malformed("`algorithms` must be a list of texts"));
        }
        let keys = object.get("keys").and_then(Value::as_object);
        let keys = keys.filter(|keys| keys.values().all(Value::is_string));
        let keys = keys.ok_or_else(|| malformed("`keys` must be an object of texts"))?;
        let name = format!("ed25519:{device}");
        let ed25519 = keys.get(&name).and_then(public_key);
        let signed = object.get("signatures").and_then(Value::as_object);
        let signed = signed.ok_or_else(|| malformed("`signatures` must be an object"))?;
        let by_itself = signed
            .get(user.as_str())
            .and_then(|mine| mine.get(&name))
            .is_some();
        if by_itself {
            let key = ed25519.ok_or_else(|| malformed("the device's ed25519 key"))?;
            verify_json_by(&object, user.as_str(), &name, &key)?;
        }
        Ok(Self {
            json: kept(&mut object, user, MAX_DEVICE_KEYS_BYTES)?,
            ed25519,
        })
    }

    /// Whether these say nothing beyond what is kept, `before`: the same, signed by the device as that was. Signatures
    /// of it that were added since hold.
    pub fn say_the_same(&self, before: &str, device: &DeviceId) -> bool {
        if self.json == before {
            return true;
        }
        let read = |json: &str| serde_json::from_str::<Object>(json).ok();
        let (Some(now), Some(before)) = (read(&self.json), read(before)) else {
            return false;
        };
        let name = format!("ed25519:{device}");
        let signature = |kept: &Object| -> Option<Value> {
            let user = kept.get("user_id")?.as_str()?;
            Some(kept.get("signatures")?.get(user)?.get(&name)?.clone())
        };
        is_same_key(&now, &before) && signature(&now) == signature(&before)
    }

    /// The key that the device signs with, of keys that are kept.
    pub fn signing_key(json: &str, device: &DeviceId) -> Option<[u8; 32]> {
        let kept: Value = serde_json::from_str(json).ok()?;
        public_key(kept.get("keys")?.get(format!("ed25519:{device}"))?)
    }
}

/// A cross-signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrossSigningKey {
    /// What is kept.
    pub json: String,
    /// The public key.
    pub key: [u8; 32],
    /// The public key as it is named, in base64.
    pub public: String,
    /// What was read.
    object: Object,
}

impl CrossSigningKey {
    /// Reads `user`'s key for `usage`. Whose signatures it must have is for [`CrossSigningKey::is_signed_by`] to see.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(mut object: Object, user: &UserId, usage: KeyUsage) -> Result<Self, KeyError> {
        match object.get("user_id") {
            Some(Value::String(theirs)) if theirs == user.as_str() => {}
            Some(Value::String(_)) => return Err(KeyError::NotYours("user_id")),
            _ => return Err(malformed("`user_id` must be text")),
        }
        let usages = object.get("usage").and_then(Value::as_array);
        if !usages.is_some_and(|list| list.iter().any(|one| one == usage.as_str())) {
            let must = format!("`usage` must name {}", usage.as_str());
            return Err(KeyError::Malformed(must));
        }
        let keys = object.get("keys").and_then(Value::as_object);
        let mut keys = keys.into_iter().flatten();
        let (Some((name, value)), None) = (keys.next(), keys.next()) else {
            return Err(malformed("`keys` must have exactly one key"));
        };
        let public = name.strip_prefix("ed25519:");
        let public = public.filter(|public| value.as_str() == Some(public));
        let read = public.and_then(|public| Some((public.to_owned(), public_key(value)?)));
        let (public, key) = read.ok_or_else(|| {
            malformed("`keys` must have an ed25519 key that has its public key as its name")
        })?;
        Ok(Self {
            json: kept(&mut object, user, MAX_KEY_BYTES)?,
            key,
            public,
            object,
        })
    }

    /// What was read.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Whether it is the same key as another, whatever signatures each has.
    pub fn is_same(&self, other: &Self) -> bool {
        is_same_key(&self.object, &other.object)
    }

    /// The name of the key in `signatures`.
    pub fn key_id(&self) -> String {
        format!("ed25519:{}", self.public)
    }

    /// Checks that `master`, of the same user, has signed it.
    ///
    /// # Errors
    /// It hasn't.
    pub fn is_signed_by(&self, user: &UserId, master: &Self) -> Result<(), SignatureError> {
        verify_json_by(&self.object, user.as_str(), &master.key_id(), &master.key)
    }
}

/// Checks a one-time or fallback key of an algorithm and gives what is kept. `signer` is the user and the device whose
/// it is and the key that it signs with, where that is known.
///
/// # Errors
/// See [`KeyError`].
pub fn read_one_time_key(
    algorithm: &str,
    key: &str,
    signer: Option<(&UserId, &DeviceId, &[u8; 32])>,
) -> Result<String, KeyError> {
    if key.len() > MAX_ONE_TIME_KEY_BYTES {
        return Err(KeyError::TooLarge(MAX_ONE_TIME_KEY_BYTES));
    }
    // What is said to be signed has to be.
    if !algorithm.starts_with("signed_")
        && let Ok(text) = serde_json::from_str::<String>(key)
    {
        return Ok(Value::from(text).to_string());
    }
    let mut object = parse_object(key.as_bytes())?;
    if !object.get("key").is_some_and(Value::is_string) {
        return Err(malformed("a signed key's `key` must be text"));
    }
    if !object.get("signatures").is_some_and(Value::is_object) {
        return Err(malformed("a signed key must have `signatures`"));
    }
    if let Some((user, device, public)) = signer {
        verify_json_by(&object, user.as_str(), &format!("ed25519:{device}"), public)?;
    }
    object.remove("unsigned");
    bounded(&object, MAX_ONE_TIME_KEY_BYTES)
}

fn public_key(value: &Value) -> Option<[u8; 32]> {
    hash::from_base64_exact(value.as_str()?)
}

/// What is kept of a key of `user`.
fn kept(object: &mut Object, user: &UserId, most: usize) -> Result<String, KeyError> {
    object.remove("unsigned");
    if let Some(Value::Object(signatures)) = object.get_mut("signatures") {
        signatures.retain(|signer, _| signer == user.as_str());
    }
    bounded(object, most)
}

fn bounded(object: &Object, most: usize) -> Result<String, KeyError> {
    let text = to_canonical(object)?;
    if text.len() > most {
        return Err(KeyError::TooLarge(most));
    }
    Ok(text)
}
