//! The key that JSON Web Tokens are signed with, as far as we need it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{hmac, signature};

/// How tokens are signed (RFC 7518, RFC 8037). One that a token names otherwise is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA PKCS#1 1.5 with SHA-256, keys of 2,048 bits and more.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// As a token's header spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one that is spelt so.
    pub fn named(name: &str) -> Option<Self> {
        [
            Self::Hs256,
            Self::Hs384,
            Self::Hs512,
            Self::Rs256,
            Self::Es256,
            Self::EdDsa,
        ]
        .into_iter()
        .find(|one| one.as_str() == name)
    }

    /// Whether who can verify can sign as well: the key is a secret.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// What verifies.
pub(super) enum Key {
    Secret(hmac::Key),
    Public(signature::UnparsedPublicKey<Vec<u8>>),
}

impl Key {
    /// From a secret's bytes, or a public key in PEM.
    pub(super) fn new(algorithm: Algorithm, text: &str) -> Result<Self, &'static str> {
        let secret = |algorithm| Ok(Self::Secret(hmac::Key::new(algorithm, text.as_bytes())));
        let verifier: &'static dyn signature::VerificationAlgorithm = match algorithm {
            Algorithm::Hs256 => return secret(hmac::HMAC_SHA256),
            Algorithm::Hs384 => return secret(hmac::HMAC_SHA384),
            Algorithm::Hs512 => return secret(hmac::HMAC_SHA512),
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::EdDsa => &signature::ED25519,
        };
        let bits = public_bits(text)?;
        let length = match algorithm {
            Algorithm::Es256 => Some(65),
            Algorithm::EdDsa => Some(32),
            _ => None,
        };
        if length.is_some_and(|length| length != bits.len()) {
            return Err("the public key is of another algorithm");
        }
        let key = signature::UnparsedPublicKey::new(verifier, bits);
        Ok(Self::Public(key))
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify(message, signature).is_ok(),
        }
    }
}

/// The key's bits in a `SubjectPublicKeyInfo` (RFC 5280): the bit string that stands after the algorithm.
fn public_bits(pem: &str) -> Result<Vec<u8>, &'static str> {
    const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
    const END: &str = "-----END PUBLIC KEY-----";
    let (_, rest) = pem.split_once(BEGIN).ok_or("it has no BEGIN PUBLIC KEY")?;
    let (body, _) = rest.split_once(END).ok_or("it has no END PUBLIC KEY")?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| "it is no base64")?;
    let wrong = "it is no public key as `openssl pkey -pubout` writes it";
    let (whole, after) = element(&der, 0x30).ok_or(wrong)?;
    let (_, rest) = element(whole, 0x30).ok_or(wrong)?;
    let (bits, end) = element(rest, 0x03).ok_or(wrong)?;
    match (after, end, bits) {
        ([], [], [0, bits @ ..]) => Ok(bits.to_vec()),
        _ => Err(wrong),
    }
}

/// The content of the DER element of this tag at the start, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = der else {
        return None;
    };
    if *first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let bytes = [*rest.first()?, *rest.get(1)?];
            (usize::from(u16::from_be_bytes(bytes)), rest.get(2..)?)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_within_their_bounds() {
        assert_eq!(element(&[0x30, 1, 7, 8], 0x30), Some((&[7][..], &[8][..])));
        assert_eq!(
            element(&[0x30, 0x81, 1, 7], 0x30),
            Some((&[7][..], &[][..]))
        );
        for cut in [
            &[][..],
            &[0x30],
            &[0x30, 2, 7],
            &[0x30, 0x81],
            &[0x30, 0x82, 1],
            &[0x30, 0x82, 1, 0, 7],
            &[0x30, 0x83, 0, 0, 1, 7],
            &[0x31, 1, 7],
        ] {
            assert_eq!(element(cut, 0x30), None, "{cut:?}");
        }
    }

    #[test]
    fn keys_are_public_and_of_their_algorithm() {
        // RFC 8410, section 10.1.
        let pem = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
            -----END PUBLIC KEY-----\n";
        assert_eq!(public_bits(pem).unwrap().len(), 32);
        assert!(Key::new(Algorithm::EdDsa, pem).is_ok());
        assert!(Key::new(Algorithm::Es256, pem).is_err());
        for wrong in [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\n%\n-----END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----",
            "-----BEGIN PRIVATE KEY-----\nMCow\n-----END PRIVATE KEY-----",
        ] {
            assert!(Key::new(Algorithm::EdDsa, wrong).is_err(), "{wrong}");
        }
        for name in ["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"] {
            assert_eq!(Algorithm::named(name).unwrap().as_str(), name);
        }
        assert_eq!(Algorithm::named("none"), None);
    }
}
