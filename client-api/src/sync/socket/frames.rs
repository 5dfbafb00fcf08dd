//! What goes over the socket: the first frame, what a client sends and is answered, and how it ends.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    App, Caller, MatrixError,
    limits::Kind,
    place::token::position,
    sync::{delivery, to_device},
    view::{json::Json, seen::Viewer},
};

/// How a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other side has gone, or closes.
    Gone,
    /// The server stops: connect again.
    Restart,
    /// The access token is not, or no longer, valid.
    Unauthorized,
    /// No token in time.
    AuthTimeout,
    /// The first frame isn't what it must be.
    BadStart,
    /// Something failed here: connect again.
    Failed,
    /// The client reads too slowly, or not at all.
    TooSlow,
}

impl End {
    /// The close code (RFC 6455 7.4, and 4000 and up for what is ours) and its words.
    fn code(self) -> (u16, &'static str) {
        match self {
            End::Gone => (1000, ""),
            End::Restart => (1012, "the server restarts"),
            End::Unauthorized => (4401, "the access token is not valid"),
            End::AuthTimeout => (4408, "no access token came in time"),
            End::BadStart => (4400, "the first frame must be of type auth"),
            End::Failed => (1011, "something went wrong on the server"),
            End::TooSlow => (4409, "frames are not being read"),
        }
    }
}

/// What a connection asks for, in the query or in the first frame.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Start {
    pub(super) access_token: Option<String>,
    pub(super) since: Option<String>,
    /// A filter's id, or a filter as JSON text.
    pub(super) filter: Option<String>,
    #[serde(default)]
    pub(super) use_state_after: bool,
}

/// Token and wishes of a frame of type `auth`.
pub(super) fn first_frame(text: &str) -> Option<(String, Start)> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
        #[serde(flatten)]
        start: Start,
    }
    let Typed { r#type, mut start } = serde_json::from_str(text).ok()?;
    let token = start.access_token.take()?;
    (r#type == "auth").then_some((token, start))
}

/// What a client's frame is answered with.
pub(super) async fn answer(app: &App, who: &Caller, text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
        txn_id: Option<String>,
    }
    let typed: Typed = match serde_json::from_str(text) {
        Ok(typed) => typed,
        Err(error) => {
            return Some(error_frame(
                None,
                &MatrixError::bad_json(format!("The frame isn't valid: {error}")),
            ));
        }
    };
    let result = match typed.r#type.as_str() {
        "ping" => return Some(r#"{"type":"pong"}"#.to_owned()),
        "send" => send(app, who, text).await,
        "ack" => match acknowledge(app, who, text).await {
            Ok(()) => return None,
            Err(error) => Err(error),
        },
        other => Err(MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_UNRECOGNIZED",
            format!("There are no frames of type {other:?}"),
        )),
    };
    Some(match result {
        Ok(frame) => frame,
        Err(error) => error_frame(typed.txn_id.as_deref(), &error),
    })
}

#[derive(Deserialize)]
struct Send<'a> {
    txn_id: String,
    room_id: String,
    event_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

async fn send(app: &App, who: &Caller, text: &str) -> Result<String, MatrixError> {
    let frame: Send<'_> = serde_json::from_str(text)
        .map_err(|error| MatrixError::bad_json(format!("The frame isn't valid: {error}")))?;
    app.limits
        .take(Kind::Message, &who.user_id, app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)?;
    let content = frame.content.get().as_bytes();
    let event_id = crate::room::send::message(
        app,
        who,
        &frame.room_id,
        &frame.event_type,
        &frame.txn_id,
        content,
    )
    .await?;
    let mut json = Json::default();
    json.open()
        .key("type")
        .string("ack")
        .key("txn_id")
        .string(&frame.txn_id);
    json.key("event_id").string(event_id.as_str()).close();
    Ok(json.finish())
}

/// The client has dealt with a frame: the messages for its device that this one had, and those before it, go.
async fn acknowledge(app: &App, who: &Caller, text: &str) -> Result<(), MatrixError> {
    #[derive(Deserialize)]
    struct Ack {
        next_batch: String,
    }
    let Ack { next_batch } = serde_json::from_str(text)
        .map_err(|error| MatrixError::bad_json(format!("The frame isn't valid: {error}")))?;
    let Some(token) = position(&app.store, &next_batch).await? else {
        return Ok(());
    };
    let viewer = Viewer::of(who);
    delivery::got(app, &viewer, token.pos).await?;
    if let Some(acknowledging) = to_device::acknowledge(app, &viewer, &token).await {
        acknowledging.done(app).await;
    }
    Ok(())
}

/// A Matrix error as a frame.
pub(super) fn error_frame(txn_id: Option<&str>, error: &MatrixError) -> String {
    let mut body = error.body();
    if let Some(body) = body.as_object_mut() {
        body.insert("type".to_owned(), "error".into());
        body.insert("status".to_owned(), error.status.as_u16().into());
        if let Some(txn_id) = txn_id {
            body.insert("txn_id".to_owned(), txn_id.into());
        }
    }
    body.to_string()
}

/// The frame that closes the socket.
pub(super) fn close_frame(end: End) -> Message {
    let (code, reason) = end.code();
    Message::Close(Some(CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    }))
}
