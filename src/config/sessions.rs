//! `[sessions]`: how long what clients log in with is good.

use std::time::Duration;

use serde::Deserialize;

use super::Problems;
use super::units::Span;

/// The least that an access token lives: clients refresh it in time.
const SHORTEST: Duration = Duration::from_secs(30);
/// For how long at most a proof of whose an account is lets its device go on without another.
const LONGEST_WINDOW: Duration = Duration::from_hours(1);
/// The longest that a login token lives.
const LONGEST_LOGIN: Duration = Duration::from_hours(1);

/// How long what clients log in with is good.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Access tokens of clients that can refresh them.
    pub access_token_lifetime: Span,
    /// Refresh tokens, from when they are given out; without it, they don't end by themselves.
    pub refresh_token_lifetime: Option<Span>,
    /// Access tokens of clients that can't refresh them; without it, they don't end by themselves.
    pub lasting_token_lifetime: Option<Span>,
    /// Tokens with which one device lets another log in; `0s`: there are none.
    pub login_token_lifetime: Span,
    /// How long who has shown on a device whose it is needn't do so again there; `0s`: each time.
    pub reauthentication_window: Span,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            access_token_lifetime: Span::secs(60 * 60),
            refresh_token_lifetime: None,
            lasting_token_lifetime: None,
            login_token_lifetime: Span::secs(2 * 60),
            reauthentication_window: Span::secs(0),
        }
    }
}

impl Sessions {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.access_token_lifetime.0 < SHORTEST {
            problems.add(
                "sessions.access_token_lifetime",
                "clients couldn't refresh their tokens in time",
                "write a span of time of 30s or more, such as \"1h\"",
            );
        }
        let access = self.access_token_lifetime.0;
        if self
            .refresh_token_lifetime
            .is_some_and(|span| span.0 <= access)
        {
            problems.add(
                "sessions.refresh_token_lifetime",
                "a refresh token would end before the access token for which it is to bring another",
                "write a longer span of time than access_token_lifetime, such as \"90d\", or leave it out: then they don't end",
            );
        }
        if self
            .lasting_token_lifetime
            .is_some_and(|span| span.0 < access)
        {
            problems.add(
                "sessions.lasting_token_lifetime",
                "people would have to log in again more often than other clients fetch a new token",
                "write a span of time of access_token_lifetime or more, such as \"30d\", or leave it out: then they don't end",
            );
        }
        if self.reauthentication_window.0 > LONGEST_WINDOW {
            problems.add(
                "sessions.reauthentication_window",
                "whoever finds a device unattended could take over its account for too long",
                "write a span of time of 1h at most, or \"0s\" if the password is to be given each time",
            );
        }
        if self.login_token_lifetime.0 > LONGEST_LOGIN {
            problems.add(
                "sessions.login_token_lifetime",
                "whoever sees a login token could use it for too long",
                "write a span of time of 1h at most, or \"0s\" if nobody is to get one",
            );
        }
    }
}
