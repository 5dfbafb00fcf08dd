//! How sockets end, and how many there are that will come back.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use rhizome_storage::{UserNo, random};

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
            End::Refused(_) => (4400, "the error frame says why"),
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
    /// How many each user has.
    users: Mutex<HashMap<UserNo, usize>>,
}

/// So many sockets a user may have open at once, of all their devices.
pub(super) const MOST_OF_USER: usize = 64;

/// So many are to come back in a second.
const BACK_PER_SECOND: u64 = 500;
/// The least and the most time over which clients are spread, in milliseconds.
const SPREAD_MS: (u64, u64) = (1_000, 60_000);

impl Sockets {
    /// Counts one more, until the guard is dropped.
    ///
    /// # Errors
    /// The user has too many. It is the new one that is refused: clients that pushed each other out would come
    /// back for ever.
    pub(super) fn enter(app: &App, user: UserNo) -> Result<Open, MatrixError> {
        if app.sync.sockets.add(user) {
            return Ok(Open(app.clone(), user));
        }
        // By then those are given up whose clients are gone.
        let silent = app.config.stream_heartbeat * 5 / 2;
        let retry_after_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        Err(MatrixError::limit_exceeded(retry_after_ms))
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn add(&self, user: UserNo) -> bool {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = users.entry(user).or_default();
        if *of_user >= MOST_OF_USER {
            return false;
        }
        *of_user += 1;
        drop(users);
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
        true
    }

    fn remove(&self, user: UserNo) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut of_user) = users.entry(user) {
            *of_user.get_mut() -= 1;
            if *of_user.get() == 0 {
                of_user.remove();
            }
        }
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

/// An open socket of a user's, counted as long as it is there.
pub(super) struct Open(App, UserNo);

impl Open {
    /// The server that it is open at.
    pub(super) fn app(&self) -> &App {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.sync.sockets.remove(self.1);
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
    fn a_user_has_so_many_and_others_have_theirs() {
        let sockets = Sockets::default();
        assert!((0..MOST_OF_USER).all(|_| sockets.add(UserNo(1))));
        assert!(!sockets.add(UserNo(1)));
        assert!(sockets.add(UserNo(2)));
        sockets.remove(UserNo(1));
        assert!(sockets.add(UserNo(1)));
        assert!(!sockets.add(UserNo(1)));
    }

    #[test]
    fn they_come_back_at_different_times() {
        let sockets = Sockets::default();
        for user in 0..2_000 {
            assert!(sockets.add(UserNo(user)));
        }
        for user in 0..2_000 {
            sockets.remove(UserNo(user));
        }
        assert_eq!(sockets.open.load(Ordering::Relaxed), 0);
        assert!(sockets.users.lock().unwrap().is_empty());
        // The most there were, not those that are left when one says goodbye.
        let times: std::collections::BTreeSet<_> =
            (0..100).map(|_| sockets.come_back_after_ms()).collect();
        assert!(times.len() > 50, "{times:?}");
        assert!(times.iter().all(|ms| *ms <= 4_000), "{times:?}");
        assert!(times.iter().any(|ms| *ms > 1_000), "{times:?}");
    }
}
