//! `[sessions]`: how long what clients log in with is good.

use std::time::Duration;

use serde::Deserialize;

use super::Problems;
use super::units::Span;

/// The least that an access token lives: clients refresh it in time.
const SHORTEST: Duration = Duration::from_secs(30);
/// The longest that a login token lives.
const LONGEST_LOGIN: Duration = Duration::from_hours(1);

/// How long what clients log in with is good.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Access tokens of clients that can refresh them.
    pub access_token_lifetime: Span,
    /// Tokens with which one device lets another log in; `0s`: there are none.
    pub login_token_lifetime: Span,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            access_token_lifetime: Span::secs(60 * 60),
            login_token_lifetime: Span::secs(2 * 60),
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
        if self.login_token_lifetime.0 > LONGEST_LOGIN {
            problems.add(
                "sessions.login_token_lifetime",
                "whoever sees a login token could use it for too long",
                "write a span of time of 1h at most, or \"0s\" if nobody is to get one",
            );
        }
    }
}
