//! Read receipts and the fully-read marker.

use std::sync::Arc;

use axum::extract::State;
use rhizome_rooms::{access::RoomAccess, thread};
use rhizome_storage::{AccountData, CommitError, DataChange, Fact, Pos, Receipt, RoomNo, WriteSet};
use ruma::{
    EventId, OwnedEventId, RoomId,
    api::client::{read_marker::set_read_marker, receipt::create_receipt},
};
use serde::Deserialize;

use crate::{
    App, Caller, MatrixError, Ruma,
    account::presence::acts,
    view::{json::Json, seen::reader},
};

/// The account data that says up to where a room was read, as far as the user wants to remember.
const FULLY_READ: &str = "m.fully_read";
/// How often a mark is decided again when another device moves it at the same time.
const ATTEMPTS: u32 = 10;
/// The longest event id, in bytes.
const MAX_EVENT_ID: usize = 255;

/// `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
pub async fn receipt(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<create_receipt::v3::Request>,
) -> Result<create_receipt::v3::Response, MatrixError> {
    let kind = req.receipt_type.as_str();
    let thread = req.thread.as_str().map(str::to_owned);
    receive(&app, &who, &req.room_id, kind, &req.event_id, thread).await?;
    Ok(create_receipt::v3::Response::new())
}

/// Takes a receipt of a client, by HTTP or by WebSocket.
pub async fn receive(
    app: &App,
    who: &Caller,
    room_id: &RoomId,
    kind: &str,
    event_id: &EventId,
    thread: Option<String>,
) -> Result<(), MatrixError> {
    acts(app, who);
    let room = joined(app, who, room_id).await?;
    if let Some(thread) = &thread {
        check_thread(app, room, kind, event_id, thread).await?;
    }
    let mark = mark(kind, thread, event_id)?;
    write(app, who, room, &[mark]).await
}

/// A receipt may name the thread that its event is in.
async fn check_thread(
    app: &App,
    room: RoomNo,
    kind: &str,
    event_id: &EventId,
    thread: &str,
) -> Result<(), MatrixError> {
    if kind == FULLY_READ {
        return Err(MatrixError::invalid_param(
            "A fully-read marker belongs to no thread",
        ));
    }
    let event = app.store.event(event_id).await?;
    let event = event.filter(|event| event.room == room && event.is_history());
    let holds = match &event {
        Some(event) => thread::holds(&app.store, event, thread).await?,
        None => false,
    };
    if !holds {
        return Err(MatrixError::invalid_param(
            "`thread_id` must be \"main\" or the root of a thread of this room, and the event be in that thread",
        ));
    }
    Ok(())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
pub async fn read_markers(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<set_read_marker::v3::Request>,
) -> Result<set_read_marker::v3::Response, MatrixError> {
    let marks = Marks {
        fully_read: req.fully_read,
        read: req.read_receipt,
        read_private: req.private_read_receipt,
    };
    mark_read(&app, &who, &req.room_id, &marks).await?;
    Ok(set_read_marker::v3::Response::new())
}

/// What a client says at once of how far its user has read.
#[derive(Debug, Deserialize)]
pub struct Marks {
    #[serde(rename = "m.fully_read")]
    fully_read: Option<OwnedEventId>,
    #[serde(rename = "m.read")]
    read: Option<OwnedEventId>,
    #[serde(rename = "m.read.private")]
    read_private: Option<OwnedEventId>,
}

/// Takes read markers of a client, by HTTP or by WebSocket.
pub async fn mark_read(
    app: &App,
    who: &Caller,
    room_id: &RoomId,
    marks: &Marks,
) -> Result<(), MatrixError> {
    acts(app, who);
    let room = joined(app, who, room_id).await?;
    let mut wanted = Vec::new();
    let marks = [
        ("m.fully_read", &marks.fully_read),
        ("m.read", &marks.read),
        ("m.read.private", &marks.read_private),
    ];
    for (kind, event_id) in marks {
        if let Some(event_id) = event_id {
            wanted.push(mark(kind, None, event_id)?);
        }
    }
    write(app, who, room, &wanted).await
}

async fn joined(app: &App, who: &Caller, room_id: &RoomId) -> Result<RoomNo, MatrixError> {
    let access = RoomAccess::of_member(&app.store, reader(who), room_id).await?;
    Ok(access.head.room)
}

/// What a client says that its user has read.
struct Mark {
    /// `m.fully_read`, or the receipt's type.
    kind: String,
    thread: Option<String>,
    event_id: OwnedEventId,
}

fn mark(kind: &str, thread: Option<String>, event_id: &EventId) -> Result<Mark, MatrixError> {
    if event_id.as_str().len() > MAX_EVENT_ID {
        return Err(MatrixError::invalid_param("This is not an event id"));
    }
    if !matches!(kind, FULLY_READ | "m.read" | "m.read.private") {
        return Err(MatrixError::invalid_param(
            "The receipt type must be m.read, m.read.private or m.fully_read",
        ));
    }
    Ok(Mark {
        kind: kind.to_owned(),
        thread,
        event_id: event_id.to_owned(),
    })
}

/// Writes marks that don't go back: a device that is behind says what it has read, too. Of receipts the
/// commit sees that, of the fully-read marker we do, and decide again if it has moved.
async fn write(app: &App, who: &Caller, room: RoomNo, marks: &[Mark]) -> Result<(), MatrixError> {
    for _ in 0..ATTEMPTS {
        let mut facts = Vec::new();
        for mark in marks {
            facts.extend(match mark.kind.as_str() {
                FULLY_READ => fully_read(app, who, room, &mark.event_id).await?,
                _ => Some(Fact::Receipt(Receipt {
                    room,
                    user: who.user,
                    kind: mark.kind.clone(),
                    thread: mark.thread.clone(),
                    event_id: mark.event_id.clone(),
                    ts: app.store.clock().now_ms(),
                })),
            });
        }
        if facts.is_empty() {
            return Ok(());
        }
        let set = WriteSet::from(facts);
        match app.store.commit(set).await {
            Ok(_) => return Ok(()),
            Err(CommitError::DataMoved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(MatrixError::busy())
}

/// The fully-read marker, as account data of the room; `None` if it wouldn't move forwards.
async fn fully_read(
    app: &App,
    who: &Caller,
    room: RoomNo,
    event_id: &EventId,
) -> Result<Option<Fact>, MatrixError> {
    let stands = app
        .store
        .account_data(who.user, Some(room), FULLY_READ)
        .await?;
    if let Some(old) = stands.as_ref().and_then(|stands| marked(&stands.content)) {
        let place = async |id: &EventId| {
            let event = app.store.event(id).await?;
            let order = event
                .filter(|event| event.room == room)
                .and_then(|event| event.order);
            Ok::<_, MatrixError>(order)
        };
        if old == event_id
            || matches!((place(&old).await?, place(event_id).await?), (Some(old), Some(new)) if new < old)
        {
            return Ok(None);
        }
    }
    let mut content = Json::default();
    content
        .open()
        .key("event_id")
        .string(event_id.as_str())
        .close();
    let content: Arc<str> = content.finish().into();
    Ok(Some(Fact::AccountData(DataChange {
        data: AccountData {
            user: who.user,
            room: Some(room),
            kind: FULLY_READ.to_owned(),
            content,
        },
        expect: Some(stands.map_or(Pos(0), |stands| stands.pos)),
    })))
}

/// The event that a fully-read marker names.
fn marked(content: &str) -> Option<OwnedEventId> {
    #[derive(serde::Deserialize)]
    struct Marker {
        event_id: OwnedEventId,
    }
    Some(serde_json::from_str::<Marker>(content).ok()?.event_id)
}
