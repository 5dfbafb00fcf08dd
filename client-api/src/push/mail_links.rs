//! What links in mails lead to: pages on which mails are wanted, or not any more. Nobody logs in for that, as the token in
//! the link says whose mails they are.
//!
//! A GET changes nothing, as programs that look at mails follow links; the page's button makes the POST. Mail programs
//! make the same one by themselves (<https://www.rfc-editor.org/rfc/rfc8058>).

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Binary, Content, MatrixError, Ruma};
use rhizome_mail::Subscription;
use rhizome_storage::{Fact, PusherGone, PusherKey, UserNo, WriteSet};
use ruma::{UserId, api::auth_scheme::NoAccessToken, metadata};

use super::{
    mail_pushers::EMAIL,
    pushers::{Ack, waits_for},
};
use crate::App;

/// `GET /_matrix/client/unstable/org.rhizome.mail/stop/{token}`
pub struct ShowStop;
metadata! {
    @for ShowStop,
    method: GET,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/_matrix/client/unstable/org.rhizome.mail/stop/{token}",
}

/// `POST /_matrix/client/unstable/org.rhizome.mail/stop/{token}`
pub struct Stop;
metadata! {
    @for Stop,
    method: POST,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/_matrix/client/unstable/org.rhizome.mail/stop/{token}",
}

/// `GET /_matrix/client/unstable/org.rhizome.mail/start/{token}/{ack}`
pub struct ShowStart;
metadata! {
    @for ShowStart,
    method: GET,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/_matrix/client/unstable/org.rhizome.mail/start/{token}/{ack}",
}

/// `POST /_matrix/client/unstable/org.rhizome.mail/start/{token}/{ack}`
pub struct Start;
metadata! {
    @for Start,
    method: POST,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/_matrix/client/unstable/org.rhizome.mail/start/{token}/{ack}",
}

/// The page on which mails end.
pub async fn show_stop(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Binary<ShowStop>>,
) -> Result<Content, MatrixError> {
    let text = "No more mails about what you have missed?";
    Ok(match subscription(&app, &req.head.path)? {
        Some(_) => page(StatusCode::OK, text, Some("No more mails")),
        None => not_good(),
    })
}

/// Ends mails. Whether there were any isn't said.
pub async fn stop(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Binary<Stop>>,
) -> Result<Content, MatrixError> {
    let Some(of) = subscription(&app, &req.head.path)? else {
        return Ok(not_good());
    };
    if let Some(user) = known(&app, &of).await? {
        let key = PusherKey {
            user,
            app_id: of.app_id,
            pushkey: of.pushkey,
        };
        let pushers = app.store.pushers(user).await?;
        let is_it = |kind: &str, its: &PusherKey| kind == EMAIL && *its == key;
        if pushers.iter().any(|one| is_it(&one.kind, &one.key())) {
            let gone = Fact::from(PusherGone(key));
            app.store.commit(WriteSet::from(vec![gone])).await?;
        }
    }
    let text = "There will be no more mails about what you have missed.";
    Ok(page(StatusCode::OK, text, None))
}

/// The page on which mails begin.
pub async fn show_start(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Binary<ShowStart>>,
) -> Result<Content, MatrixError> {
    let text = "Should this address get mails about missed messages?";
    Ok(match subscription(&app, &req.head.path)? {
        Some(_) => page(StatusCode::OK, text, Some("Yes, send mails")),
        None => not_good(),
    })
}

/// Mails begin.
pub async fn start(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Binary<Start>>,
) -> Result<Content, MatrixError> {
    let Some(of) = subscription(&app, &req.head.path)? else {
        return Ok(not_good());
    };
    let Some(user) = known(&app, &of).await? else {
        return Ok(not_good());
    };
    let given = Ack {
        app_id: of.app_id,
        ack_token: req.head.path.get(1).cloned().unwrap_or_default(),
    };
    let pushers = app.store.pushers(user).await?;
    match waits_for(&pushers, &given, app.store.clock().now_ms()) {
        Ok(activated) => {
            let activated = Fact::from(activated);
            app.store.commit(WriteSet::from(vec![activated])).await?;
            let text = "You will get a mail when you have missed something.";
            Ok(page(StatusCode::OK, text, None))
        }
        Err(_) => Ok(not_good()),
    }
}

/// Whose mails a link is about; `None` if it isn't one of ours.
///
/// # Errors
/// 404 if this server sends no mails.
fn subscription(app: &App, path: &[String]) -> Result<Option<Subscription>, MatrixError> {
    let mailing = app.config.mailing.as_ref();
    let mailing = mailing.ok_or_else(MatrixError::unrecognized)?;
    Ok(mailing.subscription(path.first().map_or("", String::as_str)))
}

async fn known(app: &App, of: &Subscription) -> Result<Option<UserNo>, MatrixError> {
    match <&UserId>::try_from(&*of.user) {
        Ok(user) => Ok(app.store.known_user(user).await?),
        Err(_) => Ok(None),
    }
}

fn not_good() -> Content {
    let text = "This link isn't good any more. Has it been used already, or was a part of it lost?";
    page(StatusCode::BAD_REQUEST, text, None)
}

fn page(status: StatusCode, text: &str, button: Option<&str>) -> Content {
    crate::page::page(status, "Mails", text, button)
}
