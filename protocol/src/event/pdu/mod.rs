//! A parsed, immutable event.

mod fields;
mod parse;
mod stored;
#[cfg(test)]
mod tests;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::Value;

use super::limits::Limits;
use crate::{
    Incoming, Membership, Object, RoomRules, canonical,
    hash::{self, ReferenceHash},
    redact,
};

/// An event as the room's servers exchange it, its fields parsed once. Callers share it as `Arc<Pdu>`.
///
/// The content of what comes from our own database is parsed when it is first asked for, unless rules rest on it
/// ([`Pdu::from_stored`]).
#[derive(Clone)]
pub struct Pdu {
    rules: &'static RoomRules,
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    kind: String,
    state_key: Option<String>,
    /// Empty until somebody asks, if it wasn't read with the rest.
    content: OnceLock<Object>,
    /// Where it stands in the text, if that is known.
    content_at: Option<Range<usize>>,
    depth: i64,
    origin_server_ts: i64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
    membership: Option<Membership>,
    sticky_ms: Option<u32>,
    json: Arc<str>,
}

impl std::fmt::Debug for Pdu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pdu")
            .field("event_id", &self.event_id)
            .field("kind", &self.kind)
            .field("state_key", &self.state_key)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Pdu {
    fn eq(&self, other: &Self) -> bool {
        self.event_id == other.event_id && self.json == other.json
    }
}

impl Eq for Pdu {}

impl Pdu {
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

    /// The content. Who only passes it on takes [`Pdu::raw_content`], who looks for one name
    /// [`Pdu::content_field`]: they mostly do without parsing it.
    pub fn content(&self) -> &Object {
        self.content.get_or_init(|| {
            // That it is an object was seen when the event was read. What may be wrong with it still (half a
            // character, a number beyond all bounds) only happens to what was damaged in the database.
            serde_json::from_str(self.raw_content()).unwrap_or_default()
        })
    }

    /// The content as it stands in the event's text.
    pub fn raw_content(&self) -> &str {
        let found = match &self.content_at {
            Some(at) => self.json.get(at.clone()),
            None => stored::find_content(&self.json),
        };
        found.unwrap_or("{}")
    }

    /// What the content has by this name.
    pub fn content_field(&self, name: &str) -> Option<&Value> {
        if self.surely_lacks(name) {
            return None;
        }
        self.content().get(name)
    }

    /// Whether the content surely has this nowhere, neither in a name nor in a string: told without parsing it. Of a
    /// content that has been parsed already it's never said, since that is quickly looked at.
    pub fn surely_lacks(&self, text: &str) -> bool {
        if self.content.get().is_some() {
            return false;
        }
        // These are never or not always written as they are, everything else at most by its number.
        let is_escaped = |c: char| matches!(c, '"' | '\\' | '/') || c.is_control();
        if text.contains(is_escaped) {
            return false;
        }
        let raw = self.raw_content();
        !raw.contains(text) && !raw.contains("\\u")
    }

    /// Whether it is the state event `(kind, key)`.
    pub fn is_state(&self, kind: &str, key: &str) -> bool {
        self.kind == kind && self.state_key.as_deref() == Some(key)
    }

    /// Its depth, from 0 to 2^53 − 1.
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

    /// The create event that the room id implies (v12 and later); `None` in older versions and for
    /// the create event itself.
    pub fn implied_create(&self) -> Option<OwnedEventId> {
        if !self.rules.format.room_id_is_create_hash || self.kind == "m.room.create" {
            return None;
        }
        EventId::parse(self.room_id.as_str().replacen('!', "$", 1)).ok()
    }

    /// The event that this redaction redacts.
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref()
    }

    /// The membership of an `m.room.member` event.
    pub fn membership(&self) -> Option<Membership> {
        self.membership
    }

    /// For how many milliseconds it is sticky, if it is.
    pub fn sticky_ms(&self) -> Option<u32> {
        self.sticky_ms
    }

    /// Canonical JSON with hashes and signatures, without `unsigned`.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// The reference hash, the same before and after a redaction. In v3 and later the event id says it.
    pub fn reference_hash(&self) -> Option<ReferenceHash> {
        let event = Incoming::parse(self.json.as_bytes()).ok()?;
        let signed = redact::signed_text(self.rules, &event).ok()?;
        Some(hash::sha256(event.numbers.restore(signed).as_bytes()))
    }

    /// Whether its content is what its hash says. Of an event that came otherwise we have the redacted form.
    pub fn is_whole(&self) -> bool {
        let holds = || {
            let event = Incoming::parse(self.json.as_bytes()).ok()?;
            let hashed = hash::hashed_text(self.rules, &event).ok()?;
            let hash = hash::sha256(event.numbers.restore(hashed).as_bytes());
            Some(hash::claimed(&event)? == hash)
        };
        holds().unwrap_or(false)
    }

    /// The redacted form, with the same event id.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let redact = || {
            let Incoming {
                mut object,
                numbers,
            } = Incoming::parse(self.json.as_bytes()).ok()?;
            redact::redact(self.rules, &mut object);
            let json = canonical::to_canonical_with(&object, self.rules.strictness()).ok()?;
            let json = numbers.restore(json);
            let event_id = self.event_id.clone();
            if !numbers.is_empty() {
                return Self::from_stored(self.rules, event_id, json.into()).ok();
            }
            Self::extract(self.rules, object, Limits::Trusted, event_id, json.into()).ok()
        };
        // Redaction keeps every field that `extract` demands and only makes the text shorter, so it can't
        // fail on text that is as we have written it; without it, no content is the safe answer.
        redact().unwrap_or_else(|| self.bare())
    }

    /// Redacted although its text can't be, which is damaged: nobody gets that any more.
    fn bare(&self) -> Self {
        let mut content = self.content().clone();
        redact::redact_content(self.rules, &self.kind, &mut content);
        let event: Object = [("content".to_owned(), Value::Object(content.clone()))]
            .into_iter()
            .collect();
        Self {
            content: content.into(),
            content_at: None,
            json: Value::Object(event).to_string().into(),
            ..self.clone()
        }
    }
}
