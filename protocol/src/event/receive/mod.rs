//! The checks on a received PDU that need no room (server-server "Checks performed on receipt of a PDU", 1–3).

mod signatures;
#[cfg(test)]
mod tests;

use ruma::{OwnedEventId, OwnedServerName, ServerName};

use super::{
    id,
    limits::Limits,
    rejection::{format_error, json_error},
};
use crate::{Incoming, Pdu, Rejection, RoomRules, hash, redact};
use signatures::{check_authoriser, check_signatures, must_sign};
pub use signatures::{keys_valid_at, sender_must_sign, servers_to_sign, signatures_of};

/// The keys of other servers that are at hand.
pub trait Keys {
    /// The key `key_id` of `server` for an event made at `valid_at_ms` (milliseconds since 1970).
    ///
    /// A key counts as valid up to the lesser of its `valid_until_ts` and 7 days after it was fetched. For
    /// events of room versions 1 to 4, which any key of their server may have signed, the time is 0.
    fn key(&self, server: &ServerName, key_id: &str, valid_at_ms: i64) -> KeyLookup;
}

/// What [`Keys`] knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLookup {
    /// The public key, valid at the time asked about.
    Found([u8; 32]),
    /// Not at hand, or at hand but perhaps renewed since: fetch it and ask again.
    Unknown,
    /// Known not to be valid at that time, or not to be had even by fetching.
    Expired,
}

/// Why there is no [`Pdu`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The event is invalid: drop it.
    Invalid(Rejection),
    /// The event is invalid: it has a signature in the name of this server, with a key that was valid, which that key
    /// hasn't made.
    Forged(OwnedServerName, Rejection),
    /// Fetch these keys `(server, key id)` and ask again; answer [`KeyLookup::Expired`] for what can't be had.
    NeedKeys(Vec<(OwnedServerName, String)>),
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Invalid(rejection)
    }
}

/// Checks format (1), signatures (2) and content hash (3). An event whose content hash differs comes back redacted.
pub fn verify(
    rules: &'static RoomRules,
    event: impl Into<Incoming>,
    keys: &impl Keys,
) -> Result<Pdu, Refusal> {
    let mut event: Incoming = event.into();
    event.object.remove("unsigned");
    // The text before anything else is known is bounded by what the transport let through.
    let signed = redact::signed_text(rules, &event).map_err(json_error)?;
    let signed = event.numbers.restore(signed);
    // Taking the event apart moves its content, so its hash is taken first.
    let hashed = hash::hashed_text(rules, &event).map_err(json_error)?;
    let content_hash = hash::sha256(event.numbers.restore(hashed).as_bytes());
    let claimed_hash = hash::claimed(&event)
        .ok_or_else(|| format_error("`hashes` must hold `sha256` in base64"))?;
    let signatures = event.get("signatures").cloned();

    // 1. The format.
    let pdu = Pdu::assemble(rules, event, Limits::of_strangers(rules), Some(&signed))?;
    check_authoriser(&pdu)?;

    // 3. The content hash. It goes first: whose signatures are needed depends on what is kept of the event.
    let pdu = if claimed_hash == content_hash {
        pdu
    } else {
        pdu.redacted()
    };

    // 2. The signatures.
    let mut needed = Vec::new();
    for server in must_sign(&pdu) {
        check_signatures(
            &pdu,
            &server,
            signatures.as_ref(),
            &signed,
            keys,
            &mut needed,
        )?;
    }
    if !needed.is_empty() {
        return Err(Refusal::NeedKeys(needed));
    }
    Ok(pdu)
}

/// The id that an event has, whatever else is wrong with it: for naming what was refused.
pub fn event_id(rules: &RoomRules, event: &Incoming) -> Option<OwnedEventId> {
    let signed = redact::signed_text(rules, event).ok()?;
    id::event_id(rules, event, &event.numbers.restore(signed)).ok()
}
