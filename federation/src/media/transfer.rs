//! The bytes of another server's file, from wherever they come.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use http::{HeaderMap, header};
use rhizome_media::{FetchError, Fetched};
use ruma::http_headers::ContentDisposition;
use tokio::time::{Instant, timeout_at};

use super::{
    head::{self, FileHead},
    manners::Turn,
    multipart::{Broken, Reader, Said},
};
use crate::outbound::{OutboundError, WebBody, WebError, cause, web};

/// Time until another piece comes.
const STALLED: Duration = Duration::from_secs(30);
/// It may come as slowly as it likes for so long; from then on so many bytes come in a second on average, or it is given up.
const SLOW: Duration = Duration::from_secs(30);
const LEAST: u64 = 16 << 10;
/// Time for all of a file: a large one of a small server takes its time.
pub(super) const WHOLE: Duration = Duration::from_mins(30);

/// A file that comes.
pub(super) struct Transfer {
    source: Source,
    left: u64,
    begun: Instant,
    come: u64,
    turn: Option<Turn>,
}

enum Source {
    Parts(Box<Reader>, BodyDataStream),
    Body(BodyDataStream),
    Web(WebBody),
}

/// What an answer holds: a file, or where it is.
pub(super) enum Held {
    File(FileHead, Transfer),
    Location(String),
}

impl Transfer {
    fn new(source: Source, most: u64) -> Self {
        Self {
            source,
            left: most,
            begun: Instant::now(),
            come: 0,
            turn: None,
        }
    }

    /// A file that is an answer's body.
    pub(super) fn of_body(body: Body, most: u64) -> Self {
        Self::new(Source::Body(body.into_data_stream()), most)
    }

    /// A file that was found at a web address.
    pub(super) fn of_web(body: WebBody, most: u64) -> Self {
        Self::new(Source::Web(body), most)
    }

    /// A file in an answer of two parts.
    ///
    /// # Errors
    /// It isn't of that form, or breaks off before the file begins.
    pub(super) async fn of_parts(
        boundary: &str,
        body: Body,
        most: u64,
    ) -> Result<Held, FetchError> {
        let mut reader = Box::new(Reader::new(boundary));
        let mut body = body.into_data_stream();
        let until = Instant::now() + STALLED;
        let told = loop {
            match reader.next().map_err(broken)? {
                Some(Said::Head(head)) => break head,
                Some(_) => return Err(broken(Broken::NoBoundary)),
                None => match next(&mut body, until).await? {
                    Some(piece) => reader.push(piece),
                    None => return Err(broken(Broken::CutOff)),
                },
            }
        };
        if let Some(location) = told.location {
            return Ok(Held::Location(location));
        }
        let head = FileHead {
            content_type: told.content_type.and_then(|said| head::content_type(&said)),
            name: told.name.and_then(|said| head::name(&said)),
            length: told.length,
        };
        let transfer = Self::new(Source::Parts(reader, body), most);
        Ok(Held::File(head, transfer))
    }

    /// It and what is said of it, as it is taken by who keeps it.
    pub(super) fn fetched(mut self, head: FileHead, turn: Turn) -> Result<Fetched, FetchError> {
        if head.length.is_some_and(|length| length > self.left) {
            return Err(FetchError::TooLarge);
        }
        self.turn = Some(turn);
        Ok(Fetched {
            content_type: head.content_type,
            name: head.name,
            length: head.length,
            body: self.into_stream().boxed(),
        })
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, FetchError>> + Send + 'static {
        stream::unfold(Some(self), |transfer| async {
            let mut transfer = transfer?;
            match transfer.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(transfer))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let until = deadline(self.begun, Instant::now(), self.come);
        let piece = match &mut self.source {
            Source::Parts(reader, body) => of_parts(reader, body, until).await?,
            Source::Body(body) => next(body, until).await?,
            Source::Web(body) => {
                let next = timeout_at(until, body.next()).await;
                next.map_err(|_| stopped())?.map_err(of_web)?
            }
        };
        let length = piece.as_ref().map_or(0, Bytes::len) as u64;
        self.come += length;
        self.left = self.left.checked_sub(length).ok_or(FetchError::TooLarge)?;
        Ok(piece)
    }
}

async fn of_parts(
    reader: &mut Reader,
    body: &mut BodyDataStream,
    until: Instant,
) -> Result<Option<Bytes>, FetchError> {
    loop {
        match reader.next().map_err(broken)? {
            Some(Said::Bytes(piece)) => return Ok(Some(piece)),
            Some(Said::Head(_)) => {}
            Some(Said::End) => {
                // Mostly the end of the body is there as well; who has seen it can use the connection again.
                while let Some(Some(Ok(_))) = body.next().now_or_never() {}
                return Ok(None);
            }
            None => match next(body, until).await? {
                Some(piece) => reader.push(piece),
                None => reader.finish().map_err(broken)?,
            },
        }
    }
}

async fn next(body: &mut BodyDataStream, until: Instant) -> Result<Option<Bytes>, FetchError> {
    let next = timeout_at(until, body.next()).await;
    let next = next.map_err(|_| stopped())?;
    next.transpose()
        .map_err(|error| FetchError::Failed(cause(&error)))
}

/// What headers say of a body.
pub(super) fn head_of(headers: &HeaderMap) -> FileHead {
    let disposition = headers.get(header::CONTENT_DISPOSITION);
    let disposition = disposition.map(|it| ContentDisposition::try_from(it.as_bytes()));
    let name = disposition.and_then(|it| it.ok()?.filename);
    FileHead {
        content_type: web::text(headers, header::CONTENT_TYPE).and_then(head::content_type),
        name: name.and_then(|name| head::name(&name)),
        length: web::text(headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
    }
}

fn stopped() -> FetchError {
    FetchError::Failed("it stopped in the middle, or comes too slowly".to_owned())
}

fn broken(error: Broken) -> FetchError {
    FetchError::Failed(error.to_string())
}

/// What another server's refusal means.
pub(super) fn of_server(error: &OutboundError) -> FetchError {
    if let OutboundError::Remote(told) = error {
        match (told.status.as_u16(), &*told.errcode) {
            (_, "M_NOT_YET_UPLOADED") => return FetchError::NotYet,
            (_, "M_TOO_LARGE") => return FetchError::TooLarge,
            (404, _) => return FetchError::NotFound,
            _ => {}
        }
    }
    FetchError::Failed(error.to_string())
}

pub(super) fn of_web(error: WebError) -> FetchError {
    match error {
        WebError::TooLarge(_) => FetchError::TooLarge,
        error => FetchError::Failed(error.to_string()),
    }
}

/// Until when the next piece must have come.
fn deadline(begun: Instant, now: Instant, come: u64) -> Instant {
    let slowest = SLOW + Duration::from_secs(come / LEAST);
    (begun + slowest.min(WHOLE)).min(now + STALLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a file is given up of which so many bytes come each second.
    fn given_up(per_second: u64) -> Duration {
        let begun = Instant::now();
        let (mut now, mut come) = (begun, 0);
        loop {
            let next = now + Duration::from_secs(1);
            let deadline = deadline(begun, now, come);
            if next > deadline {
                return deadline - begun;
            }
            now = next;
            come += per_second;
        }
    }

    #[test]
    fn who_gives_little_by_little_is_given_up() {
        let seconds = |per_second| given_up(per_second).as_secs();
        assert_eq!(seconds(0), SLOW.as_secs());
        assert_eq!(seconds(1), SLOW.as_secs());
        assert_eq!(seconds(LEAST / 2), 2 * SLOW.as_secs() - 1);
        // Fast enough; but not for ever, whatever it is.
        assert_eq!(seconds(LEAST), WHOLE.as_secs());
        assert_eq!(seconds(100 * LEAST), WHOLE.as_secs());
    }

    #[test]
    fn who_gives_nothing_is_given_up() {
        let begun = Instant::now();
        let now = begun + Duration::from_mins(5);
        assert_eq!(deadline(begun, now, u64::MAX), now + STALLED);
    }
}
