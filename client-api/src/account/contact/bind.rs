//! What identity servers publish of users' addresses and telephone numbers.

use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use rhizome_edge::{Body, MatrixError, RawJson};
use ruma::api::client::account::{
    ThirdPartyIdRemovalStatus, bind_3pid::v3 as bind, unbind_3pid::v3 as unbind,
};
use ruma::{UserId, api::auth_scheme::AccessToken, metadata};
use serde::Deserialize;
use serde_json::json;

use crate::{
    App, Caller, Ruma,
    auth::validated::{ThirdParty, third_party},
    identity,
};

/// How many identity servers are asked at once when an account ends, and how much a user may have published.
const AT_ONCE: usize = 4;
const MOST: usize = 100;

/// `POST /_matrix/client/v3/account/3pid`
pub struct PostThirdParty;
metadata! {
    @for PostThirdParty,
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/account/3pid",
        1.1 => "/_matrix/client/v3/account/3pid",
    }
}

/// The body of that.
#[derive(Deserialize)]
pub struct Credentials {
    #[serde(alias = "threePidCreds")]
    three_pid_creds: Creds,
}

#[derive(Deserialize)]
struct Creds {
    client_secret: String,
    id_server: Option<String>,
    id_access_token: Option<String>,
    sid: String,
}

/// `POST /_matrix/client/v3/account/3pid/bind`
pub async fn bind(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<bind::Request>,
) -> Result<bind::Response, MatrixError> {
    let at = req.identity_server_info;
    let session = (req.sid.as_str(), req.client_secret.as_str());
    bound(&app, &who, (&at.id_server, &at.id_access_token), session).await?;
    Ok(bind::Response::new())
}

/// `POST /_matrix/client/v3/account/3pid`: what `bind` does, as it was once asked for.
pub async fn bind_as_once(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<PostThirdParty, Credentials>>,
) -> Result<RawJson, MatrixError> {
    let creds = req.body.three_pid_creds;
    let (Some(server), Some(token)) = (&creds.id_server, &creds.id_access_token) else {
        return Err(MatrixError::missing_param(
            "id_server and id_access_token are missing; what this server has validated is added by /account/3pid/add",
        ));
    };
    let session = (creds.sid.as_str(), creds.client_secret.as_str());
    bound(&app, &who, (server, token), session)
        .await
        .map_err(|error| match error.status {
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {
                let message = error.message;
                MatrixError::new(StatusCode::FORBIDDEN, "M_THREEPID_AUTH_FAILED", message)
            }
            _ => error,
        })?;
    RawJson::of(&json!({}))
}

/// Publishes at an identity server that what was validated there is the user's.
async fn bound(
    app: &App,
    who: &Caller,
    (server, token): (&str, &str),
    session: (&str, &str),
) -> Result<(), MatrixError> {
    let server = identity::server(app, server)?;
    if app.store.bound_third_parties(who.user).await?.len() >= MOST {
        let message = format!("At most {MOST} addresses may be published");
        return Err(MatrixError::forbidden(message));
    }
    if let Some(bound) = server.bind(token, session, &who.user_id).await? {
        // In the form in which it will be asked for.
        let same = third_party(bound.medium.as_str(), &bound.address);
        let bound = same.unwrap_or(bound);
        let name = server.name().as_str();
        app.store.third_party_bound(who.user, &bound, name).await?;
    }
    Ok(())
}

/// `POST /_matrix/client/v3/account/3pid/unbind`
pub async fn unbind(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<unbind::Request>,
) -> Result<unbind::Response, MatrixError> {
    let gone = third_party(req.medium.as_str(), &req.address)?;
    let unbound = unbind_one(&app, &who, &gone, req.id_server.as_deref()).await?;
    Ok(unbind::Response::new(if unbound {
        ThirdPartyIdRemovalStatus::Success
    } else {
        ThirdPartyIdRemovalStatus::NoSupport
    }))
}

/// Takes an identifier of a user's back at an identity server, or at all where it was bound through us. `false` if one of
/// them didn't do so, or none is known.
pub(crate) async fn unbind_one(
    app: &App,
    who: &Caller,
    gone: &ThirdParty,
    server: Option<&str>,
) -> Result<bool, MatrixError> {
    let servers: Vec<String> = if let Some(server) = server {
        vec![identity::server(app, server)?.name().to_string()]
    } else {
        let bound = app.store.bound_third_parties(who.user).await?;
        let of_it = bound.into_iter().filter(|(one, _)| one == gone);
        of_it.map(|(_, server)| server).collect()
    };
    let all = servers.into_iter().map(|server| (gone.clone(), server));
    unbind_all(app, who, all.collect()).await
}

/// Takes all identifiers of an account that ends back: at this identity server, or where they were bound through us.
/// `false` if one isn't taken back, or it isn't known where.
pub(crate) async fn unbind_every(
    app: &App,
    who: &Caller,
    server: Option<&str>,
) -> Result<bool, MatrixError> {
    let bound = app.store.bound_third_parties(who.user).await?;
    let own = app.store.third_parties(who.user).await?;
    let mut every: Vec<ThirdParty> = own.into_iter().map(|one| one.third_party).collect();
    every.extend(bound.iter().map(|(one, _)| one.clone()));
    every.sort();
    every.dedup();
    if every.is_empty() {
        return Ok(true);
    }
    if let Some(server) = server {
        // Whatever is said of it, the account ends.
        let Ok(server) = identity::server(app, server) else {
            return Ok(false);
        };
        let name = server.name().to_string();
        let all = every.into_iter().map(|one| (one, name.clone()));
        return unbind_all(app, who, all.collect()).await;
    }
    let is_known = |one: &ThirdParty| bound.iter().any(|(other, _)| other == one);
    let all_known = every.iter().all(is_known);
    let unbound = unbind_all(app, who, bound).await?;
    Ok(unbound && all_known)
}

async fn unbind_all(
    app: &App,
    who: &Caller,
    all: Vec<(ThirdParty, String)>,
) -> Result<bool, MatrixError> {
    if all.is_empty() || all.len() > MOST {
        return Ok(false);
    }
    let done = stream::iter(all)
        .map(|(one, server)| async move {
            let user = &who.user_id;
            let unbound = unbind_at(app, user, &one, &server).await;
            if unbound {
                app.store
                    .third_party_unbound(who.user, &one, &server)
                    .await?;
            }
            Ok::<bool, MatrixError>(unbound)
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut every = true;
    for one in done {
        every &= one?;
    }
    Ok(every)
}

/// Whether an identity server takes an identifier back.
async fn unbind_at(app: &App, user: &UserId, one: &ThirdParty, server: &str) -> bool {
    let unbound = match app.federation.identity_server(server) {
        Ok(server) => server.unbind(one, user).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &unbound {
        tracing::info!(%server, %error, "an identity server takes nothing back");
    }
    unbound.is_ok()
}
