//! The fields of an event's object, each checked as it is taken out.

use ruma::{EventId, OwnedEventId, RoomId};
use serde_json::Value;

use crate::{
    Object, Rejection, RoomRules,
    event::{
        limits::{Limits, MAX_STRING},
        rejection::{format_error, size_error},
    },
    rules::EventIdFormat,
};

/// The types of the fields that hashing and signing rely on but `extract` doesn't read.
pub(super) fn check_shape(object: &Object) -> Result<(), Rejection> {
    if !object.get("content").is_some_and(Value::is_object) {
        return Err(format_error("`content` must be an object"));
    }
    match object.get("hashes") {
        Some(Value::Object(hashes)) if hashes.get("sha256").is_some_and(Value::is_string) => {}
        _ => {
            return Err(format_error(
                "`hashes` must be an object with a string `sha256`",
            ));
        }
    }
    match object.get("signatures") {
        Some(Value::Object(signatures)) if signatures.values().all(Value::is_object) => Ok(()),
        _ => Err(format_error("`signatures` must be an object of objects")),
    }
}

pub(super) fn check_length(field: &str, text: &str, limits: Limits) -> Result<(), Rejection> {
    check_no_longer(field, text, limits, MAX_STRING)
}

fn check_no_longer(field: &str, text: &str, limits: Limits, most: usize) -> Result<(), Rejection> {
    let (length, unit) = match limits {
        Limits::Trusted => return Ok(()),
        Limits::Bytes => (text.len(), "bytes"),
        Limits::CodePoints => (text.chars().count(), "code points"),
    };
    if length > most {
        return Err(size_error(format!(
            "`{field}` has {length} {unit}, more than {most}"
        )));
    }
    Ok(())
}

pub(super) fn take_string(
    object: &mut Object,
    field: &str,
    limits: Limits,
) -> Result<String, Rejection> {
    take_no_longer(object, field, limits, MAX_STRING)
}

/// The same of a string with a limit of its own.
pub(super) fn take_no_longer(
    object: &mut Object,
    field: &str,
    limits: Limits,
    most: usize,
) -> Result<String, Rejection> {
    match object.remove(field) {
        Some(Value::String(text)) => {
            check_no_longer(field, &text, limits, most)?;
            Ok(text)
        }
        _ => Err(format_error(format!("`{field}` must be a string"))),
    }
}

pub(super) fn integer(object: &Object, field: &str) -> Result<i64, Rejection> {
    object
        .get(field)
        .and_then(Value::as_i64)
        .ok_or_else(|| format_error(format!("`{field}` must be an integer")))
}

pub(super) fn take_event_ids(
    rules: &RoomRules,
    object: &mut Object,
    field: &str,
    most: usize,
    limits: Limits,
) -> Result<Vec<OwnedEventId>, Rejection> {
    let Some(Value::Array(items)) = object.remove(field) else {
        return Err(format_error(format!("`{field}` must be an array")));
    };
    if items.len() > most {
        return Err(format_error(format!(
            "`{field}` names {} events, more than {most}",
            items.len()
        )));
    }
    items
        .iter()
        .map(|item| {
            let id = match (rules.format.event_id, item) {
                // Versions 1 and 2 have pairs of an id and hashes.
                (EventIdFormat::Explicit, Value::Array(pair)) => {
                    pair.first().and_then(Value::as_str)
                }
                (EventIdFormat::Explicit, _) => None,
                (_, item) => item.as_str(),
            };
            let id = id.ok_or_else(|| format_error(format!("`{field}` must hold event ids")))?;
            check_length(field, id, limits)?;
            EventId::parse(id).map_err(|error| {
                format_error(format!("{id:?} in `{field}` is no event id: {error}"))
            })
        })
        .collect()
}

/// Whether an event names the create event among its auth events though the room id implies it.
pub(super) fn names_implied_create(
    rules: &RoomRules,
    auth_events: &[OwnedEventId],
    room_id: &RoomId,
) -> bool {
    let is_create = |id: &OwnedEventId| id.as_str().get(1..) == room_id.as_str().get(1..);
    !rules.format.create_in_auth_events && auth_events.iter().any(is_create)
}
