//! How large an event may be.

use crate::{RoomRules, as_sent::MAX_NESTING};

/// The most bytes that a PDU may have in canonical form, signatures included.
pub(super) const MAX_BYTES: usize = 65_536;
/// The longest `sender`, `room_id`, `type`, `state_key` and event id.
pub(super) const MAX_STRING: usize = 255;
/// The longest `state_key` where it may begin with the id of the user whom the state belongs to (MSC3757).
const MAX_OWNED_KEY: usize = 511;
/// The most previous events that an event may have.
pub(super) const MAX_PREV_EVENTS: usize = 20;
/// The most auth events that an event may have.
pub(super) const MAX_AUTH_EVENTS: usize = 10;

/// No event is refused for its nesting alone while it is as large as it may be.
const _: () = assert!(MAX_NESTING >= MAX_BYTES);

/// The longest `state_key` in a version.
pub(super) fn max_state_key(rules: &RoomRules) -> usize {
    if rules.auth.owned_state {
        MAX_OWNED_KEY
    } else {
        MAX_STRING
    }
}

/// How the limits on strings count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limits {
    /// Bytes: all that we make, and what others make from v11 on.
    Bytes,
    /// Code points: what others make up to v10.
    CodePoints,
    /// Not at all: what is in our database already.
    Trusted,
}

impl Limits {
    /// For events that others made.
    pub(super) fn of_strangers(rules: &RoomRules) -> Self {
        if rules.format.limits_in_bytes {
            Self::Bytes
        } else {
            Self::CodePoints
        }
    }
}
