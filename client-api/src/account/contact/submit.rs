//! Codes come back: from clients (`submit_url`), and from the page that the link in a mail leads to. To look at that page
//! changes nothing, as programs that look at mails follow links.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Binary, Body, Content, MatrixError, RawJson, Ruma};
use rhizome_storage::Tried;
use ruma::{api::auth_scheme::NoAccessToken, metadata};
use serde::Deserialize;
use serde_json::json;

use super::{code, next};
use crate::{
    App,
    auth::{token::hash_of, validated::Purpose},
    page::{page, page_on_to},
    push::mailing::PLACE,
};

/// What the pages are called.
const TITLE: &str = "Your address";

/// `POST /_matrix/client/unstable/org.rhizome.mail/submit`
pub struct Submit;
metadata! {
    @for Submit,
    method: POST,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/_matrix/client/unstable/org.rhizome.mail/submit",
}

/// `GET /_matrix/client/unstable/org.rhizome.mail/verify/{sid}/{code}`
pub struct Show;
metadata! {
    @for Show,
    method: GET,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/_matrix/client/unstable/org.rhizome.mail/verify/{sid}/{code}",
}

/// `POST /_matrix/client/unstable/org.rhizome.mail/verify/{sid}/{code}`
pub struct Confirm;
metadata! {
    @for Confirm,
    method: POST,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/_matrix/client/unstable/org.rhizome.mail/verify/{sid}/{code}",
}

/// What a client submits, as to an identity server.
#[derive(Deserialize)]
pub struct Submitted {
    sid: String,
    client_secret: String,
    token: String,
}

/// Where clients submit codes.
pub(super) fn url(app: &App) -> String {
    format!("{}/{PLACE}/submit", app.config.identity.base)
}

/// A client submits a code.
pub async fn submit(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Body<Submit, Submitted>>,
) -> Result<RawJson, MatrixError> {
    let Submitted {
        sid,
        client_secret,
        token,
    } = req.body;
    let refused =
        |code: &'static str, text: &str| MatrixError::new(StatusCode::BAD_REQUEST, code, text);
    match tried(&app, &sid, Some(&client_secret), &token).await? {
        Tried::Right(_) => RawJson::of(&json!({ "success": true })),
        Tried::Wrong => Err(refused("M_TOKEN_INCORRECT", "The code is wrong")),
        Tried::Gone => Err(refused(
            "M_SESSION_EXPIRED",
            "There is no such session any more, or too many codes were tried; have another code sent",
        )),
    }
}

/// The page on which an address is confirmed.
pub async fn show(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Binary<Show>>,
) -> Result<Content, MatrixError> {
    let (sid, _) = parts(&req.head.path);
    let Some(session) = app.store.validation(sid).await? else {
        return Ok(not_good());
    };
    let (title, text, button) = if session.purpose == Purpose::PasswordReset.name() {
        (
            "A new password",
            "Did you ask for a new password? If somebody else sent you this link, close the page.",
            "Yes, set a new password",
        )
    } else {
        (
            TITLE,
            "Is this your address, and did you say so in your app? If not, close the page.",
            "Yes, it is my address",
        )
    };
    Ok(page(StatusCode::OK, title, text, Some(button)))
}

/// An address is confirmed.
pub async fn confirm(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Binary<Confirm>>,
) -> Result<Content, MatrixError> {
    let (sid, code) = parts(&req.head.path);
    let Tried::Right(next_link) = tried(&app, sid, None, code).await? else {
        return Ok(not_good());
    };
    let text = "Thank you. You can go back to your app and go on there.";
    let hosts = next::hosts(&app);
    // The operator may have changed where people are sent on to.
    let on = next_link.and_then(|link| Some((next::host(&link, &hosts).ok()?, link)));
    Ok(match on {
        Some((host, link)) => page_on_to(TITLE, text, (&link, &host)),
        None => page(StatusCode::OK, TITLE, text, None),
    })
}

/// Tries a code; `client_secret`: only if the client has that one.
pub(crate) async fn tried(
    app: &App,
    sid: &str,
    client_secret: Option<&str>,
    code: &str,
) -> Result<Tried, MatrixError> {
    let secret = client_secret.map(hash_of);
    let until = app
        .store
        .clock()
        .now_ms()
        .saturating_add(code::VALIDATED_MS);
    let code = code::hash(code);
    let tried = app.store.try_code(sid, secret.as_deref(), &code, until);
    Ok(tried.await?)
}

fn parts(path: &[String]) -> (&str, &str) {
    let part = |index: usize| path.get(index).map_or("", String::as_str);
    (part(0), part(1))
}

fn not_good() -> Content {
    let text =
        "This link isn't good any more. Was another one sent after it, or was a part of it lost?";
    page(StatusCode::BAD_REQUEST, TITLE, text, None)
}
