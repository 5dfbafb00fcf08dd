//! Which events belong into the `auth_events` of another.

use ruma::UserId;

use crate::{Membership, Object, Pdu, RoomRules, content::text};

/// Which state entries belong into the `auth_events` of an event (server-server "Auth events
/// selection"): `(type, state key)` pairs, without duplicates. In v12 without the create event, which
/// [`authorize`](super::authorize) nevertheless wants to see.
pub fn auth_keys(
    rules: &RoomRules,
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &Object,
) -> Vec<(String, String)> {
    let keys = selection(rules, kind, sender, state_key, || content);
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
        || event.content(),
    )
}

/// The content is asked for where something depends on it.
fn selection<'a>(
    rules: &RoomRules,
    kind: &str,
    sender: &'a UserId,
    state_key: Option<&'a str>,
    content: impl FnOnce() -> &'a Object,
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
        let content = content();
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

pub(super) fn third_party_token(content: &Object) -> Option<&str> {
    content
        .get("third_party_invite")?
        .get("signed")?
        .get("token")?
        .as_str()
}
