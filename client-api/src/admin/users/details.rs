//! All that is known of a user.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use ruma::UserId;
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{endpoint::endpoints, subject},
};

endpoints! {
    /// `GET`: a user of this server.
    GetUser: GET "/_synapse/admin/v2/users/{user_id}";
}

/// `GET /_synapse/admin/v2/users/{userId}`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetUser>>,
) -> Result<RawJson, MatrixError> {
    let user_id = subject::local(&app, req.part(0))?;
    RawJson::of(&of(&app, &user_id).await?)
}

/// What is told of a user.
///
/// # Errors
/// 404 `M_NOT_FOUND` if there is no such account.
pub async fn of(app: &App, user_id: &UserId) -> Result<Value, MatrixError> {
    let account = app.store.account_overview(user_id).await?;
    let account = account.ok_or_else(subject::no_user)?;
    let profile = app.store.profile(user_id).await?.unwrap_or_default();
    let addresses = app.store.third_parties(account.user).await?;
    let addresses = addresses.iter().map(|one| {
        json!({
            "medium": one.third_party.medium.as_str(),
            "address": one.third_party.address,
            "added_at": one.added_ms,
            "validated_at": one.validated_ms,
        })
    });
    let services = app.federation.services().current();
    let service = services.exclusive_owner_of_user(user_id);
    Ok(json!({
        "name": user_id,
        "displayname": profile.get("displayname"),
        "avatar_url": profile.get("avatar_url"),
        "threepids": addresses.collect::<Vec<_>>(),
        "external_ids": [],
        "is_guest": account.is_guest,
        "admin": account.admin,
        "deactivated": account.deactivated,
        "erased": account.erased,
        "shadow_banned": account.shadow_banned,
        "locked": account.locked,
        "suspended": account.suspended,
        "approved": !account.awaits_approval,
        // In seconds, unlike in lists: so tools take it.
        "creation_ts": account.created_ms / 1_000,
        "last_seen_ts": account.last_seen_ms,
        "user_type": null,
        // Who has made the account isn't kept: that is whose it is.
        "appservice_id": service.map(|service| service.id.as_str()),
        "consent_server_notice_sent": null,
        "consent_version": null,
        "consent_ts": null,
    }))
}
