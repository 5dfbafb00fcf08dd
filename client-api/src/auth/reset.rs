//! A new password for who has forgotten theirs: they show that an address of their account is theirs.

use std::net::IpAddr;

use rhizome_edge::MatrixError;
use rhizome_storage::Ends;
use ruma::api::client::account::change_password::v3 as change_password;

use super::{
    password::Turn,
    uia::{self, Purpose},
    validated::not_validated,
};
use crate::App;

/// Whether an account's password can be set so.
pub(crate) fn is_possible(app: &App) -> bool {
    app.config.mailing.is_some() || app.config.identity.sms.is_some()
}

/// Sets the password of who shows that an address of the account is theirs. They are logged in nowhere here, so unless the
/// client wants otherwise all sessions end.
///
/// # Errors
/// 401 until it is shown; `M_WEAK_PASSWORD`.
pub(crate) async fn set_password(
    app: &App,
    req: &change_password::Request,
    peer: Option<IpAddr>,
) -> Result<(), MatrixError> {
    let purpose = Purpose::reset();
    let passed = uia::pass(app, &purpose, (req.auth.as_ref(), peer)).await?;
    let shown = passed.proofs.third_parties();
    let (address, sid) = shown.first().ok_or_else(not_validated)?;
    let owner = app
        .store
        .third_party_owner(address.medium, &address.address)
        .await?;
    let user = owner.ok_or_else(not_validated)?;
    // Whoever has the address by now: what was shown is good for who had it when they asked.
    let found = app.store.validation(sid).await?;
    if found.is_none_or(|found| found.owner != Some(user)) {
        return Err(not_validated());
    }
    let turn = Turn::of(app, peer);
    let hash = app.passwords.hash(&req.new_password, turn).await?;
    let ends = if req.logout_devices {
        Ends::All
    } else {
        Ends::Nothing
    };
    // Of several requests with the same proof one gets on: it goes with the password that it sets.
    if !app.store.reset_password(user, &hash, ends, sid).await? {
        return Err(not_validated());
    }
    if let Some(session) = &passed.session {
        app.store.end_uia_session(&session.id).await?;
    }
    Ok(())
}
