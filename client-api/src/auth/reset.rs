//! A new password for who has forgotten theirs: they show that an address of their account is theirs.

use rhizome_edge::MatrixError;
use rhizome_storage::Ends;
use ruma::api::client::account::change_password::v3 as change_password;

use super::{
    uia::{self, Stage},
    validated::{credentials, not_validated, reset_proof, used},
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
) -> Result<(), MatrixError> {
    uia::require(app, "reset_password", Stage::Reset, req.auth.as_ref()).await?;
    let creds = req.auth.as_ref().and_then(credentials);
    let creds = creds.ok_or_else(not_validated)?;
    let user = reset_proof(app, creds).await?;
    let hash = app.passwords.hash(&req.new_password).await?;
    // Of several requests with the same proof one gets on.
    if !used(app, creds.sid.as_str()).await? {
        return Err(not_validated());
    }
    let ends = if req.logout_devices {
        Ends::All
    } else {
        Ends::Nothing
    };
    app.store.set_password(user, &hash, ends).await?;
    Ok(())
}
