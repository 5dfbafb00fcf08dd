//! From an object to a [`Pdu`].

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde_json::Value;

use super::{
    Pdu,
    fields::{
        check_length, check_shape, integer, names_implied_create, take_event_ids, take_no_longer,
        take_string,
    },
};
use crate::{
    Incoming, Membership, Object, Rejection, RoomRules, canonical,
    content::text,
    event::{
        id::event_id,
        limits::{Limits, MAX_AUTH_EVENTS, MAX_BYTES, MAX_PREV_EVENTS, max_state_key},
        rejection::{format_error, json_error, size_error},
        sticky,
    },
    redact,
};

impl Pdu {
    /// Checks the format and limits of a received event and computes its id. `unsigned` is dropped; hashes
    /// and signatures are not verified: [`crate::receive::verify`] does.
    ///
    /// An `event_id` in an event whose id is its hash stays in [`Pdu::json`] (its hashes cover it), but
    /// means nothing.
    pub fn parse(rules: &'static RoomRules, event: impl Into<Incoming>) -> Result<Self, Rejection> {
        Self::assemble(rules, event.into(), Limits::of_strangers(rules), None)
    }

    /// Checks `object` and makes the event of it. `signed` is the event's [`redact::signed_text`], if the
    /// caller has it already.
    pub(in crate::event) fn assemble(
        rules: &'static RoomRules,
        event: Incoming,
        limits: Limits,
        signed: Option<&str>,
    ) -> Result<Self, Rejection> {
        let Incoming {
            mut object,
            numbers,
        } = event;
        object.remove("unsigned");
        check_shape(&object)?;
        let json = canonical::to_canonical_with(&object, rules.strictness()).map_err(json_error)?;
        let json = numbers.restore(json);
        if json.len() > MAX_BYTES {
            return Err(size_error(format!(
                "the event has {} bytes, more than {MAX_BYTES}",
                json.len()
            )));
        }
        let event_id = if let Some(signed) = signed {
            event_id(rules, &object, signed)?
        } else {
            let signed = redact::signed_text(rules, &object).map_err(json_error)?;
            event_id(rules, &object, &numbers.restore(signed))?
        };
        if !numbers.is_empty() {
            // What stood for them is nothing to read.
            object =
                serde_json::from_str(&json).map_err(|error| format_error(error.to_string()))?;
        }
        let event = Self::extract(rules, object, limits, event_id, json.into())?;
        // Only where servers choose the ids is that possible at all.
        if event.names(&event.event_id) {
            return Err(format_error("an event can't build on itself"));
        }
        Ok(event)
    }

    /// Reads the fields. Where they stand only this place knows, and the one for [what is stored](Pdu::from_stored).
    pub(super) fn extract(
        rules: &'static RoomRules,
        mut object: Object,
        limits: Limits,
        event_id: OwnedEventId,
        json: Arc<str>,
    ) -> Result<Self, Rejection> {
        check_length("event_id", event_id.as_str(), limits)?;
        let kind = take_string(&mut object, "type", limits)?;
        let sender = take_string(&mut object, "sender", limits)?;
        let sender = UserId::parse(&sender)
            .map_err(|error| format_error(format!("`sender` {sender:?} is no user id: {error}")))?;
        let state_key = if object.contains_key("state_key") {
            let most = max_state_key(rules);
            Some(take_no_longer(&mut object, "state_key", limits, most)?)
        } else {
            None
        };
        let room_id = Self::take_room_id(rules, &mut object, &kind, &event_id, limits)?;
        let prev_events =
            take_event_ids(rules, &mut object, "prev_events", MAX_PREV_EVENTS, limits)?;
        let auth_events =
            take_event_ids(rules, &mut object, "auth_events", MAX_AUTH_EVENTS, limits)?;
        let depth = integer(&object, "depth")?;
        if depth < 0 {
            return Err(format_error("`depth` must not be negative"));
        }
        let origin_server_ts = integer(&object, "origin_server_ts")?;
        let Some(Value::Object(content)) = object.remove("content") else {
            return Err(format_error("`content` must be an object"));
        };
        if names_implied_create(rules, &auth_events, &room_id) {
            return Err(format_error(
                "`auth_events` must not name the create event, which the room id implies",
            ));
        }

        let redacts = if kind != "m.room.redaction" {
            None
        } else if rules.format.redacts_in_content {
            text(&content, "redacts")
        } else {
            text(&object, "redacts")
        };
        let redacts = redacts.and_then(|id| EventId::parse(id).ok());
        let membership = if kind == "m.room.member" {
            Membership::of(&content)
        } else {
            None
        };
        Ok(Self {
            rules,
            event_id,
            room_id,
            sender,
            kind,
            state_key,
            content: content.into(),
            content_at: None,
            depth,
            origin_server_ts,
            prev_events,
            auth_events,
            redacts,
            membership,
            sticky_ms: sticky::duration(&object),
            json,
        })
    }

    /// Whether it follows this event, or rests on it.
    fn names(&self, id: &EventId) -> bool {
        (self.prev_events.iter().chain(&self.auth_events)).any(|named| named == id)
    }

    fn take_room_id(
        rules: &RoomRules,
        object: &mut Object,
        kind: &str,
        event_id: &EventId,
        limits: Limits,
    ) -> Result<OwnedRoomId, Rejection> {
        let room_id = if rules.format.room_id_is_create_hash && kind == "m.room.create" {
            // Auth rule 1.2 of room version 12.
            if object.contains_key("room_id") {
                return Err(Rejection::new(
                    "auth 1.2",
                    "a create event of this version has no `room_id`",
                ));
            }
            event_id.as_str().replacen('$', "!", 1)
        } else {
            take_string(object, "room_id", limits)?
        };
        RoomId::parse(&room_id)
            .map_err(|error| format_error(format!("`room_id` {room_id:?} is no room id: {error}")))
    }
}
