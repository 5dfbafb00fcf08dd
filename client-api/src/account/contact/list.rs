//! The addresses and telephone numbers of an account.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson};
use ruma::api::client::account::{
    ThirdPartyIdRemovalStatus, add_3pid::v3 as add, delete_3pid::v3 as delete, get_3pids::v3 as get,
};
use serde_json::json;

use super::{ask::in_use, bind, send};
use crate::{
    App, Ruma,
    auth::{
        uia::{self, Act},
        validated::{self, Medium, Purpose, third_party, used, validated},
    },
};

/// The most that an account has.
const MOST: usize = 20;

/// Whether users may change what addresses they have: where nothing can be sent to any, nothing is added.
pub(crate) fn may_change(app: &App) -> bool {
    let media = [Medium::Email, Medium::Msisdn];
    media
        .into_iter()
        .any(|medium| send::is_possible(app, medium))
}

/// `GET /_matrix/client/v3/account/3pid`
pub async fn list(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<get::Request>,
) -> Result<RawJson, MatrixError> {
    let own = app.store.third_parties(who.user).await?;
    let own: Vec<_> = own
        .iter()
        .map(|one| {
            json!({
                "medium": one.third_party.medium.as_str(),
                "address": one.third_party.address,
                "added_at": one.added_ms,
                "validated_at": one.validated_ms,
            })
        })
        .collect();
    RawJson::of(&json!({ "threepids": own }))
}

/// `POST /_matrix/client/v3/account/3pid/add`
pub async fn add(
    State(app): State<App>,
    Ruma {
        who,
        req,
        body,
        peer,
    }: Ruma<add::Request>,
) -> Result<add::Response, MatrixError> {
    let act = Act {
        what: "add_3pid",
        to: "",
        body: &body,
        lately_will_do: false,
    };
    let (sid, secret) = (req.sid.as_str(), req.client_secret.as_str());
    let not_validated = |error: MatrixError| MatrixError {
        // Who gets a 401 here would have to show who they are once more.
        status: StatusCode::BAD_REQUEST,
        ..error
    };
    let found = validated(&app, sid, secret, Purpose::Adding).await;
    // Before who asks shows who they are: that is good once.
    let found = found.map_err(not_validated)?;
    uia::confirm(&app, &who, act, (req.auth.as_ref(), peer)).await?;
    let own = app.store.third_parties(who.user).await?;
    let is_new = own.iter().all(|one| one.third_party != found);
    if is_new && own.len() >= MOST {
        let message = format!("An account has {MOST} addresses at most");
        return Err(MatrixError::forbidden(message));
    }
    if !used(&app, sid).await? {
        return Err(not_validated(validated::not_validated()));
    }
    let now = app.store.clock().now_ms();
    if app.store.add_third_party(who.user, found, now).await? {
        Ok(add::Response::new())
    } else {
        // Somebody else has it since it was asked for.
        Err(in_use())
    }
}

/// `POST /_matrix/client/v3/account/3pid/delete`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete::Request>,
) -> Result<delete::Response, MatrixError> {
    let gone = third_party(req.medium.as_str(), &req.address)?;
    let unbound = bind::unbind_one(&app, &who, &gone, req.id_server.as_deref()).await?;
    app.store.remove_third_party(who.user, gone).await?;
    let result = if unbound {
        ThirdPartyIdRemovalStatus::Success
    } else {
        ThirdPartyIdRemovalStatus::NoSupport
    };
    Ok(delete::Response::new(result))
}
