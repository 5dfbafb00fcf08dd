//! Why an event is refused.

use crate::canonical::JsonError;

/// The reason why an event is invalid or not allowed.
///
/// `Display` is fit for an operator's log and for the `error` field of an answer: it names the event's
/// fault, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({rule})")]
pub struct Rejection {
    /// Where the specification demands it, e.g. `auth 5.3.1` or `PDU format`.
    pub rule: &'static str,
    /// A sentence that says what is wrong.
    pub reason: String,
}

impl Rejection {
    /// The rule of what has no event's form.
    pub const FORMAT: &'static str = "PDU format";

    /// The rule of an event that is over a limit on sizes: callers answer it in a way of its own.
    pub const SIZE: &'static str = "size limits";

    /// The rule of a state key that can't be anybody's (MSC3757): nobody's power lets them set it.
    pub const OWNED_KEY: &'static str = "auth 9 of MSC3757";

    /// The rule of an event that the room's policy server hasn't signed.
    pub const POLICY: &'static str = "policy server";

    /// A rejection by `rule` for `reason`.
    pub fn new(rule: &'static str, reason: impl Into<String>) -> Self {
        Self {
            rule,
            reason: reason.into(),
        }
    }
}

pub(super) fn format_error(reason: impl Into<String>) -> Rejection {
    Rejection::new(Rejection::FORMAT, reason)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn json_error(error: JsonError) -> Rejection {
    let rule = match error {
        JsonError::BadNumber(_) => "canonical JSON",
        _ => Rejection::FORMAT,
    };
    Rejection::new(rule, error.to_string())
}

pub(super) fn size_error(reason: String) -> Rejection {
    Rejection::new(Rejection::SIZE, reason)
}
