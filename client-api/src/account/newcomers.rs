//! Accounts that are new may do less at a time of what spammers do first: invite people, and make rooms.

use rhizome_edge::MatrixError;
use rhizome_storage::millis;

use crate::{
    App,
    limits::{By, Kind},
};

/// Counts rooms that a user makes, and people whom they invite, if their account is new. Those for whom an application
/// service acts are no spammers.
///
/// # Errors
/// 429 `M_LIMIT_EXCEEDED`; 400 `M_INVALID_PARAM` for more than may ever be done at once.
pub(crate) async fn take<'a>(
    app: &App,
    by: impl Into<By<'a>>,
    rooms: usize,
    invites: usize,
) -> Result<(), MatrixError> {
    let By { user, service } = by.into();
    let age = millis(app.config.rate_limits.new_account_age);
    if age == 0 || service.is_some() || !app.config.rate_limits.enabled || rooms + invites == 0 {
        return Ok(());
    }
    let Some(account) = app.store.account(user).await? else {
        return Ok(());
    };
    let now_ms = app.store.clock().now_ms();
    if account.admin || account.created_ms.saturating_add(age) <= now_ms {
        return Ok(());
    }
    let now = app.now_monotonic_ms();
    (app.limits).take_many(Kind::NewcomerInvite, user, invites, now)?;
    app.limits.take_many(Kind::NewcomerRoom, user, rooms, now)
}
