//! Invites to rooms that this server isn't in: all that is known of the room is the invite.

use rhizome_protocol::{Incoming, Membership, Pdu};
use rhizome_storage::RemoteInvite;
use serde_json::Value;

use crate::push::{
    evaluate::{Alert, Asked, Known, Seen},
    wishes::Wishes,
};

/// The event of an invite from outside.
pub fn event_of(invite: &RemoteInvite) -> Option<Pdu> {
    let event = Incoming::parse(invite.event.as_bytes()).ok()?;
    Pdu::parse(invite.rules, event).ok()
}

/// What it says that the room is called.
pub fn name_told(invite: &RemoteInvite) -> Option<String> {
    let state: Vec<Value> = serde_json::from_str(&invite.stripped_state).ok()?;
    let mut names = state.iter().filter(|event| event["type"] == "m.room.name");
    let name = names.next()?["content"]["name"].as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// What an invite to a room of which nothing is known is to who is invited.
pub fn of_invite(event: &Pdu, wishes: &Wishes) -> Alert {
    let is_ours = event.membership() == Some(Membership::Invite)
        && event.state_key() == Some(wishes.user_id.as_str());
    if !is_ours || wishes.ignored.hides_invite(event.sender()) {
        return Alert::Silent;
    }
    let known = Known {
        members: Some(0),
        in_thread: Some(false),
        user: Some(Asked {
            id: Some(&wishes.user_id),
            name: None,
            follows: false,
            since: i64::MAX,
        }),
        ..Known::default()
    };
    // What depends on what nobody knows of the room is told rather than not.
    let alert = wishes.rules.set.alert(&mut Seen::new(event), &known);
    alert.unwrap_or(Alert::Notify)
}
