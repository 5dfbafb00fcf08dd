//! The rules, pure: what is decided on one event, given what was loaded.

use rhizome_protocol::{
    Membership,
    visibility::{HistoryVisibility, Moment, can_see},
};
use rhizome_storage::{Pos, StoredEvent};
use ruma::{ServerName, UserId};

use super::Standing;
use crate::loose_ends::is_dummy;

/// What a user may see of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the history's visibility hides it, or it says nothing.
    Hidden,
    /// Nothing, though they may know of it: it is a redaction that isn't applied.
    Unapplied,
    /// The event.
    Shown {
        /// The reader's membership at the event; `None` for an operator, who isn't there.
        membership: Option<Membership>,
        /// Whether with its content, which is kept from whom an erasure keeps it from.
        whole: bool,
    },
}

/// What was loaded for deciding on one event for a user.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// The reader's membership in the state before the event.
    pub before: Option<Membership>,
    /// When the content of its sender was erased, if it was.
    pub erased: Option<Pos>,
    /// Whether it is a redaction that isn't applied.
    pub unapplied: bool,
}

/// Decides on an event of a room's history for a user.
pub(super) fn for_user(
    event: &StoredEvent,
    user: &UserId,
    standing: &Standing,
    facts: &Facts,
) -> Verdict {
    // What happened to the reader themselves is always theirs to know.
    let own = is_membership_of(event, user);
    let after = if own {
        event.pdu.membership()
    } else {
        facts.before
    };
    let seen = own || {
        let (before, after) = moments(event, facts.before, after);
        can_see(before, after, standing.was_in_since(event))
    };
    if !seen {
        return Verdict::Hidden;
    }
    if facts.unapplied {
        return Verdict::Unapplied;
    }
    Verdict::Shown {
        membership: Some(after.unwrap_or(Membership::Leave)),
        whole: facts
            .erased
            .is_none_or(|upto| !loses_content(event) || was_there(standing, facts.before, upto)),
    }
}

/// Decides on an event within the reader's present stay, for which nothing need be loaded but whether it is a
/// redaction that isn't applied: they saw it come.
pub(super) fn within_stay(event: &StoredEvent, user: &UserId, unapplied: bool) -> Verdict {
    if unapplied {
        return Verdict::Unapplied;
    }
    let own = is_membership_of(event, user).then(|| event.pdu.membership());
    Verdict::Shown {
        membership: Some(own.map_or(Membership::Join, |own| own.unwrap_or(Membership::Leave))),
        whole: true,
    }
}

/// Decides on an event of a room's history for an operator: everything is theirs to see but what was erased.
pub(super) fn for_operator(event: &StoredEvent, erased: bool, unapplied: bool) -> Verdict {
    if unapplied {
        return Verdict::Unapplied;
    }
    Verdict::Shown {
        membership: None,
        whole: !(erased && loses_content(event)),
    }
}

/// Decides on an event that is sticky ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)) for a
/// user who is in the room: whatever the history's visibility, as it is for state. But whether a redaction is applied
/// isn't known, so it has to wait for its place in the history.
pub fn while_sticky(event: &StoredEvent) -> Verdict {
    if is_dummy(&event.pdu) {
        return Verdict::Hidden;
    }
    if event.pdu.redacts().is_some() {
        return Verdict::Unapplied;
    }
    Verdict::Shown {
        membership: Some(Membership::Join),
        whole: true,
    }
}

/// Whether a reader with this membership might see what lies right before an event, as far as that tells.
pub(super) fn sees_before(
    event: &StoredEvent,
    standing: &Standing,
    membership: Option<Membership>,
) -> bool {
    let (before, _) = moments(event, membership, membership);
    can_see(before, before, standing.was_in_since(event))
}

/// Whether a reader may know of the room as it was right after an event.
pub(super) fn sees_after(
    event: &StoredEvent,
    standing: &Standing,
    membership: Option<Membership>,
) -> bool {
    let (_, after) = moments(event, membership, membership);
    can_see(after, after, standing.was_in_since(event))
}

/// Who of a server is in the room's state at an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// Somebody is joined.
    pub joined: bool,
    /// Somebody is invited.
    pub invited: bool,
}

/// Whether an event is for a server that is in the room whoever of it was there at the event: its own, and what
/// is for everybody who comes.
pub(super) fn is_open_to(event: &StoredEvent, server: &ServerName) -> bool {
    is_of(event, server) || sees(event, Present::default())
}

/// Decides on an event for a server that is in the room, by who of it was there.
pub(super) fn for_server(event: &StoredEvent, server: &ServerName, present: Present) -> bool {
    is_of(event, server) || sees(event, present)
}

/// Whether an event is of one of the server's users, or a change of the membership of one, which is its business
/// whenever that happened.
pub(super) fn is_of(event: &StoredEvent, server: &ServerName) -> bool {
    let member = || {
        let key = event.pdu.state_key()?;
        (event.pdu.kind() == "m.room.member").then(|| <&UserId>::try_from(key).ok())?
    };
    event.pdu.sender().server_name() == server
        || member().is_some_and(|user| user.server_name() == server)
}

/// A server sees what one of its users could.
fn sees(event: &StoredEvent, present: Present) -> bool {
    let membership = match present {
        Present { joined: true, .. } => Some(Membership::Join),
        Present { invited: true, .. } => Some(Membership::Invite),
        _ => None,
    };
    let (before, after) = moments(event, membership, membership);
    // It is in the room.
    can_see(before, after, true)
}

/// Whether an erasure takes the event's content: not that of state, which makes the room; but what members say of
/// themselves is theirs.
pub(super) fn loses_content(event: &StoredEvent) -> bool {
    let sender = event.pdu.sender();
    event.pdu.state_key().is_none_or(|key| key == sender)
}

/// Whether the event is the membership of this user.
pub(super) fn is_membership_of(event: &StoredEvent, user: &UserId) -> bool {
    event.pdu.is_state("m.room.member", user.as_str())
}

/// Whether the reader could see what somebody sent before that was erased.
fn was_there(standing: &Standing, before: Option<Membership>, upto: Pos) -> bool {
    before == Some(Membership::Join)
        || standing.joined_from.is_some_and(|from| from <= upto)
        || standing.left_at.is_some_and(|left| left <= upto)
}

/// The moments right before and right after an event.
fn moments(
    event: &StoredEvent,
    before: Option<Membership>,
    after: Option<Membership>,
) -> (Moment, Moment) {
    let visibility = event.visibility.unwrap_or(HistoryVisibility::Shared);
    let then = if event.pdu.is_state("m.room.history_visibility", "") {
        HistoryVisibility::of(Some(event.pdu.content()))
    } else {
        visibility
    };
    (
        Moment {
            visibility,
            membership: before,
        },
        Moment {
            visibility: then,
            membership: after,
        },
    )
}
