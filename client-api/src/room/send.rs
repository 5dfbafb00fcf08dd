//! Sending message events.

use axum::extract::State;
use rhizome_edge::{MatrixError, Undecoded};
use rhizome_federation::local;
use rhizome_protocol::{Object, draft::Draft};
use rhizome_rooms::{send::SendOptions, sticky};
use ruma::{OwnedEventId, api::client::message::send_message_event::v3 as send};
use serde_json::Value;

use crate::{
    App, Caller, Ruma,
    account::presence::acts,
    content,
    room::{redact, relating},
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
pub async fn send(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<send::Request>>,
) -> Result<send::Response, MatrixError> {
    let sticky = stickiness(&app, &who, req.part(0), req.query.as_deref()).await?;
    let path = [req.part(0), req.part(1), req.part(2)];
    let sent = send_as(&app, &who, path, &body, sticky).await?;
    Ok(send::Response::new(sent))
}

/// Sends a message event for a client, by `/send` or by WebSocket: the same transaction id of the same
/// device is the same event.
pub async fn message(
    app: &App,
    who: &Caller,
    room_id: &str,
    kind: &str,
    txn_id: &str,
    content: &[u8],
) -> Result<OwnedEventId, MatrixError> {
    send_as(app, who, [room_id, kind, txn_id], content, None).await
}

async fn send_as(
    app: &App,
    who: &Caller,
    [room_id, kind, txn_id]: [&str; 3],
    content: &[u8],
    sticky_ms: Option<u32>,
) -> Result<OwnedEventId, MatrixError> {
    acts(app, who);
    let room_id = content::room_id(room_id)?;
    let content = content::parse(content)?;
    let txn = content::txn_key(who, format!("send/{room_id}/{kind}"), txn_id)?;
    let redacts = match kind {
        "m.room.redaction" => Some(target_of(&content)?),
        _ => None,
    };
    if let Some(target) = redacts {
        let sender = who.user_id.clone();
        return Box::pin(redact::send(app, sender, room_id, target, content, txn)).await;
    }
    relating::check(app, who, &room_id, (kind, &content), Some(&txn)).await?;
    let draft = Draft {
        room_id: Some(room_id),
        sender: who.user_id.clone(),
        kind: kind.to_owned(),
        state_key: None,
        content,
        redacts: None,
    };
    let options = SendOptions {
        txn: Some(txn),
        sticky_ms,
        ..SendOptions::default()
    };
    Ok(local::send(&app.federation, draft, options).await?.event_id)
}

/// For how long a client wants an event to be sticky. Of these a user has so many in a room and no more: everybody there
/// gets them, whatever else there is.
pub async fn stickiness(
    app: &App,
    who: &Caller,
    room_id: &str,
    query: Option<&str>,
) -> Result<Option<u32>, MatrixError> {
    let asked = content::sticky_ms(query)?;
    if asked.is_none() {
        return Ok(None);
    }
    let Some(head) = app.store.room(&content::room_id(room_id)?).await? else {
        // Sending says what is wrong.
        return Ok(asked);
    };
    let now = app.store.clock().now_ms();
    let whose = [(head.room, who.user)];
    let held = app
        .store
        .sticky_of(&whose, false, now, sticky::MOST)
        .await?;
    let first = held.iter().map(|one| one.expires_ms).min();
    match first {
        Some(first) if held.len() >= sticky::MOST => {
            let wait = u64::try_from(first.saturating_sub(now)).unwrap_or_default();
            Err(MatrixError::limit_exceeded(wait))
        }
        _ => Ok(asked),
    }
}

/// A redaction that is sent as an event: its content names what it redacts, in any room version
/// (<https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>).
fn target_of(content: &Object) -> Result<OwnedEventId, MatrixError> {
    let Some(target) = content.get("redacts").and_then(Value::as_str) else {
        return Err(MatrixError::bad_json(
            "content.redacts names the event to redact",
        ));
    };
    content::event_id(target)
}
