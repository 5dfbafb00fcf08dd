//! What an event that a client sends may not relate to.

use std::sync::Arc;

use http::StatusCode;
use rhizome_protocol::Object;
use rhizome_rooms::access::{EventAccess, Standing, Verdict, standing};
use rhizome_storage::{Annotation, RoomNo, Status, StoredEvent, TxnKey};
use ruma::{EventId, RoomId};
use serde_json::Value;

use crate::{
    App, Caller, MatrixError,
    view::{bundle::rel_type, seen::reader},
};

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
    let (relationship, relation) = (content.get("m.relationship"), content.get("m.relates_to"));
    if relationship.is_none() && relation.is_none() {
        return Ok(());
    }
    let Some(head) = app.store.room(room_id).await? else {
        return Ok(());
    };
    // Who isn't in the room is told that, and nothing of what is there.
    let standing = standing(&app.store, reader(who), head.room).await?;
    if !standing.is_member() {
        return Ok(());
    }
    let sender = Sender {
        app,
        who,
        room: head.room,
        standing,
    };
    if let Some(relation) = relationship {
        sender.check_relationship(relation).await?;
    }
    let Some(relation) = relation else {
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
            let root = sender.seen(event).await?;
            let relates = root.is_some_and(|root| self::rel_type(&root).is_some());
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

/// Who sends, a member of the room.
struct Sender<'a> {
    app: &'a App,
    who: &'a Caller,
    room: RoomNo,
    standing: Standing,
}

impl Sender<'_> {
    /// An event of the room, if they may see it.
    async fn seen(&self, event: &EventId) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
        let store = &self.app.store;
        let event = store.event(event).await?;
        let here =
            |event: &StoredEvent| event.room == self.room && event.status == Status::Accepted;
        let Some(event) = event.filter(|event| here(event)) else {
            return Ok(None);
        };
        let mut access = EventAccess::new(store, &self.who.user_id, self.standing);
        access.load([&event]).await?;
        let is_seen = access.judge(&event) != Verdict::Hidden;
        Ok(is_seen.then_some(event))
    }

    /// What `m.relationship` names has to be here, in the same room (MSC2836).
    async fn check_relationship(&self, relation: &Value) -> Result<(), MatrixError> {
        let parent = relation.get("event_id").and_then(Value::as_str);
        let Some(parent) = parent.and_then(|parent| <&EventId>::try_from(parent).ok()) else {
            return Ok(());
        };
        if self.seen(parent).await?.is_none() {
            return Err(MatrixError::invalid_param(
                "`m.relationship` names an event that isn't in this room",
            ));
        }
        Ok(())
    }
}
