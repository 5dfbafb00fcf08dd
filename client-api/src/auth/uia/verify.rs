//! What a client gives to complete a stage, and whether that will do. What is right says what it has proved.

use std::{borrow::Cow, net::IpAddr};

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::{Account, UiaSession, password_mark};
use ruma::{
    UserId,
    api::client::uiaa::{AuthData, ThirdpartyIdCredentials, UserIdentifier},
};
use serde_json::{Map, Value, json};

use super::{captcha, purpose::Purpose, stage::Stage};
use crate::{
    App,
    auth::{
        password::{self, Whence},
        phone,
        validated::{self, Medium, ThirdParty, third_party, validated},
    },
    config::ClientConfig,
    limits::Kind,
    user_ids::local_user,
};

/// The longest registration token
/// (<https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration>).
const LONGEST_TOKEN: usize = 64;

/// Why a stage isn't completed: a code and a sentence.
pub(super) type Refusal = (&'static str, &'static str);

/// What is given for a stage.
pub(crate) enum Given<'a> {
    /// Nothing.
    Dummy,
    /// Who it is, and their password.
    Password(Whom<'a>, &'a str),
    /// Yes.
    Terms,
    /// What the captcha's script says.
    Captcha(&'a str),
    /// A token of the operator's.
    Token(&'a str),
    /// In which session an address was confirmed, and the client's secret of that.
    ThirdParty(Medium, &'a str, &'a str),
    /// A JSON Web Token of the operator's own system.
    Jwt(&'a str),
    /// What can't be given here: something that no flow has, or that is proved elsewhere.
    Other(Option<Stage>),
}

/// Who somebody says they are.
#[derive(Clone, Copy)]
pub(crate) enum Whom<'a> {
    /// That is clear without.
    Clear,
    /// A user's name or id.
    Named(&'a str),
    /// Who has this address: its medium, and it.
    ThirdParty(&'a str, &'a str),
    /// Who has this telephone number: the country that it is in, and it.
    Phone(&'a str, &'a str),
    /// Nobody here.
    Nobody,
}

impl<'a> Whom<'a> {
    fn of(identifier: &'a UserIdentifier) -> Self {
        match identifier {
            UserIdentifier::Matrix(named) => Self::Named(&named.user),
            UserIdentifier::PhoneNumber(given) => Self::Phone(&given.country, &given.phone),
            other => match other.as_third_party_id() {
                Some((medium, address)) => Self::ThirdParty(medium.as_str(), address),
                None => Self::Nobody,
            },
        }
    }
}

impl<'a> Given<'a> {
    /// Of a request; `None` if it only asks whether the stages are completed.
    pub(super) fn of(auth: &'a AuthData) -> Option<Self> {
        Some(match auth {
            AuthData::FallbackAcknowledgement(_) => return None,
            AuthData::Dummy(_) => Self::Dummy,
            AuthData::Password(given) => {
                Self::Password(Whom::of(&given.identifier), &given.password)
            }
            AuthData::EmailIdentity(given) => {
                Self::confirmed(Medium::Email, &given.thirdparty_id_creds)
            }
            AuthData::Msisdn(given) => Self::confirmed(Medium::Msisdn, &given.thirdparty_id_creds),
            AuthData::Terms(_) => Self::Terms,
            AuthData::ReCaptcha(given) => Self::Captcha(&given.response),
            AuthData::RegistrationToken(given) => Self::Token(&given.token),
            other => {
                let kind = other.auth_type();
                match kind.and_then(|kind| Stage::named(kind.as_str())) {
                    Some(Stage::Jwt) => Self::Jwt(token_of(other)),
                    stage => Self::Other(stage),
                }
            }
        })
    }

    fn confirmed(medium: Medium, creds: &'a ThirdpartyIdCredentials) -> Self {
        Self::ThirdParty(medium, creds.sid.as_str(), creds.client_secret.as_str())
    }

    /// Which stage it is for, if that is known.
    pub(super) fn stage(&self) -> Option<Stage> {
        match self {
            Self::Dummy => Some(Stage::Dummy),
            Self::Password(..) => Some(Stage::Password),
            Self::Terms => Some(Stage::Terms),
            Self::Captcha(_) => Some(Stage::Captcha),
            Self::Token(_) => Some(Stage::Token),
            Self::ThirdParty(Medium::Email, ..) => Some(Stage::Email),
            Self::ThirdParty(Medium::Msisdn, ..) => Some(Stage::Msisdn),
            Self::Jwt(_) => Some(Stage::Jwt),
            Self::Other(stage) => *stage,
        }
    }
}

/// The token of what is given for a stage that ruma doesn't know.
fn token_of(given: &AuthData) -> &str {
    match given.data() {
        Cow::Borrowed(data) => data.get("token").and_then(Value::as_str).unwrap_or(""),
        Cow::Owned(_) => "",
    }
}

/// Where a stage is to be completed.
pub(super) struct Place<'a> {
    pub app: &'a App,
    /// What for.
    pub purpose: &'a Purpose,
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
        Given::Password(whom, password) => by_password(place, *whom, password).await,
        Given::ThirdParty(medium, sid, secret) => by_address(place, *medium, sid, secret).await,
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
        Given::Jwt(token) => by_jwt(place, token).await,
        Given::Other(_) => Ok(Err((
            "M_FORBIDDEN",
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
    whom: Whom<'_>,
    password: &str,
) -> Result<Result<Value, Refusal>, MatrixError> {
    let app = place.app;
    let wrong = Ok(Err(("M_FORBIDDEN", "The user or the password is wrong")));
    let Some(user) = place.purpose.user() else {
        return wrong;
    };
    if !is_meant(app, whom, user).await? {
        return Err(not_theirs());
    }
    // Not the bucket of logins, which strangers can empty; and each device has its own.
    let who = ("confirms", user, place.purpose.device());
    app.limits
        .take(Kind::Login, who, app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)?;
    let account = app.store.account(user).await?;
    let hash = account
        .filter(|account| !account.deactivated)
        .and_then(|account| account.password_hash);
    let mark = hash.as_deref().map(password_mark);
    let from = Whence {
        peer: place.peer,
        at_home: false,
    };
    if password::attempt(app, password, hash, from).await? {
        let at_ms = app.store.clock().now_ms();
        return Ok(Ok(json!({ "mark": mark, "at_ms": at_ms })));
    }
    wrong
}

/// Who has no password shows that the operator's own system knows them: by a token that it has just given out.
async fn by_jwt(place: &Place<'_>, token: &str) -> Result<Result<Value, Refusal>, MatrixError> {
    let app = place.app;
    let wrong = Ok(Err((
        "M_FORBIDDEN",
        "The token isn't good, or wasn't issued within the last five minutes (iat)",
    )));
    let (Some(user), Some(jwt)) = (place.purpose.user(), &app.config.jwt) else {
        return wrong;
    };
    let who = ("confirms", user, place.purpose.device());
    app.limits
        .take(Kind::Login, who, app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)?;
    let account = app.store.account(user).await?;
    let has_none = |account: &Account| !account.deactivated && account.password_hash.is_none();
    if !account.as_ref().is_some_and(has_none) {
        return wrong;
    }
    let now_ms = app.store.clock().now_ms();
    match jwt.fresh_subject(token, now_ms / 1000) {
        Ok(subject) if subject == user.localpart() => Ok(Ok(json!({ "at_ms": now_ms }))),
        Ok(_) => Err(not_theirs()),
        Err(_) => wrong,
    }
}

/// Not a failed attempt, which might be repeated: nobody confirms what others do.
fn not_theirs() -> MatrixError {
    MatrixError::forbidden("Only the user who makes the request can confirm it")
}

async fn is_meant(app: &App, whom: Whom<'_>, user: &UserId) -> Result<bool, MatrixError> {
    Ok(match whom {
        Whom::Clear => true,
        Whom::Nobody => false,
        Whom::Named(given) => {
            let given = local_user(app, given);
            given.is_some_and(|given| {
                given == user || given.localpart().to_lowercase() == user.localpart()
            })
        }
        Whom::ThirdParty(medium, address) => has(app, user, third_party(medium, address)).await?,
        Whom::Phone(country, given) => has(app, user, phone::number(country, given)).await?,
    })
}

/// Whether it is an address of this user's.
async fn has(
    app: &App,
    user: &UserId,
    address: Result<ThirdParty, MatrixError>,
) -> Result<bool, MatrixError> {
    let Ok(of) = address else {
        return Ok(false);
    };
    let owner = app.store.third_party_owner(of.medium, &of.address).await?;
    Ok(owner.is_some() && owner == app.store.known_user(user).await?)
}

/// An address that its owner has confirmed for this: to register with it, as it is nobody's yet, or as that of an account that
/// they have.
async fn by_address(
    place: &Place<'_>,
    medium: Medium,
    sid: &str,
    secret: &str,
) -> Result<Result<Value, Refusal>, MatrixError> {
    let app = place.app;
    let purpose = place.purpose.of_addresses();
    let found = match validated(app, sid, secret, purpose).await {
        Ok(found) if found.medium == medium => found,
        Err(error) if error.status != StatusCode::UNAUTHORIZED => return Err(error),
        _ => {
            return Ok(Err((
                "M_THREEPID_AUTH_FAILED",
                "The address hasn't been confirmed in this session, or not for this purpose",
            )));
        }
    };
    let owner = app.store.third_party_owner(medium, &found.address).await?;
    let proof = json!({ "address": found.address, "sid": sid });
    if purpose == validated::Purpose::PasswordReset {
        let gone = (
            "M_THREEPID_AUTH_FAILED",
            "No account has this address any more",
        );
        return Ok(owner.map(|_| proof).ok_or(gone));
    }
    if medium == Medium::Email && !app.config.registration_rules.permit_email(&found.address) {
        return Ok(Err((
            "M_THREEPID_DENIED",
            "Nobody can register with an address of this domain; use another",
        )));
    }
    if owner.is_some() {
        return Ok(Err((
            "M_THREEPID_IN_USE",
            "Another account has this address",
        )));
    }
    Ok(Ok(proof))
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
