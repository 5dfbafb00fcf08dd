//! The checks on a received PDU that need no room (server-server "Checks performed on receipt of a PDU", 1–3).

use ruma::{OwnedServerName, ServerName};

use crate::{Object, Pdu, Rejection, RoomRules};

/// The keys of other servers that are at hand.
pub trait Keys {
    /// The key `key_id` of `server` for an event made at `valid_at_ms`.
    fn key(&self, server: &ServerName, key_id: &str, valid_at_ms: i64) -> KeyLookup;
}

/// What [`Keys`] knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLookup {
    /// The public key, valid at the time asked about.
    Found([u8; 32]),
    /// Not at hand, or at hand but perhaps renewed since: fetch it and ask again.
    Unknown,
    /// Known not to be valid at that time, or known not to exist.
    Expired,
}

/// Why there is no [`Pdu`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The event is invalid: drop it.
    Invalid(Rejection),
    /// Fetch these keys `(server, key id)` and ask again.
    NeedKeys(Vec<(OwnedServerName, String)>),
}

/// Checks format, signatures and content hash. An event whose content hash differs comes back redacted.
pub fn verify(
    _rules: &'static RoomRules,
    _object: Object,
    _keys: &impl Keys,
) -> Result<Pdu, Refusal> {
    unimplemented!()
}

/// The servers whose signatures an event needs: the sender's, that of `join_authorised_via_users_server`
/// for a restricted join, and in v1 and v2 the event id's.
pub fn servers_to_sign(_rules: &RoomRules, _pdu: &Object) -> Vec<OwnedServerName> {
    unimplemented!()
}
