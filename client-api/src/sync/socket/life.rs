//! A socket's life: reading the log, hearing the client and writing, side by side.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitSink};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{end::End, face::Face, incoming::incoming, pace::Pace, session::Session};

/// Frames that wait for a slow client.
const QUEUE: usize = 4;

/// How long the last frames may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves a socket until it ends.
pub(super) async fn run(session: Session, face: Face, socket: WebSocket) {
    let session = Arc::new(session);
    let app = &session.app;
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
    // All that is awaited here and isn't waiting is boxed: a socket that waits holds none of its room.
    if let Err(error) = Box::pin(app.store.log().refresh()).await {
        tracing::warn!(%error, "can't read the log's head");
    }
    Box::pin(face.begin(app)).await;
    let mut pace = Pace::default();
    loop {
        if let Err(end) = Box::pin(session.check()).await {
            return end;
        }
        // A place in the queue first: what happens while a slow client makes us wait is in the news.
        let Ok(place) = out.reserve().await else {
            return End::Gone;
        };
        if let Err(end) = Box::pin(session.take_up(&mut face)).await {
            return end;
        }
        let turn = match Box::pin(face.turn()).await {
            Ok(turn) => turn,
            Err(error) => {
                tracing::warn!(%error, "a stream ends: it can't read what is new");
                return End::of(error);
            }
        };
        if let Some(frame) = turn.frame {
            place.send(Message::text(frame));
            pace.sent(clock.monotonic());
        }
        if turn.more {
            continue;
        }
        if let Err(end) = wait(session, &mut face, &pace).await {
            return end;
        }
    }
}

/// Waits until there may be something to tell, and it may go out: at once if it is what the client has just asked.
async fn wait(session: &Session, face: &mut Face, pace: &Pace) -> Result<(), End> {
    let clock = session.app.store.clock();
    let mut woken = false;
    loop {
        let left = pace.wait(clock.monotonic());
        if woken && (left.is_zero() || face.hurries()) {
            return Ok(());
        }
        let rest = async {
            if woken {
                // Boxed: nearly always it isn't there.
                Box::pin(clock.sleep(left)).await;
            } else {
                face.woken().await;
            }
        };
        tokio::select! {
            () = rest => woken = true,
            // What changes nothing is no reason to look at the log.
            () = session.changes.come() => woken |= Box::pin(session.take_up(face)).await?,
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
                if let Err(end) = Box::pin(session.check()).await {
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
