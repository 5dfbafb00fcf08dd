//! `…/requestToken`: a code is sent to an address, to find out whose it is.

use std::net::IpAddr;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson};
use rhizome_storage::{NewValidation, random};
use ruma::api::client::account::{
    request_3pid_management_token_via_email::v3 as add_email,
    request_3pid_management_token_via_msisdn::v3 as add_msisdn,
    request_password_change_token_via_email::v3 as reset_email,
    request_password_change_token_via_msisdn::v3 as reset_msisdn,
    request_registration_token_via_email::v3 as register_email,
    request_registration_token_via_msisdn::v3 as register_msisdn,
};
use serde_json::json;

use super::{
    code, next,
    send::{self, Letter, Says},
    submit,
};
use crate::{
    App, Ruma,
    auth::{
        phone,
        token::hash_of,
        uia::{self, Stage},
        validated::{self, Medium, Purpose, ThirdParty},
    },
    config::Registration,
    limits::Kind,
};

/// What is asked for.
struct Asked {
    purpose: Purpose,
    third_party: ThirdParty,
    client_secret: String,
    send_attempt: u64,
    next_link: Option<String>,
    peer: Option<IpAddr>,
}

/// An endpoint for each purpose and medium; their requests have the same fields.
macro_rules! endpoints {
    ($($(#[$doc:meta])* $name:ident: $request:ident, $purpose:ident, |$req:ident| $third_party:expr;)*) => {$(
        $(#[$doc])*
        pub async fn $name(
            State(app): State<App>,
            Ruma { req: $req, peer, .. }: Ruma<$request::Request>,
        ) -> Result<RawJson, MatrixError> {
            let asked = Asked {
                purpose: Purpose::$purpose,
                third_party: $third_party?,
                client_secret: $req.client_secret.to_string(),
                send_attempt: $req.send_attempt.into(),
                next_link: $req.next_link,
                peer,
            };
            begin(&app, asked).await
        }
    )*};
}

endpoints! {
    /// `POST /_matrix/client/v3/register/email/requestToken`
    to_register_by_email: register_email, Registration, |req| validated::email(&req.email);
    /// `POST /_matrix/client/v3/register/msisdn/requestToken`
    to_register_by_msisdn: register_msisdn, Registration, |req| phone::number(&req.country, &req.phone_number);
    /// `POST /_matrix/client/v3/account/password/email/requestToken`
    to_reset_by_email: reset_email, PasswordReset, |req| validated::email(&req.email);
    /// `POST /_matrix/client/v3/account/password/msisdn/requestToken`
    to_reset_by_msisdn: reset_msisdn, PasswordReset, |req| phone::number(&req.country, &req.phone_number);
    /// `POST /_matrix/client/v3/account/3pid/email/requestToken`
    to_add_email: add_email, Adding, |req| validated::email(&req.email);
    /// `POST /_matrix/client/v3/account/3pid/msisdn/requestToken`
    to_add_msisdn: add_msisdn, Adding, |req| phone::number(&req.country, &req.phone_number);
}

/// Begins a session, or goes on with it, and sends a code unless the client says that it was sent.
///
/// # Errors
/// 400 `M_THREEPID_MEDIUM_NOT_SUPPORTED`, `M_THREEPID_IN_USE`, `M_THREEPID_NOT_FOUND`, `M_INVALID_PARAM`; 403 `M_FORBIDDEN`
/// where nobody may register; 429 `M_LIMIT_EXCEEDED`.
async fn begin(app: &App, asked: Asked) -> Result<RawJson, MatrixError> {
    let sid = begun(app, asked).await?;
    RawJson::of(&json!({ "sid": sid, "submit_url": submit::url(app) }))
}

/// The same for who asks in a browser: the session's id.
///
/// # Errors
/// As of the endpoints.
pub(crate) async fn in_browser(
    app: &App,
    purpose: Purpose,
    third_party: ThirdParty,
    client_secret: &str,
    peer: Option<IpAddr>,
) -> Result<String, MatrixError> {
    let asked = Asked {
        purpose,
        third_party,
        client_secret: client_secret.to_owned(),
        send_attempt: 1,
        next_link: None,
        peer,
    };
    begun(app, asked).await
}

async fn begun(app: &App, asked: Asked) -> Result<String, MatrixError> {
    let third_party = &asked.third_party;
    let registers = asked.purpose == Purpose::Registration;
    if registers && matches!(app.config.registration, Registration::Closed) {
        return Err(MatrixError::forbidden(
            "Registration is closed on this server; ask its operator for an account",
        ));
    }
    if !send::is_possible(app, third_party.medium) {
        return Err(not_supported());
    }
    if registers {
        require_use(app, third_party)?;
    }
    let settings = &app.config.identity;
    if let Some(link) = &asked.next_link {
        next::host(link, &next::hosts(app))?;
    }
    let now = app.now_monotonic_ms();
    let limits = &app.limits;
    let limited = MatrixError::limit_exceeded;
    (limits.take_from(Kind::Validation, asked.peer, now)).map_err(limited)?;
    // Who asks for one thing keeps nobody from another.
    let purpose = asked.purpose.name();
    let to = ("to", purpose, third_party.medium, &third_party.address);
    (limits.take(Kind::Validation, to, now)).map_err(limited)?;
    let owner = app
        .store
        .third_party_owner(third_party.medium, &third_party.address)
        .await?;
    // An address serves to set a password if somebody has it, and for all else if nobody does.
    let resets = asked.purpose == Purpose::PasswordReset;
    let serves = owner.is_some() == resets;
    if !serves && !settings.hide_known {
        return Err(if resets { not_found() } else { in_use() });
    }
    let code = code::new(third_party.medium)?;
    let new = NewValidation {
        sid: &random::secret()?,
        purpose: asked.purpose.name(),
        third_party,
        owner: owner.filter(|_| resets),
        secret: &hash_of(&asked.client_secret),
        code: &code::hash(&code),
        send_attempt: i64::try_from(asked.send_attempt).unwrap_or(i64::MAX),
        next_link: asked.next_link.as_deref(),
        expires_ms: app.store.clock().now_ms().saturating_add(code::LIFETIME_MS),
    };
    let (sid, is_new) = app.store.begin_validation(&new).await?;
    // Strangers aren't told that they have no account.
    if is_new && (serves || owner.is_some()) {
        let says = match owner {
            Some(user) if resets => Says::Reset(app.store.user(user).await?),
            Some(user) => Says::Known(app.store.user(user).await?),
            None => Says::Code,
        };
        let letter = Letter {
            to: third_party.clone(),
            sid: sid.clone(),
            code,
            says,
        };
        deliver(app, letter).await?;
    }
    Ok(sid)
}

/// Refuses an address with which nobody can register: nobody is written to for nothing.
fn require_use(app: &App, third_party: &ThirdParty) -> Result<(), MatrixError> {
    let stage = match third_party.medium {
        Medium::Email => Stage::Email,
        Medium::Msisdn => Stage::Msisdn,
    };
    if !uia::Purpose::registration(&app.config).has(stage, &app.config) {
        return Err(not_supported());
    }
    let rules = &app.config.registration_rules;
    if third_party.medium == Medium::Email && !rules.permit_email(&third_party.address) {
        return Err(MatrixError::new(
            StatusCode::FORBIDDEN,
            "M_THREEPID_DENIED",
            "Nobody can register with an address of this domain; use another",
        ));
    }
    Ok(())
}

/// Sends a letter. Where who asks mustn't learn what is known here, they don't wait for it either.
async fn deliver(app: &App, letter: Letter) -> Result<(), MatrixError> {
    if app.config.identity.hide_known {
        let sending = app.clone();
        app.unfinished.spawn(async move {
            // It is in the log already.
            let _ = sent(&sending, &letter).await;
        });
        return Ok(());
    }
    sent(app, &letter).await
}

/// Sends a letter. If that fails, the session goes: the client may ask again as it did.
async fn sent(app: &App, letter: &Letter) -> Result<(), MatrixError> {
    let result = send::send(app, letter).await;
    if result.is_err() {
        app.store.end_validation(&letter.sid).await?;
    }
    result
}

fn not_supported() -> MatrixError {
    refused(
        "M_THREEPID_MEDIUM_NOT_SUPPORTED",
        "This server can't send anything to such an address",
    )
}

/// Another account has the identifier.
pub(super) fn in_use() -> MatrixError {
    refused("M_THREEPID_IN_USE", "An account has this address already")
}

fn not_found() -> MatrixError {
    refused("M_THREEPID_NOT_FOUND", "No account has this address")
}

fn refused(code: &'static str, message: &str) -> MatrixError {
    MatrixError::new(StatusCode::BAD_REQUEST, code, message)
}
