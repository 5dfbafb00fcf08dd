//! A parsed, immutable event.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use crate::{Membership, Object, Rejection, RoomRules};

/// The most bytes that a PDU may have in canonical form, signatures included.
pub const MAX_BYTES: usize = 65_536;

/// An event as the room's servers exchange it, its fields parsed once. Callers share it as `Arc<Pdu>`.
#[derive(Clone)]
pub struct Pdu {
    rules: &'static RoomRules,
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    kind: String,
    state_key: Option<String>,
    content: Object,
    depth: i64,
    origin_server_ts: i64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
    membership: Option<Membership>,
    json: Arc<str>,
}

impl std::fmt::Debug for Pdu {
    /// The id and the type; the rest is in the JSON and would drown a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pdu")
            .field("event_id", &self.event_id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Pdu {
    /// Checks the format and limits of a received event and computes its id. `unsigned` (and, where the
    /// id is a hash, `event_id`) is dropped; hashes and signatures are not verified: [`crate::receive::verify`] does.
    pub fn parse(_rules: &'static RoomRules, _object: Object) -> Result<Self, Rejection> {
        unimplemented!()
    }

    /// An event from our own database: `json` is what [`Pdu::json`] gave. No limits are checked.
    pub fn from_stored(
        _rules: &'static RoomRules,
        _event_id: OwnedEventId,
        _json: Arc<str>,
    ) -> Result<Self, Rejection> {
        unimplemented!()
    }

    /// The rules of the event's room version.
    pub fn rules(&self) -> &'static RoomRules {
        self.rules
    }
    /// The event's id.
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }
    /// The room's id; of a v12 create event derived from its hash.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }
    /// Who sent it.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }
    /// The event type.
    pub fn kind(&self) -> &str {
        &self.kind
    }
    /// The state key; `None` for an event that is no state.
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }
    /// The content.
    pub fn content(&self) -> &Object {
        &self.content
    }
    /// Whether it is the state event `(kind, key)`.
    pub fn is_state(&self, kind: &str, key: &str) -> bool {
        self.kind == kind && self.state_key.as_deref() == Some(key)
    }
    /// Its depth, 0 ≤ depth ≤ 2^63−1.
    pub fn depth(&self) -> i64 {
        self.depth
    }
    /// When its server says it was made, in milliseconds since 1970.
    pub fn origin_server_ts(&self) -> i64 {
        self.origin_server_ts
    }
    /// The events right before it.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }
    /// The events that allow it; in v12 without the create event, which the room id implies.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }
    /// The event that this redaction redacts.
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref()
    }
    /// The membership of an `m.room.member` event.
    pub fn membership(&self) -> Option<Membership> {
        self.membership
    }
    /// Canonical JSON with hashes and signatures, without `unsigned`, without `event_id` where that is a hash.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }
    /// The redacted form, with the same event id.
    #[must_use]
    pub fn redacted(&self) -> Self {
        unimplemented!()
    }
}
