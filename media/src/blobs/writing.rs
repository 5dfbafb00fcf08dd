//! A file on its way as what others write to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWrite;

use super::Spool;

/// Writes to a file on its way.
pub(crate) struct Writing<'a> {
    /// Away while it writes.
    idle: Option<&'a mut Spool>,
    busy: Option<BoxFuture<'a, io::Result<&'a mut Spool>>>,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(into: &'a mut Spool) -> Self {
        Self {
            idle: Some(into),
            busy: None,
        }
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(busy) = &mut self.busy {
            let into = ready!(busy.poll_unpin(context));
            self.busy = None;
            self.idle = Some(into?);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writing<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_idle(context))?;
        let Some(into) = self.idle.take() else {
            return Poll::Ready(Err(io::Error::other("the file couldn't be written before")));
        };
        let piece = Bytes::copy_from_slice(bytes);
        self.busy = Some(
            async move {
                into.push(piece).await?;
                Ok(into)
            }
            .boxed(),
        );
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_idle(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
