//! Read receipts and the fully-read marker.

use std::sync::Arc;

use axum::extract::State;
use rhizome_storage::{Fact, RoomNo, StoredEvent, WriteSet};
use ruma::{
    EventId, OwnedEventId, RoomId,
    api::client::{read_marker::set_read_marker, receipt::create_receipt},
};

use crate::{App, Caller, MatrixError, Ruma, json::Json, pager::Reading};

/// The longest event id, in bytes.
const MAX_EVENT_ID: usize = 255;

/// `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
pub async fn receipt(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<create_receipt::v3::Request>,
) -> Result<create_receipt::v3::Response, MatrixError> {
    let kind = req.receipt_type.as_str();
    let thread = match req.thread.as_str() {
        None => None,
        Some(_) if kind == "m.fully_read" => {
            return Err(MatrixError::invalid_param(
                "A fully-read marker belongs to no thread",
            ));
        }
        Some("main") => Some("main".to_owned()),
        Some(root) if root.starts_with('$') && root.len() <= 255 => Some(root.to_owned()),
        Some(_) => {
            return Err(MatrixError::invalid_param(
                "`thread_id` must be \"main\" or an event id",
            ));
        }
    };
    let room = joined(&app, &who, &req.room_id).await?;
    let fact = mark(&app, &who, room, kind, thread, &req.event_id)?;
    write(&app, &who, room, vec![fact]).await?;
    Ok(create_receipt::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
pub async fn read_markers(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<set_read_marker::v3::Request>,
) -> Result<set_read_marker::v3::Response, MatrixError> {
    let room = joined(&app, &who, &req.room_id).await?;
    let mut facts = Vec::new();
    let marks = [
        ("m.fully_read", &req.fully_read),
        ("m.read", &req.read_receipt),
        ("m.read.private", &req.private_read_receipt),
    ];
    for (kind, event_id) in marks {
        if let Some(event_id) = event_id {
            facts.push(mark(&app, &who, room, kind, None, event_id)?);
        }
    }
    write(&app, &who, room, facts).await?;
    Ok(set_read_marker::v3::Response::new())
}

async fn joined(app: &App, who: &Caller, room_id: &RoomId) -> Result<RoomNo, MatrixError> {
    let reading = Reading::of(app, who, room_id).await?;
    if reading.is_member() {
        Ok(reading.head.room)
    } else {
        Err(MatrixError::forbidden("You aren't a member of the room"))
    }
}

/// What a mark writes: a receipt, or for `m.fully_read` account data of the room.
fn mark(
    app: &App,
    who: &Caller,
    room: RoomNo,
    kind: &str,
    thread: Option<String>,
    event_id: &EventId,
) -> Result<Fact, MatrixError> {
    let user = who.user;
    if event_id.as_str().len() > MAX_EVENT_ID {
        return Err(MatrixError::invalid_param("This is not an event id"));
    }
    match kind {
        "m.fully_read" => {
            let mut content = Json::default();
            content
                .open()
                .key("event_id")
                .string(event_id.as_str())
                .close();
            let content: Arc<str> = content.finish().into();
            Ok(Fact::AccountData {
                user,
                room: Some(room),
                kind: kind.to_owned(),
                content,
                expect: None,
            })
        }
        "m.read" | "m.read.private" => Ok(Fact::Receipt {
            room,
            user,
            kind: kind.to_owned(),
            thread,
            event_id: event_id.to_owned(),
            ts: app.store.clock().now_ms(),
        }),
        _ => Err(MatrixError::invalid_param(
            "The receipt type must be m.read, m.read.private or m.fully_read",
        )),
    }
}

async fn write(app: &App, who: &Caller, room: RoomNo, facts: Vec<Fact>) -> Result<(), MatrixError> {
    let mut forward = Vec::new();
    for fact in facts {
        if !goes_back(app, who, room, &fact).await? {
            forward.push(fact);
        }
    }
    if !forward.is_empty() {
        let set = WriteSet {
            facts: forward,
            ..WriteSet::default()
        };
        app.store.commit(set).await?;
    }
    Ok(())
}

/// Whether a mark would move back: a device that is behind says what it has read, too.
async fn goes_back(
    app: &App,
    who: &Caller,
    room: RoomNo,
    fact: &Fact,
) -> Result<bool, MatrixError> {
    let (old, new) = match fact {
        Fact::Receipt {
            kind,
            thread,
            event_id,
            ..
        } => {
            let receipts = app.store.receipts_of(room, who.user).await?;
            let same = receipts
                .iter()
                .find(|old| old.kind == *kind && old.thread == *thread);
            (same.map(|old| old.event_id.clone()), event_id.clone())
        }
        Fact::AccountData { kind, content, .. } => {
            let old = app.store.account_data(who.user, Some(room), kind).await?;
            let Some(new) = marked(content) else {
                return Ok(false);
            };
            (old.and_then(|old| marked(&old.content)), new)
        }
        _ => return Ok(false),
    };
    let Some(old) = old else { return Ok(false) };
    let (old, new) = (app.store.event(&old).await?, app.store.event(&new).await?);
    let order = |event: Option<Arc<StoredEvent>>| event.filter(|event| event.room == room)?.order;
    Ok(matches!((order(old), order(new)), (Some(old), Some(new)) if new < old))
}

/// The event that a fully-read marker names.
fn marked(content: &str) -> Option<OwnedEventId> {
    #[derive(serde::Deserialize)]
    struct Marker {
        event_id: OwnedEventId,
    }
    Some(serde_json::from_str::<Marker>(content).ok()?.event_id)
}
