//! JSON Web Tokens that the operator's own system has signed: whom they name.
//!
//! Only the one algorithm that the operator has set is taken, whatever a token says of itself.

mod key;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

pub use key::Algorithm;
use key::Key;

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// The furthest that a token's end may be away, in seconds.
const LONGEST: i64 = 24 * 60 * 60;
/// How long ago a token may have been issued that confirms something, in seconds.
const FRESH: i64 = 5 * 60;
/// How far the other's clock may be off, in seconds.
const LEEWAY: i64 = 60;

/// What tokens have to say.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// `iss`, if it matters.
    pub issuer: Option<String>,
    /// One of these must be in `aud`; none: tokens must have none.
    pub audiences: Vec<String>,
    /// Which claim names the user.
    pub subject: String,
    /// Whether an account is made for whom there is none.
    pub creates: bool,
}

/// What takes tokens.
pub struct JwtLogin {
    algorithm: Algorithm,
    key: Key,
    claims: Claims,
}

impl std::fmt::Debug for JwtLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtLogin")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// What has to be understood: nothing of it is.
    crit: Option<Value>,
}

impl JwtLogin {
    /// `key`: the secret, or the public key in PEM.
    ///
    /// # Errors
    /// What is wrong with the key.
    pub fn new(algorithm: Algorithm, key: &str, claims: Claims) -> Result<Self, &'static str> {
        let key = Key::new(algorithm, key)?;
        Ok(Self {
            algorithm,
            key,
            claims,
        })
    }

    /// Whom the token names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn subject(&self, token: &str, now_s: i64) -> Result<String, &'static str> {
        self.judge(&self.payload(token)?, now_s)
    }

    /// The same of a token that was issued just now, as it says (`iat`): not one that somebody found.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn fresh_subject(&self, token: &str, now_s: i64) -> Result<String, &'static str> {
        let payload = self.payload(token)?;
        let issued = time(&payload, "iat")?.ok_or("it doesn't say when it was issued (iat)")?;
        if issued.saturating_add(FRESH + LEEWAY) <= now_s {
            return Err("it was issued too long ago");
        }
        self.judge(&payload, now_s)
    }

    /// What a token says that is signed as it has to be.
    fn payload(&self, token: &str) -> Result<Map<String, Value>, &'static str> {
        if token.len() > MAX_TOKEN {
            return Err("it is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("it has no signature")?;
        let (header, payload) = signed.split_once('.').ok_or("it has no payload")?;
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is no base64");
        let header: Header =
            serde_json::from_slice(&part(header)?).map_err(|_| "its header isn't valid")?;
        if header.alg != self.algorithm.as_str() || header.crit.is_some() {
            return Err("it is signed in another way");
        }
        if !self.key.verifies(signed.as_bytes(), &part(signature)?) {
            return Err("its signature isn't valid");
        }
        serde_json::from_slice(&part(payload)?).map_err(|_| "its payload isn't valid")
    }

    fn judge(&self, payload: &Map<String, Value>, now_s: i64) -> Result<String, &'static str> {
        let until = time(payload, "exp")?.ok_or("it doesn't say until when it is good (exp)")?;
        if until.saturating_add(LEEWAY) <= now_s {
            return Err("it has expired");
        }
        if until.saturating_sub(LONGEST + LEEWAY) > now_s {
            return Err("it is good for longer than a day");
        }
        for claim in ["nbf", "iat"] {
            if time(payload, claim)?.is_some_and(|at| at.saturating_sub(LEEWAY) > now_s) {
                return Err("it isn't valid yet");
            }
        }
        let issuer = payload.get("iss").and_then(Value::as_str);
        if self.claims.issuer.is_some() && issuer != self.claims.issuer.as_deref() {
            return Err("it is of another issuer");
        }
        if !self.is_for_us(payload.get("aud")) {
            return Err("it is for others");
        }
        let subject = payload.get(&self.claims.subject).and_then(Value::as_str);
        let subject = subject.filter(|subject| !subject.is_empty());
        subject
            .map(str::to_owned)
            .ok_or("it doesn't say whom it is of")
    }

    /// Whether an account is made for whom there is none.
    pub(crate) fn creates(&self) -> bool {
        self.claims.creates
    }

    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let ours = |one: &Value| {
            let one = one.as_str();
            one.is_some_and(|one| self.claims.audiences.iter().any(|ours| ours == one))
        };
        match audience {
            None => self.claims.audiences.is_empty(),
            Some(Value::Array(several)) => several.iter().any(ours),
            Some(one) => ours(one),
        }
    }
}

/// A claim that is a time, in seconds since 1970.
fn time(payload: &Map<String, Value>, claim: &str) -> Result<Option<i64>, &'static str> {
    let wrong = "one of its times isn't valid";
    match payload.get(claim) {
        None => Ok(None),
        // Also one with a fraction.
        #[allow(clippy::cast_possible_truncation, reason = "it saturates")]
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) => Ok(Some(seconds as i64)),
            None => Err(wrong),
        },
        Some(_) => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use ring::{hmac, rand::SystemRandom, signature};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a secret of more than thirty-two bytes";

    fn text(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn signed(header: &Value, payload: &Value, secret: &str) -> String {
        let message = format!("{}.{}", text(header), text(payload));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn login(claims: Claims) -> JwtLogin {
        JwtLogin::new(Algorithm::Hs256, SECRET, claims).unwrap()
    }

    fn plain() -> Claims {
        Claims {
            subject: "sub".into(),
            ..Claims::default()
        }
    }

    fn judged(claims: Claims, payload: &Value) -> Result<String, &'static str> {
        let token = signed(&json!({ "alg": "HS256", "typ": "JWT" }), payload, SECRET);
        login(claims).subject(&token, 1_000)
    }

    #[test]
    fn who_is_named_is_named_by_whom_it_is_signed() {
        let header = json!({ "alg": "HS256" });
        let payload = json!({ "sub": "ada", "exp": 100 });
        let good = signed(&header, &payload, SECRET);
        let login = login(plain());
        assert_eq!(login.subject(&good, 0).unwrap(), "ada");
        let other = signed(&header, &json!({ "sub": "eve", "exp": 100 }), SECRET);
        let (head, _) = good.rsplit_once('.').unwrap();
        let (_, theirs) = other.rsplit_once('.').unwrap();
        for bad in [
            signed(&header, &payload, "another secret"),
            signed(&json!({ "alg": "none" }), &payload, SECRET),
            signed(&json!({ "alg": "HS512" }), &payload, SECRET),
            signed(&json!({ "alg": "HS256", "crit": ["x"] }), &payload, SECRET),
            format!("{head}."),
            format!("{head}.{theirs}"),
            format!("{good}="),
            format!("{good}.x"),
            "x".repeat(MAX_TOKEN + 1),
            String::new(),
            "..".to_owned(),
        ] {
            assert!(login.subject(&bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_issuers_and_audiences_count() {
        let ok = |claims: &Claims, mut payload: Value| {
            if payload.get("exp").is_none() {
                payload["exp"] = json!(1_100);
            }
            judged(claims.clone(), &payload).is_ok()
        };
        let claims = plain();
        assert!(ok(&claims, json!({ "sub": "a", "exp": 941 })));
        assert!(!ok(&claims, json!({ "sub": "a", "exp": 940 })));
        assert!(!ok(&claims, json!({ "sub": "a", "exp": "2000" })));
        // A token that is good for ever is a password that nobody can change.
        assert!(judged(claims.clone(), &json!({ "sub": "a" })).is_err());
        let latest = 1_000 + LONGEST + LEEWAY;
        assert!(ok(&claims, json!({ "sub": "a", "exp": latest })));
        assert!(!ok(&claims, json!({ "sub": "a", "exp": latest + 1 })));
        assert!(ok(
            &claims,
            json!({ "sub": "a", "nbf": 1_060, "iat": 1_000.5 })
        ));
        assert!(!ok(&claims, json!({ "sub": "a", "nbf": 1_061 })));
        assert!(!ok(&claims, json!({ "sub": "a", "iat": 9e99 })));
        for nobody in [json!({}), json!({ "sub": "" }), json!({ "sub": 7 })] {
            assert!(!ok(&claims, nobody));
        }
        assert!(!ok(&claims, json!({ "sub": "a", "aud": "others" })));
        let strict = Claims {
            issuer: Some("us".into()),
            audiences: vec!["matrix".into()],
            subject: "name".into(),
            creates: false,
        };
        let good = json!({ "name": "a", "iss": "us", "aud": ["x", "matrix"] });
        assert!(ok(&strict, good));
        for bad in [
            json!({ "name": "a", "iss": "us" }),
            json!({ "name": "a", "iss": "us", "aud": "x" }),
            json!({ "name": "a", "iss": "them", "aud": "matrix" }),
            json!({ "name": "a", "aud": "matrix" }),
            json!({ "sub": "a", "iss": "us", "aud": "matrix" }),
        ] {
            assert!(!ok(&strict, bad));
        }
    }

    #[test]
    fn a_fresh_token_says_when_it_was_issued() {
        let login = login(plain());
        let fresh = |payload: &Value| {
            let token = signed(&json!({ "alg": "HS256" }), payload, SECRET);
            assert!(login.subject(&token, 1_000).is_ok(), "{payload}");
            login.fresh_subject(&token, 1_000).is_ok()
        };
        let issued = |at: i64| json!({ "sub": "ada", "exp": 2_000, "iat": at });
        assert!(fresh(&issued(1_060)));
        assert!(fresh(&issued(1_000 - FRESH - LEEWAY + 1)));
        assert!(!fresh(&issued(1_000 - FRESH - LEEWAY)));
        assert!(!fresh(&json!({ "sub": "ada", "exp": 2_000 })));
        // What isn't good at all isn't fresh.
        let expired = json!({ "sub": "ada", "exp": 900, "iat": 1_000 });
        let expired = signed(&json!({ "alg": "HS256" }), &expired, SECRET);
        assert!(login.fresh_subject(&expired, 1_000).is_err());
        let forged = signed(&json!({ "alg": "HS256" }), &issued(1_000), "another secret");
        assert!(login.fresh_subject(&forged, 1_000).is_err());
    }

    #[test]
    fn what_is_signed_with_a_private_key_is_verified_with_its_public_one() {
        let random = SystemRandom::new();
        let pair = signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = signature::Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        let public = signature::KeyPair::public_key(&pair);
        // What stands before the key's 32 bytes in RFC 8410.
        let mut der = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        der.extend_from_slice(public.as_ref());
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(der)
        );
        let login = JwtLogin::new(Algorithm::EdDsa, &pem, plain()).unwrap();
        let header = json!({ "alg": "EdDSA" });
        let message = format!(
            "{}.{}",
            text(&header),
            text(&json!({ "sub": "ada", "exp": 100 }))
        );
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
        let token = format!("{message}.{signature}");
        assert_eq!(login.subject(&token, 0).unwrap(), "ada");
        // The public key is no secret: nobody signs with it as if it were one.
        let forged = signed(
            &json!({ "alg": "HS256" }),
            &json!({ "sub": "ada", "exp": 100 }),
            &pem,
        );
        assert!(login.subject(&forged, 0).is_err());
    }
}
