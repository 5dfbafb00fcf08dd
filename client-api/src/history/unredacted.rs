//! What a redacted event said, for who may redact events of others there
//! ([MSC2815](https://github.com/matrix-org/matrix-spec-proposals/pull/2815)).

use std::sync::Arc;

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_protocol::power::{Action, Power};
use rhizome_rooms::{
    access::{EventAccess, Verdict},
    state::powers_at,
};

use crate::{
    App, Caller, content,
    view::{reading::Reading, seen::Seen},
};

/// The query's parameter.
const ASKED: &str = "fi.mau.msc2815.include_unredacted_content";

/// Whether a request asks for it.
///
/// # Errors
/// `M_INVALID_PARAM` for what is neither `true` nor `false`.
pub(super) fn is_asked(query: Option<&str>) -> Result<bool, MatrixError> {
    let pairs = content::pairs(query.unwrap_or_default());
    let value = pairs.into_iter().find(|(name, _)| name == ASKED);
    match value.as_ref().map(|(_, value)| value.as_str()) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(MatrixError::invalid_param(format!(
            "{ASKED} is true or false"
        ))),
    }
}

/// Gives a redacted event its content back.
///
/// # Errors
/// 403 `M_FORBIDDEN` for who may not redact, nor administers the server;
/// `FI.MAU.MSC2815_UNREDACTED_CONTENT_NOT_RECEIVED` if it never came here.
pub(super) async fn restore(
    app: &App,
    (who, reading): (&Caller, &Reading),
    seen: &mut Seen,
) -> Result<(), MatrixError> {
    if seen.event.redacted_by.is_none() {
        return Ok(());
    }
    if !(may_redact(app, reading).await? || administers(app, who).await?) {
        return Err(MatrixError::forbidden(
            "You don't have the power to see what was redacted here",
        ));
    }
    // What an erasure keeps from them, no power gives.
    let mut access = EventAccess::new(&app.store, &reading.viewer.user_id, reading.room.standing);
    access.load([&seen.event]).await?;
    let whole = access.judge(&seen.event);
    let event = app.store.unredacted(seen.event.no).await?;
    let event = event.filter(|event| event.pdu.is_whole());
    match (whole, event) {
        (Verdict::Shown { whole: true, .. }, Some(event)) => {
            seen.event = Arc::new(event);
            Ok(())
        }
        (_, None) => Err(MatrixError::new(
            StatusCode::NOT_FOUND,
            "FI.MAU.MSC2815_UNREDACTED_CONTENT_NOT_RECEIVED",
            "The content of the event never came to this server",
        )),
        _ => Err(MatrixError::new(
            StatusCode::NOT_FOUND,
            "FI.MAU.MSC2815_UNREDACTED_CONTENT_DELETED",
            "Who sent the event has had its content erased",
        )),
    }
}

/// Whether the reader is in the room and may redact what others say there.
async fn may_redact(app: &App, reading: &Reading) -> Result<bool, MatrixError> {
    let room = &reading.room;
    let Some(at) = room.head.snapshot.filter(|_| room.standing.is_member()) else {
        return Ok(false);
    };
    let state = powers_at(&app.store, at).await?;
    let power = Power::of(room.head.rules, &state);
    Ok(power.may(&reading.viewer.user_id, Action::Redact))
}

/// Whether the reader does: not an application service, whomever it acts for.
async fn administers(app: &App, who: &Caller) -> Result<bool, MatrixError> {
    if who.service.is_some() {
        return Ok(false);
    }
    let account = app.store.account(&who.user_id).await?;
    Ok(account.is_some_and(|account| account.admin))
}
