//! The body of a request, with limits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use rhizome_edge::CutShort;
use tokio::time::Sleep;

/// A request's body with a limit on its size and on the time that it takes to arrive.
pub(super) struct Guarded {
    inner: Incoming,
    left: u64,
    time: Duration,
    /// Made when the body has to be waited for: most come with their headers.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// At most `limit` bytes within `time`.
    pub(super) fn new(inner: Incoming, limit: u64, time: Duration) -> Self {
        Self {
            inner,
            left: limit,
            time,
            deadline: None,
        }
    }
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(length) {
                    Some(left) => {
                        this.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => Poll::Ready(Some(Err(CutShort::TooLarge.into()))),
                }
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let time = this.time;
                let deadline = this
                    .deadline
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                deadline
                    .as_mut()
                    .poll(cx)
                    .map(|()| Some(Err(CutShort::TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
