//! What comes from the client: its frames, one after the other.

use std::{collections::VecDeque, sync::Arc};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::{StreamExt as _, stream::SplitStream};
use rhizome_edge::ToTheEnd;
use tokio::sync::mpsc;

use super::{
    end::End,
    frames::{Head, PONG, error_frame},
    requests::{Answer, answer},
    session::Session,
};
use crate::MatrixError;

/// So many frames, or bytes of them, may wait behind one that takes its time; beyond, nothing is read.
const MOST_WAITING: (usize, usize) = (32, 128 * 1024);

/// Frames that wait for their turn.
#[derive(Default)]
struct Waiting {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.frames.len() < MOST_WAITING.0 && self.bytes < MOST_WAITING.1
    }

    fn push(&mut self, frame: Utf8Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Utf8Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        if self.frames.is_empty() {
            // A connection that is quiet again holds nothing.
            self.frames = VecDeque::new();
        }
        Some(frame)
    }
}

/// Takes the client's frames. They are dealt with in their order, and to their end also when the client goes; one
/// that takes its time keeps others waiting, but not pings, and not those of the WebSocket.
pub(super) async fn incoming(
    session: &Arc<Session>,
    mut stream: SplitStream<WebSocket>,
    out: &mpsc::Sender<Message>,
) -> End {
    let mut waiting = Waiting::default();
    let mut running = None;
    loop {
        if running.is_none() {
            running = waiting.pop().map(|frame| {
                let answer = Box::pin(answer(session.clone(), frame));
                ToTheEnd::new(answer, &session.app.unfinished)
            });
        }
        let listens = waiting.has_room();
        session.heard.listen(listens);
        let answer = tokio::select! {
            message = stream.next(), if listens => {
                let Some(Ok(message)) = message else {
                    return End::Gone;
                };
                session.heard.now();
                match message {
                    Message::Text(text) if is_ping(&text) => Some(Answer::of(PONG.to_owned())),
                    Message::Text(text) => {
                        waiting.push(text);
                        None
                    }
                    Message::Binary(_) => {
                        let error = MatrixError::not_json("Frames are text");
                        Some(Answer::of(error_frame(None, &error)))
                    }
                    Message::Ping(_) | Message::Pong(_) => None,
                    Message::Close(_) => return End::Gone,
                }
            }
            answer = over(&mut running) => {
                running = None;
                answer
            }
        };
        if let Some(Answer { frame, said }) = answer {
            if out.send(Message::text(frame)).await.is_err() {
                return End::Gone;
            }
            // What the reader hands out now comes after it.
            drop(said);
        }
    }
}

async fn over<T>(running: &mut Option<impl Future<Output = T> + Unpin>) -> T {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

/// Whether it is a ping, which is answered at once. Only what is short enough is looked into.
fn is_ping(text: &str) -> bool {
    text.len() <= 100 && serde_json::from_str::<Head>(text).is_ok_and(|head| head.r#type == "ping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_keeps_its_order() {
        let mut waiting = Waiting::default();
        let mut count = 0;
        while waiting.has_room() {
            waiting.push(count.to_string().into());
            count += 1;
        }
        assert_eq!(count, MOST_WAITING.0);
        for number in 0..count {
            assert_eq!(waiting.pop().unwrap().as_str(), number.to_string());
        }
        assert!(waiting.pop().is_none());
        assert_eq!((waiting.bytes, waiting.frames.capacity()), (0, 0));
        waiting.push("x".repeat(MOST_WAITING.1).into());
        assert!(!waiting.has_room());
    }

    #[test]
    fn pings_are_told_from_the_rest() {
        assert!(is_ping(r#"{"type":"ping"}"#));
        assert!(is_ping(r#" {"n": 1, "type": "ping"} "#));
        assert!(!is_ping(r#"{"type":"send"}"#));
        assert!(!is_ping("ping"));
    }
}
