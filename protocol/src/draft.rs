//! From an unsigned local event to a signed PDU.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, ServerName};

use crate::{Object, Pdu, Rejection, RoomRules, sign::KeyPair};

/// What a local user wants to send: independent of where in the room's graph it lands.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The room; `None` for a create event whose room id is its hash (v12).
    pub room_id: Option<OwnedRoomId>,
    /// Who sends it.
    pub sender: OwnedUserId,
    /// The event type.
    pub kind: String,
    /// The state key, if it is a state event.
    pub state_key: Option<String>,
    /// The content.
    pub content: Object,
    /// The event that an `m.room.redaction` redacts; put where the room version has it.
    pub redacts: Option<OwnedEventId>,
}

/// Where in the room's graph the event stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// The forward extremities that it follows.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it (without the create event in v12).
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the deepest of `prev_events`.
    pub depth: i64,
    /// Milliseconds since 1970.
    pub origin_server_ts: i64,
}

/// The object of a draft with `room_id`, `sender`, …, but without hashes and signatures: the template
/// that `make_join` and its like hand out.
pub fn template(_rules: &RoomRules, _draft: &Draft, _place: &Place) -> Object {
    unimplemented!()
}

/// Hashes, signs and parses the event. Our own events count their string limits in bytes always.
pub fn build(
    _rules: &'static RoomRules,
    _draft: &Draft,
    _place: &Place,
    _server: &ServerName,
    _key: &KeyPair,
) -> Result<Pdu, Rejection> {
    unimplemented!()
}

/// Hashes and signs a finished object, e.g. the filled-in template of another server's `make_join`.
pub fn finish(
    _rules: &'static RoomRules,
    _object: Object,
    _server: &ServerName,
    _key: &KeyPair,
) -> Result<Pdu, Rejection> {
    unimplemented!()
}
