//! Who signs: devices and cross-signing keys, with real keys.

use http::Method;
use rhizome_protocol::{canonical::to_canonical, sign::KeyPair};
use serde_json::{Value, json};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use crate::harness::User;

/// Something that signs, under the name that its key has.
pub struct Signer {
    /// Whose.
    pub user: String,
    /// `ed25519:…`
    pub name: String,
    key: KeyPair,
}

impl Signer {
    pub fn public(&self) -> String {
        self.key.public_base64()
    }

    /// The same object with this one's signature added.
    pub fn sign(&self, object: &Value) -> Value {
        let mut object = object.clone();
        let mut bare = object.as_object().unwrap().clone();
        bare.remove("signatures");
        bare.remove("unsigned");
        let signature = self.key.sign(to_canonical(&bare).unwrap().as_bytes());
        object["signatures"][&self.user][&self.name] = STANDARD_NO_PAD.encode(signature).into();
        object
    }

    /// A cross-signing key of a user.
    pub fn cross_signing(user: &str, seed: u8) -> Self {
        let key = KeyPair::from_seed("x", &[seed; 32]).unwrap();
        Self {
            user: user.to_owned(),
            name: format!("ed25519:{}", key.public_base64()),
            key,
        }
    }

    /// As it is uploaded, without signatures.
    pub fn as_key(&self, usage: &str) -> Value {
        json!({
            "user_id": self.user,
            "usage": [usage],
            "keys": { &self.name: self.public() },
        })
    }
}

/// A device that encrypts.
pub struct Device {
    pub user: User,
    pub id: String,
    pub signer: Signer,
}

impl Device {
    /// The device of a logged-in user.
    pub async fn of(user: &User, seed: u8) -> Self {
        let whoami = user.read("/account/whoami").await;
        Self::named(user, whoami["device_id"].as_str().unwrap(), seed)
    }

    /// The device of a user that has this id.
    pub fn named(user: &User, id: &str, seed: u8) -> Self {
        let signer = Signer {
            user: user.id.clone(),
            name: format!("ed25519:{id}"),
            key: KeyPair::from_seed("x", &[seed; 32]).unwrap(),
        };
        let (user, id) = (user.clone(), id.to_owned());
        Self { user, id, signer }
    }

    /// What it says of itself, signed.
    pub fn keys(&self) -> Value {
        let (id, public) = (&self.id, self.signer.public());
        self.signer.sign(&json!({
            "user_id": self.user.id,
            "device_id": id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": { format!("curve25519:{id}"): public, format!("ed25519:{id}"): public },
        }))
    }

    /// One-time keys with these ids, signed.
    pub fn one_time(&self, ids: &[&str]) -> Value {
        let key = |id: &&str| {
            let key = self.signer.sign(&json!({ "key": format!("key {id}") }));
            (format!("signed_curve25519:{id}"), key)
        };
        ids.iter()
            .map(key)
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// A fallback key, signed.
    pub fn fallback(&self, id: &str) -> Value {
        let key = json!({ "key": format!("key {id}"), "fallback": true });
        json!({ format!("signed_curve25519:{id}"): self.signer.sign(&key) })
    }

    pub async fn upload(&self, body: Value) -> Value {
        self.user.ok(Method::POST, "/keys/upload", body).await
    }

    /// An upload that has to fail; with which code.
    pub async fn refused(&self, body: Value) -> String {
        let path = "/keys/upload";
        let (status, answer) = self.user.call(Method::POST, path, Some(body)).await;
        assert!([400, 413].contains(&status.as_u16()), "{answer}");
        answer["errcode"].as_str().unwrap().to_owned()
    }
}

/// What `/keys/query` tells a user of others.
pub async fn query(user: &User, asked: Value) -> Value {
    let body = json!({ "device_keys": asked });
    user.ok(Method::POST, "/keys/query", body).await
}
