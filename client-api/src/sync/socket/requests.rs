//! What clients ask on the socket: the same functions as over HTTP, under the same limits.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use rhizome_edge::Api as _;
use ruma::{
    OwnedEventId, OwnedRoomId,
    api::{
        Metadata,
        client::{
            presence::set_presence, read_marker::set_read_marker, receipt::create_receipt,
            typing::create_typing_event,
        },
    },
    events::receipt::ReceiptThread,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    changes::Said,
    face::Change,
    filter_of,
    frames::{Head, ack_frame, error_frame, read, text_of},
    session::Session,
};
use crate::{
    App, Caller, MatrixError,
    account::presence,
    auth::standing,
    content::Beside,
    limits::Kind,
    place::token::{Token, position},
    room::{receipts, redact, send, state, typing},
    sync::{delivery, sliding::Wish, to_device},
    view::seen::Viewer,
};

/// What has become of a request.
enum Done {
    /// It is done, and there is nothing to say about it.
    Silently,
    /// It is done.
    Plainly,
    /// It is this event.
    Event(OwnedEventId),
    /// It is done, and the reader goes on when the client has been told so.
    Changed(Said),
}

/// What a client is answered with, and who waits until it is.
pub(super) struct Answer {
    pub(super) frame: String,
    pub(super) said: Option<Said>,
}

impl Answer {
    /// A frame for which nobody waits.
    pub(super) fn of(frame: String) -> Answer {
        Answer { frame, said: None }
    }
}

/// What a client's frame is answered with.
pub(super) async fn answer(session: Arc<Session>, text: Utf8Bytes) -> Option<Answer> {
    let head: Head = match read(&text) {
        Ok(head) => head,
        Err(error) => return Some(Answer::of(error_frame(None, &error))),
    };
    let txn_id = head.txn_id.as_deref();
    let frame = match run(&session, &head.r#type, &text).await {
        Ok(Done::Silently) => return None,
        Ok(Done::Plainly) => ack_frame(txn_id, None),
        Ok(Done::Event(event_id)) => ack_frame(txn_id, Some(&event_id)),
        Ok(Done::Changed(said)) => {
            return Some(Answer {
                frame: ack_frame(txn_id, None),
                said: Some(said),
            });
        }
        Err(error) => error_frame(txn_id, &error),
    };
    Some(Answer::of(frame))
}

async fn run(session: &Session, kind: &str, text: &str) -> Result<Done, MatrixError> {
    match kind {
        "send" => send(session, text).await,
        "state" => state(session, text).await,
        "redact" => redact(session, text).await,
        "typing" => typing(session, text).await,
        "receipt" => receipt(session, text).await,
        "read_markers" => read_markers(session, text).await,
        "presence" => presence(session, text).await,
        "filter" => filter(session, text).await,
        "sliding" => sliding(session, text).await,
        "auth" => auth(session, text).await,
        "ack" => acknowledge(session, text).await,
        other => Err(MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_UNRECOGNIZED",
            format!("There are no frames of type {other:?}"),
        )),
    }
}

/// Takes from the user's bucket what a request of this kind costs over HTTP.
fn take(session: &Session, kind: Kind) -> Result<(), MatrixError> {
    let app = &session.app;
    app.limits
        .take_user(kind, &session.who, app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)
}

/// Who asks, for what isn't for who is suspended.
async fn active(session: &Session) -> Result<Caller, MatrixError> {
    let who = session.caller().await?;
    if who.is_suspended {
        return Err(standing::suspended());
    }
    Ok(who)
}

/// The kind of an endpoint that is served without saying one.
fn usual<T: Metadata>() -> Kind {
    App::usual_kind(T::RATE_LIMITED)
}

async fn send(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    struct Send<'a> {
        txn_id: String,
        room_id: String,
        event_type: String,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    let frame: Send<'_> = read(text)?;
    take(session, Kind::Message)?;
    let (kind, content) = (&frame.event_type, frame.content.get().as_bytes());
    let (app, who) = (&session.app, &session.caller().await?);
    send::message(app, who, &frame.room_id, kind, &frame.txn_id, content)
        .await
        .map(Done::Event)
}

async fn state(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    struct Set<'a> {
        room_id: String,
        event_type: String,
        #[serde(default)]
        state_key: String,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    let frame: Set<'_> = read(text)?;
    take(session, Kind::Message)?;
    let (kind, key) = (&frame.event_type, &frame.state_key);
    let content = frame.content.get().as_bytes();
    state::set(
        &session.app,
        &session.caller().await?,
        &frame.room_id,
        (kind, key),
        content,
        Beside::default(),
    )
    .await
    .map(Done::Event)
}

async fn redact(session: &Session, text: &str) -> Result<Done, MatrixError> {
    let redaction = read(text)?;
    take(session, Kind::Message)?;
    redact::event(&session.app, &session.caller().await?, redaction)
        .await
        .map(Done::Event)
}

async fn typing(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    struct Typing {
        room_id: String,
        #[serde(flatten)]
        told: typing::Typing,
    }
    let Typing { room_id, told } = read(text)?;
    take(session, usual::<create_typing_event::v3::Request>())?;
    let who = active(session).await?;
    typing::tell(&session.app, &who, &room_id, &told).await?;
    Ok(Done::Plainly)
}

async fn presence(session: &Session, text: &str) -> Result<Done, MatrixError> {
    let said = read(text)?;
    take(session, usual::<set_presence::v3::Request>())?;
    let who = active(session).await?;
    presence::tell(&session.app, &who, said).await?;
    Ok(Done::Plainly)
}

async fn receipt(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    struct Read {
        room_id: OwnedRoomId,
        receipt_type: String,
        event_id: OwnedEventId,
        #[serde(rename = "thread_id", default)]
        thread: ReceiptThread,
    }
    let frame: Read = read(text)?;
    take(session, usual::<create_receipt::v3::Request>())?;
    let thread = frame.thread.as_str().map(str::to_owned);
    let (room, kind, event) = (&frame.room_id, &frame.receipt_type, &frame.event_id);
    receipts::receive(&session.app, &session.who, room, kind, event, thread).await?;
    Ok(Done::Plainly)
}

async fn read_markers(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    struct ReadMarkers {
        room_id: OwnedRoomId,
        #[serde(flatten)]
        marks: receipts::Marks,
    }
    let ReadMarkers { room_id, marks } = read(text)?;
    take(session, usual::<set_read_marker::v3::Request>())?;
    receipts::mark_read(&session.app, &session.who, &room_id, &marks).await?;
    Ok(Done::Plainly)
}

/// Another filter: frames go on from where they are.
async fn filter(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    struct Filter<'a> {
        #[serde(borrow)]
        filter: &'a RawValue,
    }
    let Filter { filter } = read(text)?;
    take(session, Kind::Other)?;
    let filter = filter_of(&session.app, session.who.user, &text_of(filter)).await?;
    let said = session.changes.ask(Change::Filter(filter)).await?;
    Ok(Done::Changed(said))
}

/// Other lists and subscriptions of a connection of sliding sync.
async fn sliding(session: &Session, text: &str) -> Result<Done, MatrixError> {
    take(session, Kind::Other)?;
    let wish = Box::new(Wish::read(text, &session.who)?);
    let said = session.changes.ask(Change::Wish(wish)).await?;
    Ok(Done::Changed(said))
}

/// A newer token of the same device, before the old one expires.
async fn auth(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    struct Auth {
        access_token: String,
    }
    let Auth { access_token } = read(text)?;
    take(session, Kind::Other)?;
    session.renew(access_token).await?;
    Ok(Done::Plainly)
}

/// The client has dealt with a frame: the messages for its device that this one had, and those before it, go.
async fn acknowledge(session: &Session, text: &str) -> Result<Done, MatrixError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ack {
        Sync { next_batch: String },
        Sliding { pos: String },
    }
    let next_batch = match read(text)? {
        Ack::Sync { next_batch } => next_batch,
        Ack::Sliding { pos } => {
            session.changes.ask(Change::Has(pos)).await?;
            return Ok(Done::Silently);
        }
    };
    let app = &session.app;
    // What was acknowledged before, or given out by nobody, costs nothing.
    if let Ok(token) = Token::parse(&next_batch)
        && !(token.is_genuine(&app.store) && session.is_news(&token))
    {
        return Ok(Done::Silently);
    }
    let Some(token) = position(&app.store, &next_batch).await? else {
        return Ok(Done::Silently);
    };
    let viewer = Viewer::of(&session.who);
    delivery::got(app, &viewer, token.pos).await?;
    if let Some(acknowledging) = to_device::acknowledge(app, &viewer, &token).await {
        acknowledging.done(app).await;
    }
    session.acknowledged(token);
    Ok(Done::Silently)
}
