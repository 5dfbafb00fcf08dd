//! Pushers of the kind `email`: by them mails tell of what was missed (client-server API, "Push Notifications").

use std::time::Duration;

use rhizome_edge::MatrixError;
use rhizome_mail::Address;
use rhizome_storage::{Logged, Pusher, PusherKey, millis, random};

use super::mailing::Mailing;
use crate::{App, Caller};

/// Their kind.
pub const EMAIL: &str = "email";
/// Their app.
const APP: &str = "m.email";
/// So many a user has at most.
const MOST: usize = 5;
/// How long an address has to say that it wants mails.
const ACK_TIME: Duration = Duration::from_hours(24);

/// Where mails of such a pusher go.
///
/// # Errors
/// 400 `M_INVALID_PARAM`
pub fn address(app_id: &str, pushkey: &str) -> Result<Address, MatrixError> {
    if app_id != APP {
        let message = format!("The app_id of pushers of the kind {EMAIL} is {APP}");
        return Err(MatrixError::invalid_param(message));
    }
    let address = Address::parse(pushkey);
    address.map_err(|error| MatrixError::invalid_param(format!("pushkey: {error}")))
}

/// By which, and until when, an address has to say that it wants mails: not again if it has. Who is asked needn't be
/// who sets the pusher.
///
/// # Errors
/// 400 `M_INVALID_PARAM` if there are too many, 429 `M_LIMIT_EXCEEDED`.
pub fn asked(
    app: &App,
    who: &Caller,
    key: &PusherKey,
    known: &[std::sync::Arc<Logged<Pusher>>],
) -> Result<(Option<String>, Option<i64>), MatrixError> {
    let mailing = mailing(app)?;
    let address = address(&key.app_id, &key.pushkey)?;
    let before = known.iter().find(|known| known.key() == *key);
    if before.is_some_and(|before| before.kind == EMAIL && before.ack.is_none()) {
        return Ok((None, None));
    }
    let of_kind = known.iter().filter(|known| known.kind == EMAIL);
    if before.is_none() && of_kind.count() >= MOST {
        let message = format!("There may be {MOST} addresses for mails at most");
        return Err(MatrixError::invalid_param(message));
    }
    mailing.may_ask(&who.user_id, &address, app.now_monotonic_ms())?;
    let until = app.store.clock().now_ms().saturating_add(millis(ACK_TIME));
    Ok((Some(random::hex::<16>()?), Some(until)))
}

/// How mails are sent.
///
/// # Errors
/// 400 `M_INVALID_PARAM` if they aren't.
fn mailing(app: &App) -> Result<&Mailing, MatrixError> {
    let mailing = app.config.mailing.as_deref();
    mailing.ok_or_else(|| MatrixError::invalid_param("This server sends no mails"))
}
