//! Whose signatures an event needs, and whether they hold.

use ruma::{EventId, OwnedServerName, ServerName, UserId};
use serde_json::Value;

use super::{KeyLookup, Keys, Refusal};
use crate::{
    Membership, Object, Pdu, Rejection, RoomRules, content::text, hash, policy,
    rules::EventIdFormat, sign,
};

/// How many of one server's signatures on one event are looked at.
const MAX_SIGNATURES: usize = 16;

/// The servers whose signatures an event needs, as it is kept: the sender's (unless it is an invite that
/// comes of a third-party invite), that of `join_authorised_via_users_server` (auth rule 5.2), and in v1 and
/// v2 the event id's.
pub(super) fn must_sign(pdu: &Pdu) -> Vec<OwnedServerName> {
    let content = pdu.content();
    let is_member = pdu.kind() == "m.room.member";
    let sender = sender_must_sign(pdu).then(|| pdu.sender().server_name().to_owned());
    let authoriser = (is_member && pdu.rules().auth.restricted)
        .then(|| text(content, "join_authorised_via_users_server").and_then(server_of));
    let explicit = pdu.rules().format.event_id == EventIdFormat::Explicit;
    let of_id = explicit.then(|| pdu.event_id().server_name().map(ToOwned::to_owned));
    each_once([sender, authoriser.flatten(), of_id.flatten()])
}

/// Whether an event needs the signature of its sender's server. An invite that comes of a third-party invite doesn't: until its
/// auth events are known, anybody may have made it.
pub fn sender_must_sign(pdu: &Pdu) -> bool {
    // What makes auth rule 5.4.1 ask for the signature of the third party instead.
    let is_third_party = pdu.kind() == "m.room.member"
        && pdu.membership() == Some(Membership::Invite)
        && (pdu.content().get("third_party_invite")).is_some_and(Value::is_object);
    !is_third_party
}

/// The servers whose signatures an event may need, so that their keys can be fetched: whether it needs the
/// sender's can't be told before its hash is known. Names that aren't valid are left out;
/// [`verify`](super::verify) refuses such events.
pub fn servers_to_sign(rules: &RoomRules, event: &Object) -> Vec<OwnedServerName> {
    let sender = text(event, "sender").and_then(server_of);
    let content = event.get("content").and_then(Value::as_object);
    let authoriser = content
        .filter(|_| rules.auth.restricted && text(event, "type") == Some("m.room.member"))
        .and_then(|content| text(content, "join_authorised_via_users_server"));
    let of_id = text(event, "event_id")
        .filter(|_| rules.format.event_id == EventIdFormat::Explicit)
        .and_then(|id| EventId::parse(id).ok())
        .and_then(|id| id.server_name().map(ToOwned::to_owned));
    each_once([sender, authoriser.and_then(server_of), of_id])
}

fn each_once(servers: [Option<OwnedServerName>; 3]) -> Vec<OwnedServerName> {
    let mut once = Vec::with_capacity(2);
    for server in servers.into_iter().flatten() {
        if !once.contains(&server) {
            once.push(server);
        }
    }
    once
}

/// The time at which the keys that signed an event made at `origin_server_ts` must have been valid: any
/// time will do up to v4 (v5 "Signing key validity period").
pub fn keys_valid_at(rules: &RoomRules, origin_server_ts: i64) -> i64 {
    if rules.format.key_validity {
        origin_server_ts
    } else {
        0
    }
}

fn server_of(user: &str) -> Option<OwnedServerName> {
    UserId::parse(user)
        .ok()
        .map(|user| user.server_name().to_owned())
}

/// Auth rule 5.2 demands a signature of the server of a user id, so it must be one.
pub(super) fn check_authoriser(pdu: &Pdu) -> Result<(), Rejection> {
    if !pdu.rules().auth.restricted || pdu.kind() != "m.room.member" {
        return Ok(());
    }
    match pdu.content().get("join_authorised_via_users_server") {
        Some(value) if value.as_str().and_then(server_of).is_none() => Err(Rejection::new(
            "auth 5.2",
            "`join_authorised_via_users_server` must be a user id",
        )),
        _ => Ok(()),
    }
}

/// A server's signatures on an event that may be by keys which it publishes. That of a policy server isn't: it is passed
/// over here, unless the server has called its only key so.
pub fn signatures_of<'a>(
    signatures: Option<&'a Value>,
    server: &ServerName,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    let by_key = signatures
        .and_then(|all| all.get(server.as_str()))
        .and_then(Value::as_object);
    let ed25519 = by_key
        .into_iter()
        .flatten()
        .filter(|(id, _)| id.starts_with("ed25519:"));
    let has_own = ed25519.clone().any(|(id, _)| id != policy::KEY_ID);
    ed25519.filter(move |(id, _)| !has_own || *id != policy::KEY_ID)
}

/// Whether `server` signed the event: all of its signatures with known valid keys hold, and there is one.
pub(super) fn check_signatures(
    pdu: &Pdu,
    server: &ServerName,
    signatures: Option<&Value>,
    signed: &str,
    keys: &impl Keys,
    needed: &mut Vec<(OwnedServerName, String)>,
) -> Result<(), Refusal> {
    const RULE: &str = "PDU signatures";
    let signatures = signatures_of(signatures, server);
    let mut valid = false;
    let mut unknown = Vec::new();
    let valid_at = keys_valid_at(pdu.rules(), pdu.origin_server_ts());
    for (key_id, signature) in signatures.take(MAX_SIGNATURES) {
        match keys.key(server, key_id, valid_at) {
            KeyLookup::Found(public) => {
                let signature = signature.as_str().and_then(hash::from_base64_exact);
                if !signature.is_some_and(|signature| {
                    sign::verify_bytes(&public, signed.as_bytes(), &signature)
                }) {
                    let reason = format!("the signature of {server} with {key_id} is wrong");
                    let rejection = Rejection::new(RULE, reason);
                    return Err(Refusal::Forged(server.to_owned(), rejection));
                }
                valid = true;
            }
            KeyLookup::Unknown => unknown.push((server.to_owned(), key_id.clone())),
            KeyLookup::Expired => {}
        }
    }
    if !valid && unknown.is_empty() {
        let reason = format!("{server} has not signed the event with a valid key");
        return Err(Rejection::new(RULE, reason).into());
    }
    if !valid {
        needed.append(&mut unknown);
    }
    Ok(())
}
