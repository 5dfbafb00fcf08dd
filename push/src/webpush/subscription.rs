//! Where a subscriber is reached, and what is needed to encrypt for them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use url::Url;

use super::encrypt::{AUTH, PUBLIC, is_public_key};
use crate::error::PusherError;
use crate::notification::Device;
use crate::pusher::{self, Schemes};

const NO_KEY: PusherError = PusherError::Invalid {
    field: "pushkey",
    why: "must be a public key of P-256, uncompressed, in URL-safe Base64 without padding",
};
const NO_SECRET: PusherError = PusherError::Invalid {
    field: "data.auth",
    why: "must be 16 bytes in URL-safe Base64 without padding",
};

/// What a pusher says of its subscription. It is a secret as a whole.
pub(super) struct Subscription {
    /// The push resource.
    pub(super) url: Url,
    /// The subscriber's public key.
    pub(super) public: [u8; PUBLIC],
    /// The authentication secret.
    pub(super) auth: [u8; AUTH],
}

impl Subscription {
    /// Reads a pusher.
    pub(super) fn read(device: &Device, schemes: Schemes) -> Result<Self, PusherError> {
        let url = pusher::url(device, schemes)?;
        if !device.data.contains_key("auth") {
            return Err(PusherError::Missing("data.auth"));
        }
        let auth = device.text("auth").and_then(bytes).ok_or(NO_SECRET)?;
        let public: [u8; PUBLIC] = bytes(&device.pushkey).ok_or(NO_KEY)?;
        if public[0] != 4 {
            return Err(NO_KEY);
        }
        Ok(Self { url, public, auth })
    }

    /// Whether one can encrypt for it.
    pub(super) fn check(&self, random: &dyn SecureRandom) -> Result<(), PusherError> {
        is_public_key(random, &self.public)
            .then_some(())
            .ok_or(NO_KEY)
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
