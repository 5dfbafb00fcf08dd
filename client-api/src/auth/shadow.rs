//! Users whose events are taken, and shown to nobody: who spams on doesn't learn that nobody reads it. It is for the
//! operator to weigh; those whom it hits can't defend themselves.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rhizome_edge::MatrixError;
use rhizome_protocol::Object;
use rhizome_rooms::access::RoomAccess;
use rhizome_storage::{TxnKey, random};
use ring::digest::{SHA256, digest};
use ruma::{EventId, OwnedEventId, RoomId, UserId};

use crate::{App, Caller, view::seen::reader};

/// Whether nobody is to see what a user does.
pub async fn is_banned(app: &App, user: &UserId) -> Result<bool, MatrixError> {
    Ok(app.store.blocks().await?.user(user))
}

/// What who sends such an event to a room is told: what others are told, and the same for the same transaction.
///
/// # Errors
/// The user isn't in the room.
pub async fn event(
    app: &App,
    who: &Caller,
    room_id: &RoomId,
    txn: Option<&TxnKey>,
) -> Result<OwnedEventId, MatrixError> {
    RoomAccess::of_member(&app.store, reader(who), room_id).await?;
    let name = match txn {
        Some(txn) => {
            // From before that.
            if let Some(event_id) = app.store.transaction(txn).await? {
                return Ok(event_id);
            }
            named(app, txn)
        }
        None => random::secret()?,
    };
    EventId::parse(format!("${name}")).map_err(|_| MatrixError::internal())
}

/// The name of the event that a transaction hasn't made: nobody but this server can tell that it is made up.
fn named(app: &App, txn: &TxnKey) -> String {
    let user = txn.user.0.to_string();
    let parts = [user.as_str(), txn.device.as_str(), &txn.path, &txn.txn_id];
    let text = serde_json::json!({ "not sent": parts }).to_string();
    let signature = app.rooms.key().sign(text.as_bytes());
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &signature))
}

/// What a user says with a membership of their own, if they may say it.
///
/// # Errors
/// The database fails.
pub async fn quiet(app: &App, user: &UserId, content: &mut Object) -> Result<(), MatrixError> {
    if is_banned(app, user).await? {
        content.retain(|key, _| key == "membership");
    }
    Ok(())
}
