//! The body of a request, with limits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use rhizome_edge::CutShort;
use tokio::time::Sleep;

/// Each so many bytes of a file may take as long as the body of any other request.
const PIECE: u64 = 1 << 20;

/// A request's body with a limit on its size and on the time that it takes to arrive.
pub(super) struct Guarded<B = Incoming> {
    inner: B,
    left: u64,
    time: Duration,
    /// Of a file: how many bytes of the piece for which the time runs have come.
    piece: Option<u64>,
    /// Made when the body has to be waited for: most come with their headers.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Guarded<B> {
    /// At most `limit` bytes within `time`.
    pub(super) fn new(inner: B, limit: u64, time: Duration) -> Self {
        Self {
            inner,
            left: limit,
            time,
            piece: None,
            deadline: None,
        }
    }

    /// The same for a file: each MiB of it within `time`, however many there are to be.
    pub(super) fn of_file(inner: B, limit: u64, time: Duration) -> Self {
        Self {
            piece: Some(0),
            ..Self::new(inner, limit, time)
        }
    }

    /// Counts what has come; with each MiB of a file the time begins again.
    fn came(&mut self, length: u64) {
        if let Some(piece) = &mut self.piece {
            *piece += length;
            if *piece >= PIECE {
                *piece %= PIECE;
                self.deadline = None;
            }
        }
    }
}

impl<B> hyper::body::Body for Guarded<B>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
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
                        this.came(length);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// Whether the time begins again with what has come last.
    fn begins_again(mut body: Guarded<()>, came: &[u64]) -> bool {
        for length in came {
            body.deadline = Some(Box::pin(tokio::time::sleep(MINUTE)));
            body.came(*length);
        }
        body.deadline.is_none()
    }

    #[tokio::test]
    async fn each_mib_of_a_file_has_its_time() {
        let file = || Guarded::of_file((), u64::MAX, MINUTE);
        for came in [&[PIECE - 1][..], &[PIECE, 1], &[PIECE / 2, PIECE, 1]] {
            assert!(!begins_again(file(), came), "{came:?}");
        }
        for came in [&[PIECE][..], &[PIECE - 1, 1], &[PIECE / 2, 1, PIECE / 2]] {
            assert!(begins_again(file(), came), "{came:?}");
        }
        let other = Guarded::new((), u64::MAX, MINUTE);
        assert!(!begins_again(other, &[PIECE]), "what is no file");
    }
}
