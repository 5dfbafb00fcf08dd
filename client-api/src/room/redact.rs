//! Redaction.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_protocol::{Object, draft::Draft};
use rhizome_rooms::send::SendOptions;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, api::client::redact::redact_event::v3 as redact,
};
use serde::Deserialize;

use crate::{
    App, Caller, Ruma,
    account::presence::acts,
    auth::{shadow, standing},
    content,
    room::redact_related,
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
pub async fn redact(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<redact::Request>,
) -> Result<redact::Response, MatrixError> {
    let With { rel_types } = match &body[..] {
        b"" => With::default(),
        body => serde_json::from_slice(body).map_err(|error| MatrixError::of_json(&error))?,
    };
    let redaction = Redaction {
        room_id: req.room_id,
        event_id: req.event_id,
        txn_id: req.txn_id.to_string(),
        reason: req.reason,
        with: With { rel_types },
    };
    let sent = event(&app, &who, redaction).await?;
    Ok(redact::Response::new(sent))
}

/// What a client wants redacted.
#[derive(Debug, Deserialize)]
pub struct Redaction {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    txn_id: String,
    reason: Option<String>,
    #[serde(flatten)]
    with: With,
}

/// What is to be redacted with it: what relates to it so (MSC3912).
#[derive(Debug, Default, Deserialize)]
struct With {
    #[serde(
        default,
        rename = "org.matrix.msc3912.with_relations",
        alias = "with_rel_types"
    )]
    rel_types: Vec<String>,
}

/// Redacts an event for a client, by `/redact` or by WebSocket: the same transaction id of the same device is the
/// same redaction.
pub async fn event(
    app: &App,
    who: &Caller,
    redaction: Redaction,
) -> Result<OwnedEventId, MatrixError> {
    acts(app, who);
    let Redaction {
        room_id,
        event_id,
        txn_id,
        reason,
        with: With { rel_types },
    } = redaction;
    let path = format!("redact/{room_id}/{event_id}");
    let txn = content::txn_key(who, path, &txn_id)?;
    standing::may_redact(app, who, (&room_id, &event_id), &txn).await?;
    if who.is_suspended && !rel_types.is_empty() {
        // What relates to it is others'.
        return Err(standing::suspended());
    }
    if shadow::is_banned(app, &who.user_id).await? {
        return shadow::event(app, who, &room_id, Some(&txn)).await;
    }
    let of = (&*room_id, &*event_id);
    redact_related::want(app, who, of, &rel_types, reason.as_deref()).await?;
    let mut content = Object::new();
    if let Some(reason) = reason {
        content.insert("reason".into(), reason.into());
    }
    let options = SendOptions {
        txn: Some(txn),
        ..SendOptions::default()
    };
    let (sender, room, target) = (who.user_id.clone(), room_id.clone(), event_id.clone());
    let sent = send(app, sender, room, target, content, options).await;
    if !rel_types.is_empty()
        && sent
            .as_ref()
            .is_err_and(|error| error.status.is_client_error())
    {
        redact_related::give_up(app, who, of).await?;
    }
    sent
}

/// Sends a redaction of `target`; the room version says where it is named.
pub(crate) async fn send(
    app: &App,
    sender: OwnedUserId,
    room_id: OwnedRoomId,
    target: OwnedEventId,
    mut content: Object,
    options: SendOptions,
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
    Ok(local::send(&app.federation, draft, options).await?.event_id)
}
