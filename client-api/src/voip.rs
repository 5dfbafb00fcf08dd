//! The TURN server, by which calls come through where the two sides can't reach each other.

use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rhizome_edge::{MatrixError, RawJson};
use ring::hmac;
use ruma::{UserId, api::client::voip::get_turn_server_info::v3 as turn_server};
use serde_json::json;

use crate::{App, Ruma, config::TurnCredentials};

/// `GET /_matrix/client/v3/voip/turnServer`
///
/// Where there is none the answer is empty, as clients know it.
pub async fn turn_server(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<turn_server::Request>,
) -> Result<RawJson, MatrixError> {
    let Some(turn) = &app.config.turn else {
        return RawJson::of(&json!({}));
    };
    if who.is_guest && !turn.guests {
        return Err(MatrixError::not_for_guests(
            "Guests aren't told of a TURN server",
        ));
    }
    let ttl = turn.ttl.as_secs();
    let now = u64::try_from(app.store.clock().now_ms()).unwrap_or_default() / 1_000;
    let (username, password) = match &turn.credentials {
        TurnCredentials::Secret(secret) => until(secret, now.saturating_add(ttl), &who.user_id),
        TurnCredentials::Shared { user, password } => (user.clone(), password.clone()),
    };
    RawJson::of(&json!({
        "username": username,
        "password": password,
        "uris": turn.uris,
        "ttl": ttl,
    }))
}

/// A user's name that is good until then, in seconds since 1970, with its password: as coturn and others have it of a secret
/// that they share with us. Nobody but them trusts what SHA-1 says.
fn until(secret: &str, end: u64, user: &UserId) -> (String, String) {
    let name = format!("{end}:{user}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let password = STANDARD.encode(hmac::sign(&key, name.as_bytes()));
    (name, password)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    /// Held against `openssl dgst -sha1 -hmac secret -binary | base64`.
    #[test]
    fn a_name_has_the_password_that_its_secret_makes() {
        let (name, password) = until(
            "n0t4r34l53cr3t",
            1_443_779_631,
            user_id!("@user:example.com"),
        );
        assert_eq!(name, "1443779631:@user:example.com");
        assert_eq!(password, "YYUPC3RKnMUzCML1mtCuoY4pWjE=");
    }
}
