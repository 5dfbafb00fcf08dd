//! What accounts may do that the operator has locked or suspended
//! (<https://spec.matrix.org/v1.19/client-server-api/#account-moderation>). Which endpoints are open to them, the table of
//! endpoints says; here is what depends on more than that.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::{TxnKey, UserNo};
use ruma::{EventId, RoomId};

use crate::{App, Caller};

/// What is said to who is locked out. They may keep what they have: the lock can be taken away.
pub fn locked() -> MatrixError {
    MatrixError::new(
        StatusCode::UNAUTHORIZED,
        "M_USER_LOCKED",
        "This account has been locked",
    )
    .with("soft_logout", true)
}

/// What is said to who is suspended.
pub fn suspended() -> MatrixError {
    MatrixError::new(
        StatusCode::FORBIDDEN,
        "M_USER_SUSPENDED",
        "You can't do this while your account is suspended",
    )
}

/// An account into which nobody may log in yet (MSC3866).
pub fn awaiting_approval() -> MatrixError {
    MatrixError::new(
        StatusCode::FORBIDDEN,
        "M_USER_AWAITING_APPROVAL",
        "The account waits for the approval of this server's operator; try to log in later",
    )
    .with("approval_notice_medium", "none")
}

/// Whether who waits for news still gets them: `changed`, whether the log says that the user's tokens have changed.
///
/// # Errors
/// `M_USER_LOCKED`
pub async fn may_listen(app: &App, user: UserNo, changed: bool) -> Result<(), MatrixError> {
    if changed && app.store.is_locked(user).await? {
        return Err(locked());
    }
    Ok(())
}

/// Whether a user may speak in a room: who is suspended only where the operator speaks with them.
///
/// # Errors
/// `M_USER_SUSPENDED`
pub async fn may_speak(app: &App, who: &Caller, room_id: &RoomId) -> Result<(), MatrixError> {
    if !who.is_suspended {
        return Ok(());
    }
    let notices = app.store.notice_room(who.user).await?;
    if notices.is_some() && app.store.known_room(room_id).await? == notices {
        return Ok(());
    }
    Err(suspended())
}

/// Whether a user may redact an event of a room: who is suspended only their own, once. `txn`: who sends the same again.
///
/// # Errors
/// `M_USER_SUSPENDED`
pub async fn may_redact(
    app: &App,
    who: &Caller,
    (room_id, event_id): (&RoomId, &EventId),
    txn: &TxnKey,
) -> Result<(), MatrixError> {
    if !who.is_suspended {
        return Ok(());
    }
    let event = app.store.event(event_id).await?;
    let own =
        event.filter(|event| event.pdu.sender() == who.user_id && event.pdu.room_id() == room_id);
    match own {
        Some(event) if event.redacted_by.is_none() => Ok(()),
        // Redactions have reasons: one more of the same event only says something.
        Some(_) if app.store.transaction(txn).await?.is_some() => Ok(()),
        _ => Err(suspended()),
    }
}
