//! Login.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Body, MatrixError, RawJson, Shown};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::client::session::{get_login_types::v3 as flows, login::v3 as login},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    App, Ruma,
    auth::{
        acting,
        by_password::{self, Named},
        jwt, login_token, phone,
        session::{self, SessionRequest},
        standing,
        validated::third_party,
    },
    user_ids::{exclusive, local_user},
};

/// How application services log in.
const SERVICE: &str = "m.login.application_service";

/// `GET /_matrix/client/v3/login`
pub async fn flows(
    State(app): State<App>,
    Ruma { .. }: Ruma<flows::Request>,
) -> Result<RawJson, MatrixError> {
    let mut flows = vec![json!({ "type": "m.login.password" })];
    if app.config.login_tokens.is_some() {
        flows.push(json!({ "type": "m.login.token", "get_login_token": true }));
    }
    if !app.federation.services().is_empty() {
        flows.push(json!({ "type": SERVICE }));
    }
    if app.config.jwt.is_some() {
        flows.push(json!({ "type": "org.matrix.login.jwt" }));
    }
    RawJson::of(&json!({ "flows": flows }))
}

/// The body of a login.
#[derive(Deserialize)]
pub struct Login {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<Identifier>,
    /// What stood for `identifier` before there was one.
    user: Option<String>,
    medium: Option<String>,
    address: Option<String>,
    password: Option<String>,
    token: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

#[derive(Deserialize)]
struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    user: Option<String>,
    medium: Option<String>,
    address: Option<String>,
    country: Option<String>,
    phone: Option<String>,
    /// What stood for `phone` in older versions of the specification.
    number: Option<String>,
}

/// `POST /_matrix/client/v3/login`
pub async fn login(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<Body<login::Request, Login>>,
) -> Result<RawJson, MatrixError> {
    let login = req.body;
    let (user_id, proof) = match login.kind.as_str() {
        "m.login.password" => {
            let Some(password) = login.password.as_deref() else {
                return Err(MatrixError::missing_param("A password is required"));
            };
            let name = named_user(&login)?;
            by_password::check(&app, &name, password, peer).await?
        }
        "m.login.token" => (login_token::redeem(&app, token_of(&login)?).await?, None),
        "org.matrix.login.jwt" if app.config.jwt.is_some() => {
            (jwt::user_of(&app, token_of(&login)?).await?, None)
        }
        SERVICE => (by_service(&app, who, &login).await?, None),
        _ => {
            let message = "The login type isn't one of this server's flows";
            return Err(MatrixError::new(
                StatusCode::BAD_REQUEST,
                "M_UNKNOWN",
                message,
            ));
        }
    };
    let request = SessionRequest {
        device_id: login.device_id,
        device_name: login.initial_device_display_name,
        refreshable: login.refresh_token,
        by_password: proof.is_some(),
        proof,
        is_guest: false,
    };
    let Some(account) = app.store.account(&user_id).await? else {
        return Err(MatrixError::internal());
    };
    if account.locked {
        return Err(standing::locked());
    }
    if account.awaits_approval {
        return Err(standing::awaiting_approval());
    }
    let session = session::begin(&app, account.user, request, peer).await?;
    let mut answer = session::answer(&app, &user_id, Some(session));
    if let Some(base_url) = &app.config.well_known_client {
        answer["well_known"] = json!({ "m.homeserver": { "base_url": base_url } });
    }
    RawJson::of(&answer)
}

/// Whom an application service logs in as: a user of its namespaces.
///
/// # Errors
/// 401 `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`; 400 `M_EXCLUSIVE`, `M_APPSERVICE_LOGIN_UNSUPPORTED`; 403 if there is no account, or
/// it is an administrator's: with a token of theirs the service would be one.
async fn by_service(app: &App, shown: Shown, login: &Login) -> Result<OwnedUserId, MatrixError> {
    let service = acting::shown_service(app, shown)?;
    acting::require_login(&service)?;
    let Named::User(name) = named_user(login)? else {
        let message = "Application services name users by m.id.user";
        return Err(MatrixError::invalid_param(message));
    };
    let Some(user_id) = local_user(app, &name) else {
        return Err(exclusive("The user isn't of this server"));
    };
    acting::require_theirs(app, &service, &user_id)?;
    match app.store.account(&user_id).await? {
        Some(account) if account.admin && !account.deactivated => Err(MatrixError::forbidden(
            "Application services don't log in as administrators of this server",
        )),
        Some(account) if !account.deactivated => Ok(user_id),
        Some(_) => Err(MatrixError::new(
            StatusCode::FORBIDDEN,
            "M_USER_DEACTIVATED",
            "The account has been deactivated",
        )),
        None => Err(MatrixError::forbidden("There is no such account")),
    }
}

fn token_of(login: &Login) -> Result<&str, MatrixError> {
    let token = login.token.as_deref();
    token.ok_or_else(|| MatrixError::missing_param("A token is required"))
}

fn named_user(login: &Login) -> Result<Named, MatrixError> {
    let missing = |what: &str| MatrixError::missing_param(format!("The user's {what} is missing"));
    let by_name = |user: &Option<String>| {
        let user = user.clone().ok_or_else(|| missing("name"))?;
        Ok(Named::User(user))
    };
    let by_address = |medium: &Option<String>, address: &Option<String>| {
        let medium = medium.as_deref().ok_or_else(|| missing("medium"))?;
        let address = address.as_deref().ok_or_else(|| missing("address"))?;
        third_party(medium, address).map(Named::ThirdParty)
    };
    let Some(given) = &login.identifier else {
        return if login.user.is_none() && login.medium.is_some() {
            by_address(&login.medium, &login.address)
        } else {
            by_name(&login.user)
        };
    };
    match given.kind.as_str() {
        "m.id.user" => by_name(&given.user),
        "m.id.thirdparty" => by_address(&given.medium, &given.address),
        "m.id.phone" => {
            let country = given.country.as_deref().ok_or_else(|| missing("country"))?;
            let phone = given.phone.as_deref().or(given.number.as_deref());
            let phone = phone.ok_or_else(|| missing("phone"))?;
            phone::number(country, phone).map(Named::ThirdParty)
        }
        _ => Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNKNOWN",
            "Users are identified by m.id.user, m.id.thirdparty or m.id.phone",
        )),
    }
}
