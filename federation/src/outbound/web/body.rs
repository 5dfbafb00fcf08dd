//! The body of what was found, within its bounds.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::{Visit, WebError};
use crate::outbound::error::cause;

/// A body that comes.
pub struct WebBody {
    pieces: BodyDataStream,
    announced: Option<u64>,
    most: u64,
    left: u64,
    until: Instant,
    idle: Duration,
}

impl WebBody {
    pub(super) fn new(body: Body, visit: &Visit, until: Instant) -> Result<Self, WebError> {
        let announced = body.size_hint();
        if announced.lower() > visit.most {
            return Err(WebError::TooLarge(visit.most));
        }
        Ok(Self {
            announced: announced.exact(),
            pieces: body.into_data_stream(),
            most: visit.most,
            left: visit.most,
            until,
            idle: visit.idle,
        })
    }

    /// How many bytes it is said to have.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// At most so many bytes, where these are fewer.
    ///
    /// # Errors
    /// [`WebError::TooLarge`] if it is said to have more.
    pub fn at_most(mut self, most: u64) -> Result<Self, WebError> {
        if self.announced.is_some_and(|announced| announced > most) {
            return Err(WebError::TooLarge(most));
        }
        self.most = self.most.min(most);
        self.left = self.left.min(most);
        Ok(self)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`WebError::TooLarge`], [`WebError::Timeout`], [`WebError::Unreachable`] if it breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, WebError> {
        let until = self.until.min(Instant::now() + self.idle);
        let next = timeout_at(until, self.pieces.next()).await;
        let Some(piece) = next.map_err(|_| WebError::Timeout)? else {
            return Ok(None);
        };
        let piece = piece.map_err(|error| WebError::Unreachable(cause(&error)))?;
        let left = self.left.checked_sub(piece.len() as u64);
        self.left = left.ok_or(WebError::TooLarge(self.most))?;
        Ok(Some(piece))
    }

    /// All of it.
    ///
    /// # Errors
    /// As of [`WebBody::next`].
    pub async fn whole(mut self) -> Result<Bytes, WebError> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Its beginning: at most so many bytes, and what came of it if it breaks off or stops after some.
    ///
    /// # Errors
    /// As of [`WebBody::next`], if nothing came.
    pub async fn beginning(mut self, most: usize) -> Result<Bytes, WebError> {
        let mut all = BytesMut::new();
        while all.len() < most {
            match self.next().await {
                Ok(Some(piece)) => {
                    let piece = piece.get(..most - all.len()).unwrap_or(&piece);
                    all.extend_from_slice(piece);
                }
                Err(error) if all.is_empty() => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(all.freeze())
    }

    /// It as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, WebError>> + Send + 'static {
        stream::unfold(Some(self), |body| async {
            let mut body = body?;
            match body.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(body))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}
