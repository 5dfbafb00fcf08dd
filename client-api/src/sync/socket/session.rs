//! A socket's life, once it is known whose it is.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitSink};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{changes::Changes, end::End, face::Face, incoming::incoming};
use crate::{App, Caller, MatrixError, auth::token::authenticate};

/// Frames that wait for a slow client.
const QUEUE: usize = 4;

/// What happens within this time after a frame goes out in one frame: a burst is a few frames, and what comes after
/// some quiet is told at once.
const MERGED: Duration = Duration::from_millis(100);

/// How long the last frames may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the parts of a socket's life share.
pub(super) struct Session {
    pub(super) app: App,
    pub(super) who: Caller,
    /// A lock that is held while a token is looked at, so that the old one isn't asked for when the new one has
    /// just made it invalid.
    token: tokio::sync::Mutex<String>,
    pub(super) changes: Changes,
    pub(super) heard: Heard,
}

impl Session {
    /// The session of whoever has this token.
    pub(super) fn new(app: App, who: Caller, token: String) -> Session {
        Session {
            app,
            who,
            token: token.into(),
            changes: Changes::default(),
            heard: Heard(Mutex::new(Some(Instant::now()))),
        }
    }

    /// Whether the token is still valid.
    async fn check(&self) -> Result<(), End> {
        let token = self.token.lock().await;
        match authenticate(&self.app, &token, None).await {
            Ok(_) => Ok(()),
            Err(error) => Err(End::of(error)),
        }
    }

    /// Goes on with another token of the same device.
    pub(super) async fn renew(&self, token: String) -> Result<(), MatrixError> {
        let mut current = self.token.lock().await;
        let who = authenticate(&self.app, &token, None).await?;
        if (who.user, &who.device_id) != (self.who.user, &self.who.device_id) {
            return Err(MatrixError::forbidden("The token is another device's"));
        }
        *current = token;
        Ok(())
    }
}

/// Serves a socket until it ends.
pub(super) async fn run(session: Session, face: Face, socket: WebSocket) {
    let session = Arc::new(session);
    let app = &session.app;
    let _open = app.sync.sockets.enter();
    let (sink, stream) = socket.split();
    let (out, frames) = mpsc::channel(QUEUE);
    let sink = tokio::sync::Mutex::new(sink);
    let end = tokio::select! {
        end = updates(&session, face, &out) => end,
        end = incoming(&session, stream, &out) => end,
        end = outgoing(&session, &sink, frames) => end,
        () = app.shutdown.cancelled() => End::Restart,
    };
    session.changes.close();
    // Whatever was writing has been dropped by now.
    let mut sink = sink.into_inner();
    let last = async {
        for frame in end.last_frames(app) {
            if sink.send(frame).await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(GOODBYE, last).await;
}

/// Reads the log and hands out what is new, as long as the token is valid.
async fn updates(session: &Session, mut face: Face, out: &mpsc::Sender<Message>) -> End {
    let app = &session.app;
    let clock = app.store.clock();
    if let Err(error) = app.store.log().refresh().await {
        tracing::warn!(%error, "can't read the log's head");
    }
    Box::pin(face.begin(app)).await;
    loop {
        if let Err(end) = session.check().await {
            return end;
        }
        // A place in the queue first: what happens while a slow client makes us wait is in the news.
        let Ok(place) = out.reserve().await else {
            return End::Gone;
        };
        session.changes.take_up(|change| face.change(change));
        // Boxed, so that a socket that waits doesn't hold the room that this needs.
        let turn = match Box::pin(face.turn()).await {
            Ok(turn) => turn,
            Err(error) => {
                tracing::warn!(%error, "a stream ends: it can't read what is new");
                return End::Failed;
            }
        };
        let mut merged_until = None;
        if let Some(frame) = turn.frame {
            place.send(Message::text(frame));
            merged_until = Some(clock.monotonic() + MERGED);
        }
        if turn.more {
            continue;
        }
        tokio::select! {
            () = face.woken() => {}
            () = session.changes.come() => {}
        }
        if let Some(until) = merged_until {
            let left = until.saturating_sub(clock.monotonic());
            if !left.is_zero() {
                Box::pin(clock.sleep(left)).await;
            }
        }
    }
}

/// Writes what is handed out, and a ping when it is time, which is also when a token that expires is looked at.
async fn outgoing(
    session: &Session,
    sink: &tokio::sync::Mutex<SplitSink<WebSocket, Message>>,
    mut frames: mpsc::Receiver<Message>,
) -> End {
    let heartbeat = session.app.config.stream_heartbeat;
    let mut sink = sink.lock().await;
    let beat = sleep_until(Instant::now() + heartbeat);
    tokio::pin!(beat);
    loop {
        let message = tokio::select! {
            message = frames.recv() => message,
            () = &mut beat => {
                // Two pings have gone unanswered.
                if session.heard.silent_for() > heartbeat * 5 / 2 {
                    return End::TooSlow;
                }
                if let Err(end) = session.check().await {
                    return end;
                }
                beat.as_mut().reset(Instant::now() + heartbeat);
                Some(Message::Ping(bytes::Bytes::new()))
            }
        };
        let Some(message) = message else {
            return End::Gone;
        };
        match timeout(heartbeat, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Gone,
            Err(_) => return End::TooSlow,
        }
    }
}

/// When the other side was heard of last; `None` while we don't listen, as it has sent more than we can deal with.
pub(super) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    pub(super) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Says whether we listen.
    pub(super) fn listen(&self, listens: bool) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = listens.then(|| heard.unwrap_or_else(Instant::now));
    }

    fn silent_for(&self) -> Duration {
        let heard = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map_or(Duration::ZERO, |heard| heard.elapsed())
    }
}
