//! Sending message events.

use axum::extract::State;
use rhizome_federation::{MatrixError, local};
use rhizome_protocol::draft::Draft;
use rhizome_rooms::send::SendOptions;
use ruma::api::client::message::send_message_event::v3 as send;

use crate::{App, Ruma, body::Undecoded, content};

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
pub async fn send(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<send::Request>>,
) -> Result<send::Response, MatrixError> {
    let room_id = content::room_id(req.part(0))?;
    let kind = req.part(1);
    let txn = content::txn_key(&who, format!("send/{room_id}/{kind}"), req.part(2))?;
    if kind == "m.room.redaction" {
        return redaction(app, who, room_id, txn, &body).await;
    }
    let draft = Draft {
        room_id: Some(room_id),
        sender: who.user_id,
        kind: kind.to_owned(),
        state_key: None,
        content: content::parse(&body)?,
        redacts: None,
    };
    let options = SendOptions { txn: Some(txn), ..SendOptions::default() };
    let sent = local::send(&app.federation, draft, options).await?;
    Ok(send::Response::new(sent.event_id))
}

/// A redaction that is sent as an event: its content names what it redacts, in any room version
/// (<https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>).
async fn redaction(
    app: App,
    who: crate::Caller,
    room_id: ruma::OwnedRoomId,
    txn: rhizome_storage::TxnKey,
    body: &[u8],
) -> Result<send::Response, MatrixError> {
    let content = content::parse(body)?;
    let Some(target) = content.get("redacts").and_then(serde_json::Value::as_str) else {
        return Err(MatrixError::bad_json("content.redacts names the event to redact"));
    };
    let target = content::event_id(target)?;
    let sent =
        crate::redact::send(&app, who.user_id, room_id, target, content, txn).await?;
    Ok(send::Response::new(sent))
}
