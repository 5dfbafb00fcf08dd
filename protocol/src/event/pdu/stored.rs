//! Events from our own database. Mostly they are only passed on, so no more of them is read than is asked for anyway.

use std::{ops::Range, sync::Arc};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use super::{Pdu, fields::names_implied_create};
use crate::{
    Membership, Object, Rejection, RoomRules,
    event::{
        limits::{Limits, MAX_AUTH_EVENTS, MAX_PREV_EVENTS},
        rejection::format_error,
        sticky,
    },
    rules::EventIdFormat,
};

/// The fields of an event whose id is its hash; all others are skipped. A field that is there twice is an error.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type")]
    kind: String,
    sender: OwnedUserId,
    #[serde(default, deserialize_with = "present")]
    room_id: Option<OwnedRoomId>,
    #[serde(default, deserialize_with = "present")]
    state_key: Option<String>,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    depth: i64,
    origin_server_ts: i64,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
    /// [`sticky::KEY`]
    #[serde(borrow, rename = "msc4354_sticky")]
    sticky: Option<&'a RawValue>,
}

/// A field that may be absent, but not `null`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

/// An event's content as it stands in its text.
pub(super) fn find_content(json: &str) -> Option<&str> {
    let event: Content<'_> = serde_json::from_str(json).ok()?;
    Some(event.content.get())
}

impl Pdu {
    /// An event from our own database: `json` is what [`Pdu::json`] gave. No limits are checked.
    ///
    /// Of state, memberships and redactions, on which rules rest, all is read, and damage in it is an error. Of
    /// other events the content is only seen to be an object of JSON; what nobody reads here (hashes,
    /// signatures, unknown fields) only to be JSON. Who wants to know whether an event is whole takes
    /// [`Pdu::from_stored_in_full`].
    pub fn from_stored(
        rules: &'static RoomRules,
        event_id: OwnedEventId,
        json: Arc<str>,
    ) -> Result<Self, Rejection> {
        // What isn't as we write it is rare. What to make of it then is said in one place.
        match Self::read_in_part(rules, &event_id, &json) {
            Some(pdu) => Ok(pdu),
            None => Self::from_stored_in_full(rules, event_id, json),
        }
    }

    /// The same, with damage anywhere in the text as an error.
    pub fn from_stored_in_full(
        rules: &'static RoomRules,
        event_id: OwnedEventId,
        json: Arc<str>,
    ) -> Result<Self, Rejection> {
        let object: Object = serde_json::from_str(&json).map_err(|error| {
            format_error(format!("the stored text of {event_id} is damaged: {error}"))
        })?;
        Self::extract(rules, object, Limits::Trusted, event_id, json)
    }

    /// `None`: something isn't as it should be, or events of this version are written otherwise.
    fn read_in_part(
        rules: &'static RoomRules,
        event_id: &EventId,
        json: &Arc<str>,
    ) -> Option<Self> {
        // An array would be taken for the fields in their order.
        if rules.format.event_id == EventIdFormat::Explicit || !json.starts_with('{') {
            return None;
        }
        let fields: Fields<'_> = serde_json::from_str(json).ok()?;
        let raw = fields.content.get();
        if !raw.starts_with('{') || fields.depth < 0 {
            return None;
        }
        let (prev_events, auth_events) = (fields.prev_events, fields.auth_events);
        if prev_events.len() > MAX_PREV_EVENTS || auth_events.len() > MAX_AUTH_EVENTS {
            return None;
        }
        let room_id = room_id(rules, &fields.kind, event_id, fields.room_id)?;
        if names_implied_create(rules, &auth_events, &room_id) {
            return None;
        }
        let content: Option<Object> = if fields.state_key.is_some() || is_read_first(&fields.kind) {
            Some(serde_json::from_str(raw).ok()?)
        } else {
            None
        };
        let said = |name: &str| content.as_ref()?.get(name);
        let redacts = if fields.kind != "m.room.redaction" {
            None
        } else if rules.format.redacts_in_content {
            said("redacts").and_then(event_id_of)
        } else {
            event_id_of(&value(fields.redacts)?)
        };
        let membership = match &content {
            Some(content) if fields.kind == "m.room.member" => Membership::of(content),
            _ => None,
        };
        Some(Self {
            rules,
            event_id: event_id.to_owned(),
            room_id,
            sender: fields.sender,
            kind: fields.kind,
            state_key: fields.state_key,
            content_at: Some(place(json, raw)?),
            content: content.map(Into::into).unwrap_or_default(),
            depth: fields.depth,
            origin_server_ts: fields.origin_server_ts,
            prev_events,
            auth_events,
            redacts,
            membership,
            sticky_ms: sticky::of(&value(fields.sticky)?),
            json: Arc::clone(json),
        })
    }
}

/// Whether rules ask for the content of an event of this type, also where it is no state.
fn is_read_first(kind: &str) -> bool {
    matches!(
        kind,
        "m.room.create" | "m.room.member" | "m.room.power_levels" | "m.room.redaction"
    )
}

/// The id of an event's room: of a v12 create event that of the event, and then it must not say one.
fn room_id(
    rules: &RoomRules,
    kind: &str,
    event_id: &EventId,
    said: Option<OwnedRoomId>,
) -> Option<OwnedRoomId> {
    if !rules.format.room_id_is_create_hash || kind != "m.room.create" {
        return said;
    }
    if said.is_some() {
        return None;
    }
    RoomId::parse(event_id.as_str().replacen('$', "!", 1)).ok()
}

/// A value, `null` if it isn't there; `None`: it is damaged.
fn value(raw: Option<&RawValue>) -> Option<Value> {
    raw.map_or(Some(Value::Null), |raw| {
        serde_json::from_str(raw.get()).ok()
    })
}

fn event_id_of(value: &Value) -> Option<OwnedEventId> {
    EventId::parse(value.as_str()?).ok()
}

/// Where a part of a text stands in it.
fn place(text: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let place = start..start.checked_add(part.len())?;
    text.get(place.clone())?;
    Some(place)
}

#[cfg(test)]
mod tests;
