//! User-interactive authentication
//! (<https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>).
//!
//! Every flow of ours has one stage, so a session only remembers what it was begun for; it lives in
//! the database, so that any process can end what another began.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::random;
use ruma::{
    UserId,
    api::client::uiaa::{AuthData, UserIdentifier},
};
use serde_json::json;

use crate::{
    App, Caller,
    auth::{login::local_user, validated},
    limits::Kind,
};

/// How long a session lives, in milliseconds.
const LIFETIME_MS: i64 = 60 * 60 * 1000;

/// The one stage of a flow.
#[derive(Debug, Clone, Copy)]
pub enum Stage<'a> {
    /// Nothing to prove.
    Dummy,
    /// The caller's password.
    Password(&'a Caller),
    /// That an address of some account is theirs who wants a new password for it.
    Reset,
}

impl Stage<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Dummy => "m.login.dummy",
            Self::Password(_) => "m.login.password",
            Self::Reset => "m.login.email.identity",
        }
    }
}

/// Passes when `auth` completes the stage for `purpose` (the endpoint, and on what it acts).
///
/// # Errors
/// 401 with the flows and a session, until it is completed; with `errcode` when an attempt failed.
pub async fn require(
    app: &App,
    purpose: &str,
    stage: Stage<'_>,
    auth: Option<&AuthData>,
) -> Result<(), MatrixError> {
    require_then(app, purpose, stage, auth, None).await
}

/// [`require`], after which the session doesn't end but is one for `next`.
pub async fn require_then(
    app: &App,
    purpose: &str,
    stage: Stage<'_>,
    auth: Option<&AuthData>,
    next: Option<&str>,
) -> Result<(), MatrixError> {
    let purpose = match stage {
        Stage::Dummy | Stage::Reset => purpose.to_owned(),
        Stage::Password(caller) => format!("{purpose} {}", caller.user_id),
    };
    let Some(auth) = auth else {
        return Err(challenge(app, &purpose, stage, None).await?);
    };
    if let Some(session) = auth.session() {
        let begun_for = app
            .store
            .uia_session(session, app.store.clock().now_ms())
            .await?;
        if begun_for.as_deref() != Some(purpose.as_str()) {
            let refusal = (
                "M_UNKNOWN",
                "The session has expired or belongs to another request",
            );
            return Err(challenge(app, &purpose, stage, Some(refusal)).await?);
        }
    }
    match complete(app, stage, auth).await? {
        Ok(()) => {
            match (auth.session(), next) {
                (Some(session), Some(next)) => {
                    app.store.turn_uia_session(session, &purpose, next).await?;
                }
                (Some(session), None) => {
                    app.store.end_uia_session(session).await?;
                }
                (None, _) => {}
            }
            Ok(())
        }
        Err(refusal) => Err(challenge(app, &purpose, stage, Some(refusal)).await?),
    }
}

type Refusal = (&'static str, &'static str);

async fn complete(
    app: &App,
    stage: Stage<'_>,
    auth: &AuthData,
) -> Result<Result<(), Refusal>, MatrixError> {
    match (stage, auth) {
        (Stage::Dummy, AuthData::Dummy(_)) => Ok(Ok(())),
        (Stage::Reset, AuthData::EmailIdentity(_) | AuthData::Msisdn(_)) => {
            let not_yet = "The address hasn't been confirmed in this session";
            let Some(creds) = validated::credentials(auth) else {
                return Ok(Err(("M_THREEPID_AUTH_FAILED", not_yet)));
            };
            match validated::reset_proof(app, creds).await {
                Ok(_) => Ok(Ok(())),
                Err(error) if error.status == StatusCode::UNAUTHORIZED => {
                    Ok(Err(("M_THREEPID_AUTH_FAILED", not_yet)))
                }
                Err(error) => Err(error),
            }
        }
        (Stage::Password(caller), AuthData::Password(given)) => {
            let wrong = Ok(Err(("M_FORBIDDEN", "The user or the password is wrong")));
            let UserIdentifier::Matrix(identifier) = &given.identifier else {
                return wrong;
            };
            if !names(app, &identifier.user, &caller.user_id) {
                // Not a failed attempt, which might be repeated: nobody confirms what others do.
                return Err(MatrixError::forbidden(
                    "Only the user who makes the request can confirm it",
                ));
            }
            let now = app.now_monotonic_ms();
            app.limits
                .take(Kind::Login, &caller.user_id, now)
                .map_err(MatrixError::limit_exceeded)?;
            let account = app.store.account(&caller.user_id).await?;
            let hash = account
                .filter(|account| !account.deactivated)
                .and_then(|account| account.password_hash);
            if app.passwords.verify(&given.password, hash).await? {
                Ok(Ok(()))
            } else {
                wrong
            }
        }
        (_, AuthData::FallbackAcknowledgement(_)) => {
            Ok(Err(("M_FORBIDDEN", "No stage has been completed yet")))
        }
        _ => Ok(Err((
            "M_UNRECOGNIZED",
            "The stage isn't part of a flow of this request",
        ))),
    }
}

fn names(app: &App, given: &str, user: &UserId) -> bool {
    local_user(app, given)
        .is_some_and(|given| given == user || given.localpart().to_lowercase() == user.localpart())
}

/// The ways to complete the stage.
fn flows(app: &App, stage: Stage<'_>) -> serde_json::Value {
    if !matches!(stage, Stage::Reset) {
        return json!([{ "stages": [stage.name()] }]);
    }
    let by_mail = app.config.mailing.is_some().then_some(stage.name());
    let by_telephone = app.config.identity.sms.as_ref().map(|_| "m.login.msisdn");
    let ways = by_mail.into_iter().chain(by_telephone);
    ways.map(|way| json!({ "stages": [way] })).collect()
}

/// A new session and the 401 that tells of it.
async fn challenge(
    app: &App,
    purpose: &str,
    stage: Stage<'_>,
    refusal: Option<Refusal>,
) -> Result<MatrixError, MatrixError> {
    let session = random::secret()?;
    let now = app.store.clock().now_ms();
    app.store
        .begin_uia_session(&session, purpose, now, now + LIFETIME_MS)
        .await?;
    let (errcode, message) = refusal.unwrap_or(("", ""));
    Ok(MatrixError::new(StatusCode::UNAUTHORIZED, errcode, message)
        .with("session", session)
        .with("flows", flows(app, stage))
        .with("params", json!({})))
}
