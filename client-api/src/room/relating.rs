//! What an event that a client sends may not relate to.

use http::StatusCode;
use rhizome_protocol::Object;
use rhizome_storage::{Annotation, TxnKey};
use ruma::{EventId, RoomId};
use serde_json::Value;

use crate::{App, Caller, MatrixError, view::bundle::rel_type};

/// Refuses an annotation that the sender has made already, and a thread off an event that relates to another itself. A
/// repeated request of a transaction is none: it is told what the first has made.
///
/// Whether it may be sent at all is decided where all is; this asks nothing but for such events.
pub async fn check(
    app: &App,
    who: &Caller,
    room_id: &RoomId,
    (kind, content): (&str, &Object),
    txn: Option<&TxnKey>,
) -> Result<(), MatrixError> {
    if let Some(relation) = content.get("m.relationship") {
        check_relationship(app, room_id, relation).await?;
    }
    let Some(relation) = content.get("m.relates_to") else {
        return Ok(());
    };
    let text = |field: &str| relation.get(field).and_then(Value::as_str);
    let (Some(rel_type), Some(event)) = (text("rel_type"), text("event_id")) else {
        return Ok(());
    };
    let Ok(event) = <&EventId>::try_from(event) else {
        return Ok(());
    };
    let refused = match (rel_type, text("key")) {
        ("m.annotation", Some(key)) => {
            let Some(head) = app.store.room(room_id).await? else {
                return Ok(());
            };
            let annotation = Annotation {
                room: head.room,
                parent: event,
                sender: who.user,
                kind,
                key,
            };
            let annotated = app.store.is_annotated(annotation).await?;
            annotated.then(|| {
                MatrixError::new(
                    StatusCode::BAD_REQUEST,
                    "M_DUPLICATE_ANNOTATION",
                    "You have annotated this event so already",
                )
            })
        }
        ("m.thread", _) => {
            let root = app.store.event(event).await?;
            let relates = root.is_some_and(|root| {
                root.pdu.room_id() == room_id && self::rel_type(&root).is_some()
            });
            relates.then(|| {
                MatrixError::new(
                    StatusCode::BAD_REQUEST,
                    "M_UNKNOWN",
                    "No thread can start from an event that relates to another",
                )
            })
        }
        _ => None,
    };
    let Some(refused) = refused else {
        return Ok(());
    };
    if let Some(txn) = txn
        && app.store.transaction(txn).await?.is_some()
    {
        return Ok(());
    }
    Err(refused)
}

/// What `m.relationship` names has to be here, in the same room (MSC2836).
async fn check_relationship(
    app: &App,
    room_id: &RoomId,
    relation: &Value,
) -> Result<(), MatrixError> {
    let parent = relation.get("event_id").and_then(Value::as_str);
    let Some(parent) = parent.and_then(|parent| <&EventId>::try_from(parent).ok()) else {
        return Ok(());
    };
    let event = app.store.event(parent).await?;
    if event.is_none_or(|event| event.pdu.room_id() != room_id) {
        return Err(MatrixError::invalid_param(
            "`m.relationship` names an event that isn't in this room",
        ));
    }
    Ok(())
}
