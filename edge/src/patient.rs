//! Bodies whose readers may stop reading.
//!
//! An HTTP/2 client can leave its window shut and the connection alive without end, so nothing below would ever give up
//! on it. What such a body holds (a file, a connection, a place) is let go when nobody has wanted a piece for a while.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::BoxError;
use bytes::Bytes;
use futures_util::{Stream, stream::BoxStream};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

/// So long a reader may want nothing.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

type Pieces = BoxStream<'static, Result<Bytes, BoxError>>;

/// Pieces that are dropped when nobody has wanted one for a while.
pub(crate) struct Patient(Arc<Mutex<State>>);

struct State {
    /// `None`: nobody wanted them.
    pieces: Option<Pieces>,
    /// When the last piece was taken; while one is waited for, it isn't the reader who is slow.
    taken: Instant,
    waiting: bool,
}

impl Patient {
    pub(crate) fn new(pieces: Pieces, patience: Duration) -> Self {
        let state = Arc::new(Mutex::new(State {
            pieces: Some(pieces),
            taken: Instant::now(),
            waiting: false,
        }));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(watch(Arc::downgrade(&state), patience));
        }
        Self(state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks from time to time whether the reader still reads. It ends with the body, or one look later.
async fn watch(state: Weak<Mutex<State>>, patience: Duration) {
    let mut look = Instant::now() + patience;
    loop {
        sleep_until(look).await;
        let Some(state) = state.upgrade() else {
            return;
        };
        let mut state = lock(&state);
        if state.pieces.is_none() {
            return;
        }
        let (now, until) = (Instant::now(), state.taken + patience);
        if state.waiting {
            look = now + patience;
        } else if until > now {
            look = until;
        } else {
            let given_up = state.pieces.take();
            drop(state);
            drop(given_up);
            return;
        }
    }
}

impl Stream for Patient {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.0);
        let Some(pieces) = state.pieces.as_mut() else {
            let why = "nobody wanted more of it for too long";
            return Poll::Ready(Some(Err(why.into())));
        };
        let piece = pieces.as_mut().poll_next(cx);
        state.waiting = piece.is_pending();
        state.taken = Instant::now();
        piece
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use tokio::{sync::oneshot, time::sleep};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    /// A stream of pieces, and whether it is still there.
    fn pieces(patience: Duration) -> (Patient, Weak<()>) {
        let held = Arc::new(());
        let there = Arc::downgrade(&held);
        let pieces = stream::repeat(held).map(|_held| Ok(Bytes::from_static(b"a piece")));
        (Patient::new(pieces.boxed(), patience), there)
    }

    async fn gone(there: &Weak<()>) {
        while there.upgrade().is_some() {
            sleep(SHORT).await;
        }
    }

    #[tokio::test]
    async fn what_nobody_reads_is_let_go() {
        let (mut body, there) = pieces(SHORT);
        gone(&there).await;
        assert!(body.next().await.unwrap().is_err(), "it isn't whole");
    }

    #[tokio::test]
    async fn what_was_begun_is_let_go() {
        let (mut body, there) = pieces(Duration::from_secs(1));
        assert!(body.next().await.unwrap().is_ok());
        gone(&there).await;
        assert!(body.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn who_waits_for_a_piece_is_not_slow() {
        let (late, comes) = oneshot::channel();
        let pieces = stream::once(async { Ok(comes.await?) });
        let mut body = Patient::new(pieces.boxed(), SHORT);
        let read = tokio::spawn(async move { body.next().await });
        sleep(10 * SHORT).await;
        late.send(Bytes::from_static(b"late")).unwrap();
        let piece = read.await.unwrap();
        assert_eq!(piece.unwrap().unwrap(), "late");
    }
}
