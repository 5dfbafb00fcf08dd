//! What a client gives to complete a stage, and whether that will do. What is right says what it has proved.

use std::net::IpAddr;

use rhizome_edge::MatrixError;
use rhizome_storage::UiaSession;
use ruma::{
    UserId,
    api::client::uiaa::{AuthData, UserIdentifier},
};
use serde_json::{Map, Value, json};

use super::{captcha, stage::Stage};
use crate::{App, auth::login::local_user, config::ClientConfig, limits::Kind};

/// The longest registration token
/// (<https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration>).
const LONGEST_TOKEN: usize = 64;

/// Why a stage isn't completed: a code and a sentence.
pub(super) type Refusal = (&'static str, &'static str);

/// What is given for a stage.
pub(crate) enum Given<'a> {
    /// Nothing.
    Dummy,
    /// Somebody's name, unless it is clear who it is, and a password.
    Password(Option<&'a str>, &'a str),
    /// Yes.
    Terms,
    /// What the captcha's script says.
    Captcha(&'a str),
    /// A token of the operator's.
    Token(&'a str),
    /// What can't be given here: something that no flow has, or that is proved elsewhere.
    Other(Option<Stage>),
}

impl<'a> Given<'a> {
    /// Of a request; `None` if it only asks whether the stages are completed.
    pub(super) fn of(auth: &'a AuthData) -> Option<Self> {
        Some(match auth {
            AuthData::FallbackAcknowledgement(_) => return None,
            AuthData::Dummy(_) => Self::Dummy,
            AuthData::Password(given) => match &given.identifier {
                UserIdentifier::Matrix(named) => Self::Password(Some(&named.user), &given.password),
                // Nobody's.
                _ => Self::Password(Some(""), &given.password),
            },
            AuthData::Terms(_) => Self::Terms,
            AuthData::ReCaptcha(given) => Self::Captcha(&given.response),
            AuthData::RegistrationToken(given) => Self::Token(&given.token),
            other => {
                let kind = other.auth_type();
                Self::Other(kind.and_then(|kind| Stage::named(kind.as_str())))
            }
        })
    }

    /// Which stage it is for, if that is known.
    pub(super) fn stage(&self) -> Option<Stage> {
        match self {
            Self::Dummy => Some(Stage::Dummy),
            Self::Password(..) => Some(Stage::Password),
            Self::Terms => Some(Stage::Terms),
            Self::Captcha(_) => Some(Stage::Captcha),
            Self::Token(_) => Some(Stage::Token),
            Self::Other(stage) => *stage,
        }
    }
}

/// Where a stage is to be completed.
pub(super) struct Place<'a> {
    pub app: &'a App,
    /// Whose account it is about.
    pub user: Option<&'a UserId>,
    /// The session, for what holds something for it.
    pub session: Option<&'a UiaSession>,
    /// From where the request comes.
    pub peer: Option<IpAddr>,
}

/// What is proved by what is given, or why it isn't.
///
/// # Errors
/// What isn't a failed attempt, but ends the request.
pub(super) async fn verify(
    place: &Place<'_>,
    given: &Given<'_>,
) -> Result<Result<Value, Refusal>, MatrixError> {
    match given {
        Given::Dummy => Ok(Ok(json!({}))),
        Given::Terms => Ok(Ok(accepted(&place.app.config))),
        Given::Password(user, password) => by_password(place, *user, password).await,
        Given::Captcha(answer) => {
            let wrong = (
                "M_CAPTCHA_INVALID",
                "The captcha's answer is wrong or too old",
            );
            let Some(captcha) = &place.app.config.registration_rules.captcha else {
                return Ok(Err(wrong));
            };
            let right = captcha::verify(place.app, captcha, answer, place.peer).await?;
            Ok(if right { Ok(json!({})) } else { Err(wrong) })
        }
        Given::Token(token) => by_token(place, token).await,
        Given::Other(_) => Ok(Err((
            "M_UNRECOGNIZED",
            "The stage isn't part of a flow of this request",
        ))),
    }
}

/// The policies as they are shown, with their versions.
fn accepted(config: &ClientConfig) -> Value {
    let terms = &config.registration_rules.terms;
    let versions: Map<String, Value> = (terms.iter())
        .map(|policy| (policy.id.clone(), policy.version.clone().into()))
        .collect();
    versions.into()
}

async fn by_password(
    place: &Place<'_>,
    named: Option<&str>,
    password: &str,
) -> Result<Result<Value, Refusal>, MatrixError> {
    let app = place.app;
    let wrong = Ok(Err(("M_FORBIDDEN", "The user or the password is wrong")));
    let Some(user) = place.user else {
        return wrong;
    };
    if named.is_some_and(|named| !names(app, named, user)) {
        // Not a failed attempt, which might be repeated: nobody confirms what others do.
        return Err(MatrixError::forbidden(
            "Only the user who makes the request can confirm it",
        ));
    }
    app.limits
        .take(Kind::Login, user, app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)?;
    let account = app.store.account(user).await?;
    let hash = account
        .filter(|account| !account.deactivated)
        .and_then(|account| account.password_hash);
    if app.passwords.verify(password, hash).await? {
        Ok(Ok(json!({})))
    } else {
        wrong
    }
}

fn names(app: &App, given: &str, user: &UserId) -> bool {
    local_user(app, given)
        .is_some_and(|given| given == user || given.localpart().to_lowercase() == user.localpart())
}

/// A use of the token is held for the session as long as that lives.
async fn by_token(place: &Place<'_>, token: &str) -> Result<Result<Value, Refusal>, MatrixError> {
    let wrong = (
        "M_UNAUTHORIZED",
        "The registration token is wrong, has expired, or has been used as often as it may be",
    );
    let Some(session) = place.session else {
        return Ok(Err(wrong));
    };
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        return Ok(Err(wrong));
    }
    let (id, until) = (&session.id, session.expires_ms);
    let reserved = (place.app.store).reserve_registration_token(token, id, until);
    Ok(if reserved.await? {
        Ok(json!({ "token": token }))
    } else {
        Err(wrong)
    })
}
