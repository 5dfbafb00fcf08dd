//! The WebSocket stream: `/sync` with frames in place of answers, and sending on the same socket.
//! The protocol is described in `docs/websocket.md`.
//!
//! A socket is one future that does three things side by side: it reads the log as `/sync` does and
//! hands frames out; it takes the client's frames in, one after the other; and it writes, sending a
//! ping when it is time. Between the readers and the writer lies a short queue: when the client
//! doesn't take its frames, the reader of the log waits, and what happens meanwhile is merged into
//! the next frame, so a slow client costs no memory.

mod frames;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        Query, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    App, Caller, MatrixError,
    auth::token::{authenticate, token_of},
    place::token::{Token, position},
    sync::{Ask, Reader, stored_filter},
    view::{filter, seen::Viewer},
};
use frames::{End, Start, answer, close_frame, error_frame, first_frame};

/// Where the stream is.
pub const PATH: &str = "/_matrix/client/unstable/org.rhizome.stream";

/// How long the first frame with the access token may take.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a token that may expire by time is looked at again.
const RECHECK: Duration = Duration::from_mins(1);

/// The largest frame that is taken: an event of the largest size, and some.
const MAX_FRAME: usize = 128 * 1024;

/// Frames that wait for a slow client.
const QUEUE: usize = 4;

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
        Ok(session) => upgrade.on_upgrade(async move |socket| session.run(app, socket).await),
        Err(error) => error.into_response(),
    }
}

/// A client that can't set headers, and wouldn't put its token into an address, sends it first.
async fn authenticate_first(app: App, mut socket: WebSocket) {
    let end = match tokio::time::timeout(AUTH_TIMEOUT, socket.recv()).await {
        Err(_) => End::AuthTimeout,
        Ok(Some(Ok(Message::Text(text)))) => match first_frame(&text) {
            None => End::BadStart,
            Some((token, start)) => match prepare(&app, token, start).await {
                Ok(session) => return session.run(app, socket).await,
                Err(error) => {
                    let _ = socket.send(Message::text(error_frame(None, &error))).await;
                    if error.status == http::StatusCode::UNAUTHORIZED {
                        End::Unauthorized
                    } else {
                        End::BadStart
                    }
                }
            },
        },
        Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return,
        Ok(Some(Ok(_))) => End::BadStart,
    };
    let _ = socket.send(close_frame(end)).await;
}

/// Everything that can be refused is refused before the first frame.
async fn prepare(app: &App, token: String, start: Start) -> Result<Session, MatrixError> {
    let who = authenticate(app, &token, None).await?;
    let filter = match start.filter.as_deref() {
        None => std::sync::Arc::default(),
        Some(json) if json.starts_with('{') => filter::parse(json)
            .map_err(MatrixError::invalid_param)?
            .into(),
        Some(id) => stored_filter(app, who.user, id).await?,
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
    Ok(Session {
        who,
        token,
        ask,
        since,
    })
}

struct Session {
    who: Caller,
    token: String,
    ask: Ask,
    since: Option<Token>,
}

impl Session {
    async fn run(self, app: App, socket: WebSocket) {
        let (sink, stream) = socket.split();
        let (out, frames) = mpsc::channel(QUEUE);
        let heard = Heard(Mutex::new(Instant::now()));
        let sink = tokio::sync::Mutex::new(sink);
        let reader = Reader::new(
            app.clone(),
            Viewer::of(&self.who),
            self.ask.clone(),
            self.since.clone(),
        );
        let end = tokio::select! {
            end = updates(&app, reader, &self.token, &out) => end,
            end = incoming(&app, &self.who, stream, &out, &heard) => end,
            end = outgoing(&sink, frames, &heard, app.config.stream_heartbeat) => end,
            () = app.shutdown.cancelled() => End::Restart,
        };
        // Whatever was writing has been dropped by now.
        let mut sink = sink.into_inner();
        let _ = tokio::time::timeout(Duration::from_secs(2), sink.send(close_frame(end))).await;
    }
}

/// When the other side was heard of last.
struct Heard(Mutex<Instant>);

impl Heard {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}

/// Reads the log and hands out what is new, as long as the token is valid.
async fn updates(app: &App, mut reader: Reader, token: &str, out: &mpsc::Sender<Message>) -> End {
    if let Err(error) = app.store.log().refresh().await {
        tracing::warn!(%error, "can't read the log's head");
    }
    if let Some(acknowledging) = reader.acknowledge().await {
        acknowledging.done(app).await;
    }
    let mut first = !reader.has_position();
    loop {
        if authenticate(app, token, None).await.is_err() {
            return End::Unauthorized;
        }
        // A place in the queue first: what happens while a slow client makes us wait is in the news.
        let Ok(place) = out.reserve().await else {
            return End::Gone;
        };
        match reader.pass().await {
            Ok(news) => {
                let more = news.next.is_behind_to_device();
                if first || !news.is_empty() {
                    first = false;
                    place.send(Message::text(reader.write(&news, Some("sync"))));
                }
                if more {
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a stream ends: it can't read what is new");
                return End::Failed;
            }
        }
        tokio::select! {
            () = reader.woken() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}

/// Takes the client's frames, one after the other.
async fn incoming(
    app: &App,
    who: &Caller,
    mut stream: SplitStream<WebSocket>,
    out: &mpsc::Sender<Message>,
    heard: &Heard,
) -> End {
    while let Some(Ok(message)) = stream.next().await {
        heard.now();
        let answer = match message {
            Message::Text(text) => answer(app, who, &text).await,
            Message::Binary(_) => {
                Some(error_frame(None, &MatrixError::not_json("Frames are text")))
            }
            Message::Ping(_) | Message::Pong(_) => None,
            Message::Close(_) => return End::Gone,
        };
        if let Some(answer) = answer
            && out.send(Message::text(answer)).await.is_err()
        {
            return End::Gone;
        }
    }
    End::Gone
}

/// Writes what is handed out, and a ping when it is time.
async fn outgoing(
    sink: &tokio::sync::Mutex<SplitSink<WebSocket, Message>>,
    mut frames: mpsc::Receiver<Message>,
    heard: &Heard,
    heartbeat: Duration,
) -> End {
    let mut sink = sink.lock().await;
    let mut beat = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
    loop {
        let message = tokio::select! {
            message = frames.recv() => message,
            _ = beat.tick() => {
                // Two pings have gone unanswered.
                if heard.silent_for() > heartbeat * 5 / 2 {
                    return End::TooSlow;
                }
                Some(Message::Ping(bytes::Bytes::new()))
            }
        };
        let Some(message) = message else {
            return End::Gone;
        };
        match tokio::time::timeout(heartbeat, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Gone,
            Err(_) => return End::TooSlow,
        }
    }
}
