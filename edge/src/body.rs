//! The body of a request, read to its bound: whole, or piece by piece.

use std::{error::Error, fmt, iter::successors, time::Duration};

use axum::body::{BodyDataStream, HttpBody};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;

use crate::{MatrixError, Reservation};

/// How long a body that is read whole may take to arrive, and how long each piece of one that is streamed.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bodies up to this size are read without asking whether there is memory left.
const SMALL: usize = 64 << 10;

/// Why a body ends before its end where whoever serves the router ends it, for a bound of theirs: the error that the
/// body yields, or the source of it. Any other error is taken for a client that has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutShort {
    /// More has come than is allowed.
    TooLarge,
    /// It takes longer than is allowed.
    TooSlow,
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "The request's body is too large",
            Self::TooSlow => "The request's body took too long to arrive",
        })
    }
}

impl Error for CutShort {}

impl From<CutShort> for MatrixError {
    fn from(why: CutShort) -> Self {
        match why {
            CutShort::TooLarge => MatrixError::too_large(why.to_string()),
            CutShort::TooSlow => {
                MatrixError::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", why.to_string())
            }
        }
    }
}

/// A body that is still arriving.
#[derive(Debug)]
pub struct Upload {
    body: BodyDataStream,
    announced: Option<u64>,
    most: usize,
    left: usize,
}

impl Upload {
    /// At most `most` bytes of a body.
    ///
    /// # Errors
    /// 413 `M_TOO_LARGE` if it announces more.
    pub(crate) fn new(body: axum::body::Body, most: usize) -> Result<Self, MatrixError> {
        let size = HttpBody::size_hint(&body);
        let body = Self {
            announced: size.exact(),
            body: body.into_data_stream(),
            most,
            left: most,
        };
        if usize::try_from(size.lower()).map_or(true, |least| least > most) {
            return Err(body.too_large());
        }
        Ok(body)
    }

    /// How many bytes it is said to have.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 413 `M_TOO_LARGE` once more has come than is allowed; 408 if nothing comes for too long; 400 if the
    /// client has gone.
    pub async fn next(&mut self) -> Result<Option<Bytes>, MatrixError> {
        let next = tokio::time::timeout(PATIENCE, self.piece());
        next.await.unwrap_or_else(|_| Err(CutShort::TooSlow.into()))
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, MatrixError> {
        let Some(piece) = self.body.next().await else {
            return Ok(None);
        };
        let piece = piece.map_err(|error| broken(&error))?;
        self.left = match self.left.checked_sub(piece.len()) {
            Some(left) => left,
            None => return Err(self.too_large()),
        };
        Ok(Some(piece))
    }

    /// All of it, and the memory that is reserved for it. One that comes in one piece isn't copied.
    ///
    /// # Errors
    /// As of [`Upload::next`]; 429 `M_LIMIT_EXCEEDED` if there is no memory left.
    pub async fn whole(
        self,
        reserve: impl FnOnce() -> Option<Reservation>,
    ) -> Result<(Bytes, Option<Reservation>), MatrixError> {
        let read = tokio::time::timeout(PATIENCE, self.collect(reserve));
        read.await.unwrap_or_else(|_| Err(CutShort::TooSlow.into()))
    }

    async fn collect(
        mut self,
        reserve: impl FnOnce() -> Option<Reservation>,
    ) -> Result<(Bytes, Option<Reservation>), MatrixError> {
        let Some(mut first) = self.piece().await? else {
            return Ok((Bytes::new(), None));
        };
        let (mut ask, mut reserved) = (Some(reserve), None);
        let mut enough = |size: usize| {
            if size > SMALL
                && let Some(ask) = ask.take()
            {
                reserved = ask();
            }
            let fits = reserved
                .as_mut()
                .is_none_or(|reserved: &mut Reservation| reserved.grow_to(size));
            fits.then_some(())
                .ok_or_else(|| MatrixError::limit_exceeded(1_000))
        };
        let mut size = first.len();
        enough(size)?;
        // Put together as they come: of pieces of a byte each, not each keeps a buffer alive.
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            size += piece.len();
            enough(size)?;
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&piece);
        }
        if !all.is_empty() {
            first = all.into();
        }
        Ok((first, reserved))
    }

    fn too_large(&self) -> MatrixError {
        let most = self.most;
        MatrixError::too_large(format!("The request's body is larger than {most} bytes"))
    }
}

/// What is told of a body that breaks off.
fn broken(error: &axum::Error) -> MatrixError {
    let first: &(dyn Error + 'static) = error;
    successors(Some(first), |error| (*error).source())
        .find_map(|error| error.downcast_ref::<CutShort>())
        .map_or_else(
            || MatrixError::not_json("The request's body couldn't be read"),
            |why| (*why).into(),
        )
}
