//! Sending message events.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_federation::local;
use rhizome_protocol::{Object, draft::Draft};
use rhizome_rooms::{send::SendOptions, sticky};
use rhizome_storage::UserNo;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
    api::client::message::send_message_event::v3 as send,
};
use serde_json::json;

use crate::{
    App, Caller, Ruma,
    account::presence::acts,
    auth::{shadow, standing},
    content::{self, Beside},
    room::{
        redact, relating,
        schedule::{self, Asked},
    },
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
pub async fn send(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<send::Request>>,
) -> Result<RawJson, MatrixError> {
    let query = req.query.as_deref();
    let path = [req.part(0), req.part(1), req.part(2)];
    if let Some(delay_ms) = schedule::delay_ms(query)? {
        let asked = Asked {
            path,
            state_key: None,
            delay_ms,
            sticky_ms: schedule::beside(&who, query)?,
        };
        return schedule::answer(&schedule::by_query(&app, &who, asked, &body).await?);
    }
    let beside = Beside::read(&who, query)?;
    let sent = send_as(&app, &who, path, &body, beside).await?;
    RawJson::of(&json!({ "event_id": sent }))
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
    let beside = Beside::default();
    send_as(app, who, [room_id, kind, txn_id], content, beside).await
}

async fn send_as(
    app: &App,
    who: &Caller,
    [room_id, kind, txn_id]: [&str; 3],
    content: &[u8],
    mut beside: Beside,
) -> Result<OwnedEventId, MatrixError> {
    acts(app, who);
    let room_id = content::room_id(room_id)?;
    may_stick(app, who.user, &room_id, beside.sticky_ms).await?;
    let mut content = content::parse(content)?;
    let txn = content::txn_key(who, format!("send/{room_id}/{kind}"), txn_id)?;
    if kind == "m.room.redaction" {
        if who.is_suspended {
            let target = content::redacts(&content)?;
            standing::may_redact(app, who, (&room_id, &target), &txn).await?;
            // What else it says isn't needed to take something back.
            content.retain(|key, _| ["redacts", "reason"].contains(&key.as_str()));
            beside.sticky_ms = None;
        }
    } else {
        standing::may_speak(app, who, &room_id).await?;
        relating::check(app, who, &room_id, (kind, &content), Some(&txn)).await?;
    }
    if shadow::is_banned(app, &who.user_id).await? {
        return shadow::event(app, who, &room_id, Some(&txn)).await;
    }
    let options = SendOptions {
        txn: Some(txn),
        sticky_ms: beside.sticky_ms,
        origin_server_ts: beside.origin_server_ts,
        ..SendOptions::default()
    };
    let sender = who.user_id.clone();
    event(app, sender, room_id, kind.to_owned(), content, options).await
}

/// Sends a user's message event, for a client or as it was scheduled.
pub async fn event(
    app: &App,
    sender: OwnedUserId,
    room_id: OwnedRoomId,
    kind: String,
    content: Object,
    options: SendOptions,
) -> Result<OwnedEventId, MatrixError> {
    if kind == "m.room.redaction" {
        let target = content::redacts(&content)?;
        return Box::pin(redact::send(app, sender, room_id, target, content, options)).await;
    }
    let draft = Draft {
        room_id: Some(room_id),
        sender,
        kind,
        state_key: None,
        content,
        redacts: None,
    };
    Ok(local::send(&app.federation, draft, options).await?.event_id)
}

/// Whether a user may send one more event that is sticky, if it is to be. Of these a user has so many in a room and no more:
/// everybody there gets them, whatever else there is.
pub async fn may_stick(
    app: &App,
    user: UserNo,
    room_id: &RoomId,
    sticky_ms: Option<u32>,
) -> Result<(), MatrixError> {
    if sticky_ms.is_none() {
        return Ok(());
    }
    let Some(head) = app.store.room(room_id).await? else {
        // Sending says what is wrong.
        return Ok(());
    };
    let now = app.store.clock().now_ms();
    let whose = [(head.room, user)];
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
        _ => Ok(()),
    }
}
