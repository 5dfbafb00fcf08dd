//! The WebSocket stream: sync with frames in place of answers, and requests on the same socket.
//! The protocol is described in `docs/websocket.md`.
//!
//! A socket is one future that does three things side by side ([`life`]): it reads the log, by way of a
//! [`face`], and hands frames out; it takes the client's frames in ([`incoming`], [`requests`]), one after the
//! other; and it writes, sending a ping when it is time. Between the readers and the writer lies a short queue:
//! when the client doesn't take its frames, the reader of the log waits, and what happens meanwhile is merged into
//! the next frame, so a slow client costs no memory.

mod changes;
mod end;
mod face;
mod frames;
mod incoming;
mod life;
mod pace;
mod requests;
mod session;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{
        Query, State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use rhizome_storage::{SyncPresence, Syncing, UserNo};

use end::End;
pub use end::Sockets;
use face::Face;
use frames::{Start, first_frame};
use session::Session;

use crate::{
    App, Caller, MatrixError,
    account::presence::by_sync,
    auth::token::{authenticate, token_of},
    place::token::position,
    sync::{Ask, Reader, sliding, stored_filter},
    view::{
        filter::{self, FilterDefinition},
        seen::Viewer,
    },
};

/// Where the stream is.
pub const PATH: &str = "/_matrix/client/unstable/org.rhizome.stream";

/// How long the first frame with the access token may take.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest frame that is taken: an event of the largest size, and some.
const MAX_FRAME: usize = 128 * 1024;

/// What a socket reads into: a connection that waits holds it. Larger frames get the room that they need.
const READ_BUFFER: usize = 1024;

/// The route.
pub fn routes(app: App) -> Router {
    Router::new().route(PATH, get(connect)).with_state(app)
}

async fn connect(
    State(app): State<App>,
    Query(start): Query<Start>,
    upgrade: WebSocketUpgrade,
    request: http::Request<axum::body::Body>,
) -> Response {
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        // What is written goes out at once.
        .write_buffer_size(0)
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME);
    let token = match token_of(&request) {
        Ok(token) => token.or_else(|| start.access_token.clone()),
        Err(error) => return error.into_response(),
    };
    let Some(token) = token else {
        return upgrade.on_upgrade(async move |socket| authenticate_first(app, socket).await);
    };
    match prepare(&app, token, start).await {
        Ok((session, face)) => {
            upgrade.on_upgrade(async move |socket| life::run(session, face, socket).await)
        }
        Err(error) => error.into_response(),
    }
}

/// A client that can't set headers, and wouldn't put its token into an address, sends it first.
async fn authenticate_first(app: App, mut socket: WebSocket) {
    match Box::pin(first(&app, &mut socket)).await {
        Ok((session, face)) => life::run(session, face, socket).await,
        Err(End::Gone) => {}
        Err(end) => {
            for frame in end.last_frames(&app) {
                let _ = socket.send(frame).await;
            }
        }
    }
}

async fn first(app: &App, socket: &mut WebSocket) -> Result<(Session, Face), End> {
    let text = tokio::select! {
        text = tokio::time::timeout(AUTH_TIMEOUT, first_text(socket)) => text,
        () = app.shutdown.cancelled() => return Err(End::Restart),
    };
    let text = text.map_err(|_| End::AuthTimeout)??;
    let (token, start) = first_frame(&text).ok_or(End::BadStart)?;
    prepare(app, token, start).await.map_err(End::of)
}

/// The first frame that is the client's: pings may come before it.
async fn first_text(socket: &mut WebSocket) -> Result<Utf8Bytes, End> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err(End::BadStart),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
        }
    }
}

/// Everything that can be refused is refused before the first frame.
async fn prepare(app: &App, token: String, start: Start) -> Result<(Session, Face), MatrixError> {
    let who = authenticate(app, &token, None).await?;
    if who.is_guest {
        return Err(MatrixError::not_for_guests("The stream isn't for guests"));
    }
    let presence = by_sync(&who, start.set_presence.as_deref())?;
    let open = Sockets::enter(app, who.user)?;
    if let Some(text) = start.sliding {
        let wish = sliding::Wish::read(&text, &who)?;
        let there = syncs(app, &who, presence).await?;
        let stream = sliding::Stream::begin(app.clone(), &who, wish).await?;
        let face = Face::Sliding(Box::new(stream));
        return Ok((Session::new(open, there, who, token), face));
    }
    let filter = match start.filter.as_deref() {
        None => app.sync.no_filter.clone(),
        Some(text) => filter_of(app, who.user, text).await?,
    };
    let since = match start.since.as_deref() {
        None => None,
        Some(text) => position(&app.store, text).await?,
    };
    let ask = Ask {
        filter,
        full_state: false,
        state_after: start.use_state_after,
    };
    let there = syncs(app, &who, presence).await?;
    let reader = Reader::new(app.clone(), Viewer::of(&who), ask, since);
    Ok((Session::new(open, there, who, token), Face::sync(reader)))
}

/// The device is there for as long as the connection is.
async fn syncs(app: &App, who: &Caller, presence: SyncPresence) -> Result<Syncing, MatrixError> {
    let device = who.device_or_none();
    Ok(app.store.syncs(who.user, &device, presence).await?)
}

/// The filter that a client names: by its id, or as JSON.
async fn filter_of(
    app: &App,
    user: UserNo,
    text: &str,
) -> Result<Arc<FilterDefinition>, MatrixError> {
    if !text.starts_with('{') {
        return stored_filter(app, user, text).await;
    }
    let filter = filter::parse(text).map_err(MatrixError::invalid_param)?;
    Ok(filter.into())
}
