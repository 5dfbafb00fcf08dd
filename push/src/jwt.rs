//! Signed tokens (RFC 7519), and the keys that sign them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::error::{BuildError, ConfigError};

/// A P-256 key, which signs as `ES256`.
pub(crate) struct Es256 {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Es256 {
    /// Reads a key in PKCS#8, as PEM or as it is. `what` is where the operator has it.
    pub(crate) fn read(what: &'static str, bytes: &[u8]) -> Result<Self, ConfigError> {
        let der = pkcs8(what, bytes)?;
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random);
        let pair = pair.map_err(|_| ConfigError::Key {
            what,
            why: "it must be a P-256 key with its public part, in PKCS#8",
        })?;
        Ok(Self { pair, random })
    }

    /// A new key in PKCS#8.
    pub(crate) fn generate() -> Result<Vec<u8>, BuildError> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())?;
        Ok(document.as_ref().to_vec())
    }

    /// Its public part, uncompressed.
    pub(crate) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// A token. `header` says that it's `ES256`.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> Result<String, BuildError> {
        token(header, claims, |text| {
            let signature = self.pair.sign(&self.random, text)?;
            Ok(signature.as_ref().to_vec())
        })
    }
}

/// An RSA key, which signs as `RS256`.
pub(crate) struct Rs256 {
    pair: RsaKeyPair,
    random: SystemRandom,
}

impl Rs256 {
    /// Reads a key in PKCS#8, as PEM. `what` is where the operator has it.
    pub(crate) fn read(what: &'static str, bytes: &[u8]) -> Result<Self, ConfigError> {
        let der = pkcs8(what, bytes)?;
        let pair = rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der());
        let pair = pair.map_err(|_| ConfigError::Key {
            what,
            why: "it must be an RSA key of 2048 to 4096 bits, in PKCS#8",
        })?;
        let random = SystemRandom::new();
        Ok(Self { pair, random })
    }

    /// A token. `header` says that it's `RS256`.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> Result<String, BuildError> {
        token(header, claims, |text| {
            let mut signature = vec![0; self.pair.public().modulus_len()];
            self.pair
                .sign(&RSA_PKCS1_SHA256, &self.random, text, &mut signature)?;
            Ok(signature)
        })
    }
}

fn pkcs8<'a>(what: &'static str, bytes: &'a [u8]) -> Result<PrivatePkcs8KeyDer<'a>, ConfigError> {
    // Of DER this is how a sequence begins; of PEM there is a dash somewhere.
    if bytes.first() == Some(&0x30) {
        return Ok(bytes.into());
    }
    PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|_| ConfigError::Key {
        what,
        why: "it must hold a block that begins with -----BEGIN PRIVATE KEY-----",
    })
}

fn token(
    header: &Value,
    claims: &Value,
    sign: impl Fn(&[u8]) -> Result<Vec<u8>, BuildError>,
) -> Result<String, BuildError> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (header, claims) = (header.to_string(), claims.to_string());
    let text = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes())
    );
    let signature = sign(text.as_bytes())?;
    Ok(format!("{text}.{}", encode(&signature)))
}

impl fmt::Debug for Es256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Es256(…)")
    }
}

impl fmt::Debug for Rs256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rs256(…)")
    }
}

/// Seconds since 1970.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A token that is used until it's too old.
#[derive(Clone)]
pub(crate) struct Made<T> {
    pub(crate) token: T,
    at: SystemTime,
}

impl<T> Made<T> {
    pub(crate) fn new(token: T, at: SystemTime) -> Self {
        Self { token, at }
    }

    /// Whether it was made less than so long ago. One of the future is not: the clock was set back since.
    pub(crate) fn is_younger(&self, than: Duration, now: SystemTime) -> bool {
        now.duration_since(self.at).is_ok_and(|age| age < than)
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::json;

    use super::*;

    /// As `openssl genpkey` writes it.
    const OPENSSL: &str = include_str!("../tests/it/keys/p256.pem");
    const RSA: &str = include_str!("../tests/it/keys/rsa.pem");

    fn decoded(part: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(part).unwrap()
    }

    fn verified(key: &Es256) {
        let token = key
            .sign(&json!({ "alg": "ES256" }), &json!({ "sub": "ä" }))
            .unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public())
            .verify(text.as_bytes(), &decoded(signature))
            .unwrap();
        let (header, claims) = text.split_once('.').unwrap();
        assert_eq!(decoded(header), br#"{"alg":"ES256"}"#);
        assert_eq!(decoded(claims), r#"{"sub":"ä"}"#.as_bytes());
    }

    #[test]
    fn keys_are_read_as_pem_and_as_they_are() {
        verified(&Es256::read("key", OPENSSL.as_bytes()).unwrap());
        verified(&Es256::read("key", &Es256::generate().unwrap()).unwrap());
        let pem = format!("before\r\n{}after", OPENSSL.replace('\n', "\r\n"));
        verified(&Es256::read("key", pem.as_bytes()).unwrap());
    }

    /// Apple's keys name the curve once more, inside.
    #[test]
    fn keys_that_name_their_curve_twice_are_read() {
        let body: String = OPENSSL
            .lines()
            .filter(|line| !line.contains(['-', ' ']))
            .collect();
        let der = STANDARD.decode(body).unwrap();
        let (head, rest) = (&der[3..27], &der[27..]);
        assert_eq!(rest[..5], [0x04, 0x6d, 0x30, 0x6b, 0x02]);
        let curve = [
            0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
        ];
        let private = 2 + 2 + 3 + 2 + 32;
        let mut with_curve = vec![0x30, 0x81, 0x87 + 12];
        with_curve.extend(head);
        with_curve.extend([0x04, 0x6d + 12, 0x30, 0x6b + 12]);
        with_curve.extend(&rest[4..private]);
        with_curve.extend(curve);
        with_curve.extend(&rest[private..]);
        verified(&Es256::read("key", &with_curve).unwrap());
    }

    #[test]
    fn what_is_no_key_is_refused_in_words() {
        let why = |bytes: &[u8]| Es256::read("the key", bytes).unwrap_err().to_string();
        let no_pem = "the key holds no private key that can be used: it must hold a block that begins with \
                      -----BEGIN PRIVATE KEY-----";
        assert_eq!(why(b""), no_pem);
        assert_eq!(why(b"-----BEGIN PRIVATE KEY-----\nAAAA"), no_pem);
        assert_eq!(
            why(OPENSSL.replace("PRIVATE", "EC PRIVATE").as_bytes()),
            no_pem
        );
        let other = "the key holds no private key that can be used: it must be a P-256 key with its public part, \
                     in PKCS#8";
        assert_eq!(why(RSA.as_bytes()), other);
        assert_eq!(why(b"0"), other);
        let why = Rs256::read("the key", OPENSSL.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(why.contains("RSA"), "{why}");
    }

    #[test]
    fn tokens_grow_old_and_come_from_no_future() {
        let at = UNIX_EPOCH + Duration::from_hours(1);
        let (token, hour) = (Made::new((), at), Duration::from_hours(1));
        assert!(token.is_younger(hour, at));
        assert!(token.is_younger(hour, at + hour / 2));
        assert!(!token.is_younger(hour, at + hour));
        assert!(!token.is_younger(hour, UNIX_EPOCH));
    }

    #[test]
    fn keys_show_nothing() {
        let shown = format!("{:?}", Es256::read("key", OPENSSL.as_bytes()).unwrap());
        assert_eq!(shown, "Es256(…)");
        let shown = format!("{:?}", Rs256::read("key", RSA.as_bytes()).unwrap());
        assert_eq!(shown, "Rs256(…)");
    }
}
