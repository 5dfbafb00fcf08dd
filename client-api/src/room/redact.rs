//! Redaction.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_protocol::{Object, draft::Draft};
use rhizome_rooms::send::SendOptions;
use rhizome_storage::TxnKey;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, api::client::redact::redact_event::v3 as redact,
};

use crate::{App, Ruma, content};

/// `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
pub async fn redact(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<redact::Request>,
) -> Result<redact::Response, MatrixError> {
    let path = format!("redact/{}/{}", req.room_id, req.event_id);
    let txn = content::txn_key(&who, path, req.txn_id.as_str())?;
    let mut content = Object::new();
    if let Some(reason) = req.reason {
        content.insert("reason".into(), reason.into());
    }
    let sent = send(&app, who.user_id, req.room_id, req.event_id, content, txn).await?;
    Ok(redact::Response::new(sent))
}

/// Sends a redaction of `target`; the room version says where it is named.
pub(crate) async fn send(
    app: &App,
    sender: OwnedUserId,
    room_id: OwnedRoomId,
    target: OwnedEventId,
    mut content: Object,
    txn: TxnKey,
) -> Result<OwnedEventId, MatrixError> {
    content.remove("redacts");
    let draft = Draft {
        room_id: Some(room_id),
        sender,
        kind: "m.room.redaction".into(),
        state_key: None,
        content,
        redacts: Some(target),
    };
    let options = SendOptions {
        txn: Some(txn),
        ..SendOptions::default()
    };
    Ok(local::send(&app.federation, draft, options).await?.event_id)
}
