//! Devices, and the keys that they show.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rhizome_protocol::{canonical::to_canonical, sign::KeyPair};
use serde_json::{Value, json};

/// A device that is logged in.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: String,
    pub token: String,
}

impl Device {
    /// That of an answer to a login or a registration.
    pub fn of(session: &Value) -> Self {
        let text = |field: &str| session[field].as_str().unwrap().to_owned();
        Self {
            id: text("device_id"),
            token: text("access_token"),
        }
    }
}

/// What a device says of itself, signed. What its key is follows from its id.
pub fn signed_keys(user: &str, device: &str) -> Value {
    let mut seed = [0; 32];
    for (at, byte) in device.bytes().enumerate() {
        seed[at % 32] ^= byte;
    }
    let key = KeyPair::from_seed("x", &seed).unwrap();
    let (public, name) = (key.public_base64(), format!("ed25519:{device}"));
    let mut keys = json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { format!("curve25519:{device}"): &public, &name: &public },
    });
    let text = to_canonical(keys.as_object().unwrap()).unwrap();
    let signature = STANDARD_NO_PAD.encode(key.sign(text.as_bytes()));
    keys["signatures"][user][&name] = signature.into();
    keys
}
