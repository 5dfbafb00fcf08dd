//! `[new_accounts]`: what accounts may do at first.

use std::time::Duration;

use serde::Deserialize;

use super::Problems;
use super::rate_limits::Rate;
use super::units::Span;

/// The longest that an account is new.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// What accounts may do at first.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewAccounts {
    /// For how long they are new; `0s`: none is.
    pub age: Span,
    /// Invites, beside `rate_limits.invite`.
    pub invite: Rate,
    /// Rooms made, beside `rate_limits.join`.
    pub room: Rate,
}

impl Default for NewAccounts {
    fn default() -> Self {
        Self {
            age: Span::secs(0),
            invite: Rate {
                per_second: 0.001,
                burst: 10,
            },
            room: Rate {
                per_second: 0.0005,
                burst: 5,
            },
        }
    }
}

impl NewAccounts {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.age.0 > LONGEST {
            problems.add(
                "new_accounts.age",
                "accounts aren't new for so long",
                "write a span of time such as \"3d\", or \"0s\" if new accounts may do what others may",
            );
        }
        for (name, rate) in [("invite", self.invite), ("room", self.room)] {
            if !(rate.per_second.is_finite() && rate.per_second > 0.0) || rate.burst == 0 {
                problems.add(
                    format!("new_accounts.{name}"),
                    "a rate needs `per_second` above 0 and `burst` of at least 1",
                    "write e.g. { per_second = 0.001, burst = 10 }",
                );
            }
        }
    }
}
