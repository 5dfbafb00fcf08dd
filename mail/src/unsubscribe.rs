//! Tokens by which mails are unsubscribed from without logging in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::error::ConfigError;

/// What a token begins with. Another form of tokens gets another number.
const VERSION: u8 = 1;
/// What is signed before the token itself, so that nothing else that is signed with the key is a token.
const PURPOSE: &[u8] = b"rhizome mail unsubscribe\0";
/// The bytes of a signature.
const MAC: usize = 32;
/// The least bytes of a secret.
const LEAST_SECRET: usize = 32;
/// The most characters of a token that is looked at.
const MAX_TOKEN: usize = 2048;

/// Whose mails end: those of one pusher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The user's id.
    pub user: String,
    /// The pusher's app.
    pub app_id: String,
    /// The pusher's key, an address.
    pub pushkey: String,
}

/// Signs tokens, and knows its own again. They are good until the secret changes.
#[derive(Clone)]
pub struct UnsubscribeKey(hmac::Key);

impl UnsubscribeKey {
    /// From a secret of at least 32 bytes, which only this server knows.
    pub fn new(secret: &[u8]) -> Result<Self, ConfigError> {
        if secret.len() < LEAST_SECRET {
            let why = format!("must have at least {LEAST_SECRET} bytes");
            return Err(ConfigError::new("secret", why));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// A token for a URL, which says whose mails end and that we say so.
    pub fn sign(&self, of: &Subscription) -> String {
        let mut token = vec![VERSION];
        for field in [&of.user, &of.app_id, &of.pushkey] {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            token.extend(length.to_be_bytes());
            token.extend(field.as_bytes());
        }
        let mac = hmac::sign(&self.0, &signed(&token));
        token.extend(mac.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What a token of ours says; none if it isn't one.
    pub fn check(&self, token: &str) -> Option<Subscription> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (fields, mac) = token.split_at_checked(token.len().checked_sub(MAC)?)?;
        // In constant time.
        hmac::verify(&self.0, &signed(fields), mac).ok()?;
        let (&VERSION, mut fields) = fields.split_first()? else {
            return None;
        };
        let subscription = Subscription {
            user: take(&mut fields)?,
            app_id: take(&mut fields)?,
            pushkey: take(&mut fields)?,
        };
        fields.is_empty().then_some(subscription)
    }
}

impl fmt::Debug for UnsubscribeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnsubscribeKey(…)")
    }
}

fn signed(token: &[u8]) -> Vec<u8> {
    [PURPOSE, token].concat()
}

/// The next field, which is its length and then itself.
fn take(fields: &mut &[u8]) -> Option<String> {
    let (length, rest) = fields.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (field, rest) = rest.split_at_checked(length)?;
    *fields = rest;
    String::from_utf8(field.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> UnsubscribeKey {
        UnsubscribeKey::new(&[fill; 32]).unwrap()
    }

    fn alice() -> Subscription {
        Subscription {
            user: "@alice:example.org".to_owned(),
            app_id: "m.email".to_owned(),
            pushkey: "alice@mail.example".to_owned(),
        }
    }

    #[test]
    fn a_token_says_whose_mails_end() {
        let token = key(1).sign(&alice());
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_eq!(key(1).check(&token), Some(alice()));
    }

    #[test]
    fn another_secret_knows_no_tokens_of_ours() {
        assert_eq!(key(2).check(&key(1).sign(&alice())), None);
    }

    #[test]
    fn no_token_can_be_changed() {
        let token = key(1).sign(&alice());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let other = URL_SAFE_NO_PAD.encode(other);
                assert_eq!(key(1).check(&other), None, "byte {at}, bit {bit}");
            }
        }
        for len in 0..token.len() {
            assert_eq!(key(1).check(&token[..len]), None);
        }
        for more in ["A", "=", "==", "\n", "AAAA"] {
            assert_eq!(key(1).check(&format!("{token}{more}")), None);
        }
        assert_eq!(key(1).check(&"A".repeat(10_000_000)), None);
    }

    #[test]
    fn what_belongs_to_one_field_cant_move_to_another() {
        let moved = Subscription {
            app_id: "m.emai".to_owned(),
            pushkey: "lalice@mail.example".to_owned(),
            ..alice()
        };
        assert_ne!(key(1).sign(&alice()), key(1).sign(&moved));
    }

    #[test]
    fn other_versions_are_none_of_these() {
        let token = key(1).sign(&alice());
        let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        bytes.truncate(bytes.len() - MAC);
        bytes[0] = 2;
        let mac = hmac::sign(&key(1).0, &signed(&bytes));
        bytes.extend(mac.as_ref());
        assert_eq!(key(1).check(&URL_SAFE_NO_PAD.encode(bytes)), None);
    }

    #[test]
    fn a_short_secret_is_none() {
        assert!(UnsubscribeKey::new(&[1; 31]).is_err());
        assert_eq!(format!("{:?}", key(1)), "UnsubscribeKey(…)");
    }
}
