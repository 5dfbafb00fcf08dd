//! Services that tell people from programs: what they are asked about an answer.
//!
//! reCAPTCHA, hCaptcha and Turnstile are asked alike: a form with our secret and the answer, to which they say `success`.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_edge::MatrixError;
use rhizome_federation::outbound::Schemes;
use serde::Deserialize;

use crate::{App, config::Captcha};

/// The longest answer of a user.
const LONGEST: usize = 16 << 10;
/// How long the service may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How much is read of what it says.
const MOST: usize = 16 << 10;

#[derive(Deserialize)]
struct Verdict {
    success: bool,
}

/// Whether the service finds an answer right. It is right once.
///
/// # Errors
/// 502 if the service doesn't say.
pub(super) async fn verify(
    app: &App,
    captcha: &Captcha,
    answer: &str,
    peer: Option<IpAddr>,
) -> Result<bool, MatrixError> {
    if answer.is_empty() || answer.len() > LONGEST {
        return Ok(false);
    }
    let failed = |why: &str| {
        tracing::warn!(why, "the captcha service can't be asked");
        MatrixError::bad_gateway("The captcha can't be verified now; please try again in a moment")
    };
    let messenger = app.messenger().ok_or_else(|| failed("no way out"))?;
    let url = captcha
        .verify_url
        .parse()
        .map_err(|_| failed("registration.captcha.verify_url is no address"))?;
    let mut form = vec![
        ("secret", captcha.secret.clone()),
        ("response", answer.to_owned()),
    ];
    form.extend(peer.map(|peer| ("remoteip", peer.to_string())));
    let form: Vec<String> = form
        .iter()
        .map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
    let asked = messenger.bring(
        (Method::POST, url),
        headers,
        form.join("&").into_bytes(),
        (Schemes::Any, WITHIN, MOST),
    );
    let said = asked.await.map_err(|error| failed(&error.to_string()))?;
    match serde_json::from_slice::<Verdict>(&said.body) {
        Ok(verdict) => Ok(verdict.success),
        Err(_) => Err(failed(&format!(
            "it answers {} without a verdict",
            said.status
        ))),
    }
}
