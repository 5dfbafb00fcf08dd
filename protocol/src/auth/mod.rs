//! The authorization rules.
//!
//! Step numbers are those of room version 12. Versions up to 11 lack its steps 2 and 10.4, so that
//! later steps have lower numbers there; the rules that versions 1 to 5 have beyond it are named `of v1`.
//!
//! Three of the rules are checked elsewhere, with what they need: a create event's absent `room_id` (1.2 of
//! v12) by [`Pdu::parse`], the signature for `join_authorised_via_users_server` (5.2) by
//! [`crate::receive::verify`], and those about `auth_events` (2 and 3) by [`check_auth_events`].

mod auth_events;
mod create;
mod member;
mod owned;
pub mod power;
mod power_levels;
mod selection;
mod view;

use ruma::ServerName;
use serde_json::Value;

use crate::{Membership, Pdu, Rejection};
pub use auth_events::check_auth_events;
pub use member::third_party::signing_keys;
use power::{Action, Level, Power};
pub use selection::auth_keys;
pub(crate) use selection::auth_keys_of;
pub use view::StateView;

/// Whether the event is allowed by `state`: all rules but those of [`check_auth_events`]. `state` is
/// asked for the create event too, also in v12.
pub fn authorize(event: &Pdu, state: &(impl StateView + ?Sized)) -> Result<(), Rejection> {
    let rules = event.rules();
    // 1. Create events.
    if event.kind() == "m.room.create" {
        return create::check(event);
    }
    let Some(create) = state.get("m.room.create", "") else {
        return deny("auth 2", "the room has no create event");
    };
    // 2. The room id names the create event.
    if rules.format.room_id_is_create_hash && create.room_id() != event.room_id() {
        return deny("auth 2", "the room id doesn't name the room's create event");
    }
    // 4. Rooms may be closed to other servers.
    if create.content().get("m.federate") == Some(&Value::Bool(false))
        && event.sender().server_name() != create.sender().server_name()
    {
        return deny("auth 4", "the room doesn't federate");
    }
    // 4 of versions up to 5.
    if rules.auth.special_aliases && event.kind() == "m.room.aliases" {
        return check_aliases(event);
    }
    let power = Power::of(rules, state);
    // 5. Memberships.
    if event.kind() == "m.room.member" {
        return member::check(event, create, power, state);
    }
    // 6. Only members send.
    if membership(state, event.sender().as_str()) != Some(Membership::Join) {
        return deny("auth 6", format!("{} is not in the room", event.sender()));
    }
    let level = power.user(event.sender());
    // 7. Third-party invites need the invite level only.
    if event.kind() == "m.room.third_party_invite" {
        return allow_if(
            level >= Level::Int(power.action(Action::Invite)),
            "auth 7.1",
            || format!("{} may not invite", event.sender()),
        );
    }
    // 8. The event type's required power level.
    let required = power.event(event.kind(), event.state_key().is_some());
    if level < Level::Int(required) {
        return deny(
            "auth 8",
            format!(
                "{} may not send {}: that needs power level {required}",
                event.sender(),
                event.kind()
            ),
        );
    }
    // 9. A user's own state.
    if rules.auth.owned_state {
        owned::check(event, level, power)?;
    } else if let Some(key) = event.state_key()
        && key.starts_with('@')
        && key != event.sender().as_str()
    {
        return deny("auth 9", format!("only {key} may set this state"));
    }
    // 10. Power levels.
    if event.kind() == "m.room.power_levels" {
        return power_levels::check(event, create, level, state);
    }
    // 11 of versions 1 and 2.
    if rules.auth.special_redaction && event.kind() == "m.room.redaction" {
        return check_redaction(event, power);
    }
    // 11. Otherwise, allow.
    Ok(())
}

/// 4 of versions up to 5: a server's own aliases.
fn check_aliases(event: &Pdu) -> Result<(), Rejection> {
    let own = event.state_key().is_some_and(|key| {
        ServerName::parse(key).is_ok_and(|server| &*server == event.sender().server_name())
    });
    allow_if(own, "auth 4 of v1", || {
        "aliases are set by the server that has them".into()
    })
}

/// 11 of versions 1 and 2: redactions.
fn check_redaction(event: &Pdu, power: Power<'_>) -> Result<(), Rejection> {
    // Event ids of these versions have domains, always.
    let own = event.redacts().and_then(|id| id.server_name()) == event.event_id().server_name();
    allow_if(
        own || power.may(event.sender(), Action::Redact),
        "auth 11 of v1",
        || format!("{} may not redact the events of others", event.sender()),
    )
}

/// The current membership of `user`.
fn membership(state: &(impl StateView + ?Sized), user: &str) -> Option<Membership> {
    state
        .get("m.room.member", user)
        .and_then(|event| event.membership())
}

fn deny<T>(rule: &'static str, reason: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection::new(rule, reason))
}

fn allow_if(
    allowed: bool,
    rule: &'static str,
    reason: impl FnOnce() -> String,
) -> Result<(), Rejection> {
    if allowed {
        Ok(())
    } else {
        deny(rule, reason())
    }
}
