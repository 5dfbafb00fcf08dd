//! Logging in with JSON Web Tokens of our own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use serde_json::{Value, json};

/// For how long a token is good: servers take none that is for long.
const LIFETIME: Duration = Duration::from_hours(1);

/// The body of a login with a token that says who somebody is.
pub fn login(secret: &str, name: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let expires = now.unwrap_or_default() + LIFETIME;
    let parts = [
        json!({ "alg": "HS256", "typ": "JWT" }),
        json!({ "sub": name, "exp": expires.as_secs() }),
    ];
    let signed = parts.map(|part| BASE64.encode(part.to_string())).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = BASE64.encode(hmac::sign(&key, signed.as_bytes()));
    json!({ "type": "org.matrix.login.jwt", "token": format!("{signed}.{signature}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_is_signed() {
        let body = login("a secret", "ada");
        let token = body["token"].as_str().unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let claims = BASE64.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "ada");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret");
        let signature = BASE64.decode(signature).unwrap();
        assert!(hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
    }
}
