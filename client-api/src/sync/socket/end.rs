//! How sockets end, and how many there are that will come back.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use rhizome_storage::random;

use super::frames::{self, error_frame};
use crate::{App, MatrixError};

/// How a socket ends.
#[derive(Debug)]
pub(super) enum End {
    /// The other side has gone, or closes.
    Gone,
    /// The server stops: connect again.
    Restart,
    /// The access token is not, or no longer, valid.
    Unauthorized(Box<MatrixError>),
    /// No token in time.
    AuthTimeout,
    /// The first frame isn't what it must be.
    BadStart,
    /// The same, with what is wrong with it.
    Refused(Box<MatrixError>),
    /// Something failed here: connect again.
    Failed,
    /// The client reads too slowly, or not at all.
    TooSlow,
}

impl End {
    /// The end that a refusal of a token or of a first frame is.
    pub(super) fn of(error: MatrixError) -> End {
        match error.status {
            http::StatusCode::UNAUTHORIZED => End::Unauthorized(error.into()),
            status if status.is_server_error() => End::Failed,
            _ => End::Refused(error.into()),
        }
    }

    /// The close code (RFC 6455 7.4, and 4000 and up for what is ours) and its words.
    fn code(&self) -> (u16, &'static str) {
        match self {
            End::Gone => (1000, ""),
            End::Restart => (1012, "the server restarts"),
            End::Unauthorized(_) => (4401, "the access token is not valid"),
            End::AuthTimeout => (4408, "no access token came in time"),
            End::BadStart => (4400, "the first frame must be of type auth"),
            End::Refused(_) => (4400, "there is no such stream"),
            End::Failed => (1011, "something went wrong on the server"),
            End::TooSlow => (4409, "frames are not being read"),
        }
    }

    /// What is sent last: the reason in a frame, where there is more to say than a code, and the close frame.
    pub(super) fn last_frames(&self, app: &App) -> impl Iterator<Item = Message> + use<> {
        let reason = match self {
            End::Unauthorized(error) | End::Refused(error) => Some(error_frame(None, error)),
            End::Restart => Some(frames::bye(app.sync.sockets.come_back_after_ms())),
            _ => None,
        };
        let (code, words) = self.code();
        let close = Message::Close(Some(CloseFrame {
            code,
            reason: Utf8Bytes::from_static(words),
        }));
        reason.map(Message::text).into_iter().chain([close])
    }
}

/// The sockets of this process.
#[derive(Debug, Default)]
pub struct Sockets {
    open: AtomicUsize,
    /// The most that were open at once.
    peak: AtomicUsize,
}

/// So many are to come back in a second.
const BACK_PER_SECOND: u64 = 500;
/// The least and the most time over which clients are spread, in milliseconds.
const SPREAD_MS: (u64, u64) = (1_000, 60_000);

impl Sockets {
    /// Counts one more, until the guard is dropped.
    pub(super) fn enter(&self) -> impl Drop + '_ {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
        Open(self)
    }

    /// After how long a client is to come back when the server stops: another time for each, so that thousands
    /// don't come at once.
    fn come_back_after_ms(&self) -> u64 {
        let peak = self.peak.load(Ordering::Relaxed);
        let spread = spread_ms(u64::try_from(peak).unwrap_or(u64::MAX));
        // Without chance the last is as good as any.
        random::bytes().map_or(spread, |bytes| u64::from_be_bytes(bytes) % (spread + 1))
    }
}

fn spread_ms(sockets: u64) -> u64 {
    (sockets.saturating_mul(1_000) / BACK_PER_SECOND).clamp(SPREAD_MS.0, SPREAD_MS.1)
}

struct Open<'a>(&'a Sockets);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_spread_over_more_time_than_few() {
        assert_eq!(spread_ms(0), 1_000);
        assert_eq!(spread_ms(10_000), 20_000);
        assert_eq!(spread_ms(u64::MAX), 60_000);
    }

    #[test]
    fn they_come_back_at_different_times() {
        let sockets = Sockets::default();
        let entered: Vec<_> = (0..2_000).map(|_| sockets.enter()).collect();
        drop(entered);
        assert_eq!(sockets.open.load(Ordering::Relaxed), 0);
        // The most there were, not those that are left when one says goodbye.
        let times: std::collections::BTreeSet<_> =
            (0..100).map(|_| sockets.come_back_after_ms()).collect();
        assert!(times.len() > 50, "{times:?}");
        assert!(times.iter().all(|ms| *ms <= 4_000), "{times:?}");
        assert!(times.iter().any(|ms| *ms > 1_000), "{times:?}");
    }
}
