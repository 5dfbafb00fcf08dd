//! The authorization rules.
//!
//! Step numbers are those of room version 12. Versions up to 11 lack its steps 2 and 10.4, so that
//! later steps have lower numbers there; the rules that versions 1 to 5 have beyond it are named `of v1`.
//!
//! Three of the rules are checked elsewhere, with what they need: a create event's absent `room_id` (1.2 of
//! v12) by [`Pdu::parse`], the signature for `join_authorised_via_users_server` (5.2) by
//! [`crate::receive::verify`], and those about `auth_events` (2 and 3) by [`check_auth_events`].

mod member;
pub mod power;
mod power_levels;

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher,
    sync::Arc,
};

use ruma::{ServerName, UserId};
use serde_json::Value;

use crate::{
    Membership, Object, Pdu, Rejection, RoomRules, StateKey,
    content::text,
    power::{Action, Level, Power},
};

/// The state of a room as the rules see it.
pub trait StateView {
    /// The state event `(kind, state_key)`, if there is one.
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>>;
}

impl<T: StateView + ?Sized> StateView for &T {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        (**self).get(kind, state_key)
    }
}

impl StateView for [Arc<Pdu>] {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        self.iter().find(|event| event.is_state(kind, state_key))
    }
}

impl StateView for Vec<Arc<Pdu>> {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        StateView::get(self.as_slice(), kind, state_key)
    }
}

impl<S: BuildHasher> StateView for HashMap<StateKey, Arc<Pdu>, S> {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        HashMap::get(self, &StateKey::new(kind, state_key))
    }
}

/// Which state entries belong into the `auth_events` of an event (server-server "Auth events
/// selection"): `(type, state key)` pairs, without duplicates. In v12 without the create event, which
/// [`authorize`] nevertheless wants to see.
pub fn auth_keys(
    rules: &RoomRules,
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &Object,
) -> Vec<(String, String)> {
    let keys = selection(rules, kind, sender, state_key, content);
    keys.into_iter()
        .map(|(kind, key)| (kind.to_owned(), key.to_owned()))
        .collect()
}

/// [`auth_keys`] of an event, borrowed.
pub(crate) fn auth_keys_of(event: &Pdu) -> Vec<(&'static str, &str)> {
    selection(
        event.rules(),
        event.kind(),
        event.sender(),
        event.state_key(),
        event.content(),
    )
}

fn selection<'a>(
    rules: &RoomRules,
    kind: &str,
    sender: &'a UserId,
    state_key: Option<&'a str>,
    content: &'a Object,
) -> Vec<(&'static str, &'a str)> {
    let mut keys = Vec::with_capacity(6);
    if kind == "m.room.create" {
        return keys;
    }
    if rules.format.create_in_auth_events {
        keys.push(("m.room.create", ""));
    }
    keys.push(("m.room.power_levels", ""));
    keys.push(("m.room.member", sender.as_str()));
    if kind == "m.room.member" {
        let mut member = |user: &'a str| {
            if !keys.contains(&("m.room.member", user)) {
                keys.push(("m.room.member", user));
            }
        };
        if let Some(target) = state_key {
            member(target);
        }
        let membership = Membership::of(content);
        if membership == Some(Membership::Join)
            && rules.auth.restricted
            && let Some(authoriser) = text(content, "join_authorised_via_users_server")
        {
            member(authoriser);
        }
        if matches!(membership, Some(Membership::Join | Membership::Invite))
            || (membership == Some(Membership::Knock) && rules.auth.knock)
        {
            keys.push(("m.room.join_rules", ""));
        }
        if membership == Some(Membership::Invite)
            && let Some(token) = third_party_token(content)
        {
            keys.push(("m.room.third_party_invite", token));
        }
    }
    keys
}

fn third_party_token(content: &Object) -> Option<&str> {
    content
        .get("third_party_invite")?
        .get("signed")?
        .get("token")?
        .as_str()
}

/// The rules about the auth events that an event names (2 and 3). `auth_events` holds each with whether it
/// was rejected, in any order; in v12 it may hold the implied create event, whose rejection counts too.
pub fn check_auth_events(event: &Pdu, auth_events: &[(Arc<Pdu>, bool)]) -> Result<(), Rejection> {
    if event.kind() == "m.room.create" {
        return Ok(());
    }
    let implied_create = event.implied_create();
    let expected = auth_keys_of(event);
    let mut seen = HashSet::with_capacity(auth_events.len());
    let mut has_create = implied_create.is_some();
    for (auth_event, rejected) in auth_events {
        let id = auth_event.event_id();
        let is_create = auth_event.is_state("m.room.create", "");
        // 2. The room id names an accepted create event.
        if implied_create.as_deref() == Some(id) {
            if !is_create || *rejected {
                return deny(
                    "auth 2",
                    format!("{id}, which the room id implies, is no accepted create event"),
                );
            }
            continue;
        }
        let key = (
            auth_event.kind(),
            auth_event.state_key().unwrap_or_default(),
        );
        // 3.1. No duplicates.
        if !seen.insert(key) {
            return deny(
                "auth 3.1",
                format!("the auth events name ({}, {:?}) twice", key.0, key.1),
            );
        }
        // 3.2. None but those that the selection names.
        if auth_event.state_key().is_none() || !expected.contains(&key) {
            return deny(
                "auth 3.2",
                format!(
                    "({}, {:?}) doesn't belong into the auth events",
                    key.0, key.1
                ),
            );
        }
        // 3.3. None that was rejected.
        if *rejected {
            return deny("auth 3.3", format!("the auth event {id} was rejected"));
        }
        // 3.5. All of the same room.
        if auth_event.room_id() != event.room_id() {
            return deny(
                "auth 3.5",
                format!("the auth event {id} is of another room"),
            );
        }
        has_create |= is_create;
    }
    // 2.4 of versions up to 11: the create event is among them.
    if !has_create {
        return deny("auth 3.4", "there is no create event among the auth events");
    }
    Ok(())
}

/// Whether the event is allowed by `state`: all rules but those of [`check_auth_events`]. `state` is
/// asked for the create event too, also in v12.
pub fn authorize(event: &Pdu, state: &(impl StateView + ?Sized)) -> Result<(), Rejection> {
    let rules = event.rules();
    // 1. Create events.
    if event.kind() == "m.room.create" {
        return check_create(event);
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
    if let Some(key) = event.state_key()
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

/// 1. Create events.
fn check_create(event: &Pdu) -> Result<(), Rejection> {
    let (rules, content) = (event.rules(), event.content());
    // 1.1. Nothing comes before it.
    if !event.prev_events().is_empty() {
        return deny("auth 1.1", "a create event has no previous events");
    }
    // 1.2. Up to v11, the room id is of the sender's domain. (That v12's has none, parsing checks.)
    if !rules.format.room_id_is_create_hash
        && event
            .room_id()
            .as_str()
            .split_once(':')
            .map(|(_, domain)| domain)
            != Some(event.sender().server_name().as_str())
    {
        return deny("auth 1.2", "the room id is not of the sender's server");
    }
    // 1.3. A version that is known, and the one that the event is read by.
    match content.get("room_version") {
        None => {}
        Some(version) if version.as_str().and_then(RoomRules::named).is_some() => {}
        Some(version) => {
            return deny(
                "auth 1.3",
                format!("the room version {version} is not known"),
            );
        }
    }
    // 1.4 of versions up to 10: `creator`.
    if rules.format.creator_in_content && !content.contains_key("creator") {
        return deny("auth 1.4", "a create event of this version needs `creator`");
    }
    // 1.4 of v12: `additional_creators` are user ids.
    if rules.auth.privileged_creators
        && let Some(creators) = content.get("additional_creators")
    {
        let user_id = |value: &Value| value.as_str().is_some_and(|id| UserId::parse(id).is_ok());
        if !creators
            .as_array()
            .is_some_and(|creators| creators.iter().all(user_id))
        {
            return deny(
                "auth 1.4",
                "`additional_creators` must be an array of user ids",
            );
        }
    }
    // 1.5. Otherwise, allow.
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
