//! Finding users by what they have, and names that are free.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use serde_json::json;

use crate::{
    App, Ruma,
    account::users,
    admin::{asked::Asked, endpoint::endpoints, subject},
    auth::validated::third_party,
};

endpoints! {
    /// `GET`: whether a name is free.
    GetAvailable: GET "/_synapse/admin/v1/username_available";
    /// `GET`: whose an address or a telephone number is.
    GetOwner: GET "/_synapse/admin/v1/threepid/{medium}/users/{address}";
}

/// `GET /_synapse/admin/v1/username_available`
///
/// Also of names that only the operator gives out; not of those that are an application service's.
pub async fn available(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetAvailable>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let name = asked.text("username");
    let name = name.ok_or_else(|| MatrixError::missing_param("username is missing"))?;
    let user_id = users::user_id(&app.config.server_name, name)?;
    if app.store.account(&user_id).await?.is_some() {
        return Err(users::in_use());
    }
    users::require_nobodys(&app, &user_id)?;
    RawJson::of(&json!({ "available": true }))
}

/// `GET /_synapse/admin/v1/threepid/{medium}/users/{address}`
pub async fn by_address(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetOwner>>,
) -> Result<RawJson, MatrixError> {
    let asked = third_party(req.part(0), req.part(1))?;
    let owner = app.store.third_party_owner(asked.medium, &asked.address);
    let owner = owner.await?.ok_or_else(subject::no_user)?;
    RawJson::of(&json!({ "user_id": app.store.user(owner).await? }))
}
