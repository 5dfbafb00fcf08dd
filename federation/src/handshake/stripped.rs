//! What a server outside of a room is told about it, with an invite or after a knock.

use rhizome_protocol::{Incoming, Object, RoomRules};
use rhizome_rooms::state::{STRIPPED, stripped_keys};
use ruma::{RoomId, UserId};
use serde_json::{Value, json, value::RawValue};

use crate::{Federation, MatrixError, fetch::verify};

/// The most entries of stripped state that are looked at, and the most bytes of all of them.
const MAX_STRIPPED: usize = 100;
const MAX_STRIPPED_BYTES: usize = 512 << 10;
/// The most of these that are about what is told: each may cost a look for its server's keys.
const MAX_TOLD: usize = 2 * (STRIPPED.len() + 1);
/// The most bytes that are kept of one of them, and of all. What is larger is left out: it tells the user what
/// the room is, no more.
const MAX_KEPT_ENTRY: usize = 8 << 10;
const MAX_KEPT: usize = 16 << 10;

/// What another server is told about a room of ours, as full events: [`STRIPPED`], and the member event of
/// whoever invites.
pub(crate) async fn for_servers(
    fed: &Federation,
    room_id: &RoomId,
    inviter: Option<&UserId>,
) -> Result<Vec<Box<RawValue>>, MatrixError> {
    let store = fed.store();
    let Some(snapshot) = store.room(room_id).await?.and_then(|head| head.snapshot) else {
        return Ok(Vec::new());
    };
    let keys = stripped_keys(inviter);
    let numbers: Vec<_> = store
        .state_entries(snapshot, &keys)
        .await?
        .into_iter()
        .flatten()
        .collect();
    let events = store.events_by_no(&numbers).await?;
    Ok(events
        .iter()
        .filter_map(|event| RawValue::from_string(event.pdu.json().to_string()).ok())
        .collect())
}

/// Checks `invite_room_state` (of a knock `knock_room_state`) and turns what of it is [`STRIPPED`], and the member event
/// of whoever invites, into stripped state for clients: the text of a JSON array.
///
/// In versions whose room id is the create event's hash, entries in the form of full events must hold, and
/// the create event must be among the entries. Entries in the stripped form are put up with everywhere:
/// widespread servers send nothing else, whatever the version.
pub(crate) async fn for_users(
    fed: &Federation,
    rules: &'static RoomRules,
    room_id: &RoomId,
    inviter: Option<&UserId>,
    entries: &[Box<RawValue>],
) -> Result<String, MatrixError> {
    let too_large = || MatrixError::invalid_param("invite_room_state is too large");
    let size: usize = entries.iter().map(|entry| entry.get().len()).sum();
    if entries.len() > MAX_STRIPPED || size > MAX_STRIPPED_BYTES {
        return Err(too_large());
    }
    let mut objects = Vec::new();
    for entry in entries {
        let object = verify::parse(entry).map_err(|rejection| {
            MatrixError::invalid_param(format!("invite_room_state: {rejection}"))
        })?;
        if place(&object, inviter).is_some() {
            objects.push(object);
        }
    }
    if objects.len() > MAX_TOLD {
        return Err(too_large());
    }
    if rules.format.room_id_is_create_hash {
        let full = objects
            .iter()
            .filter(|object| is_full(object))
            .cloned()
            .collect();
        for checked in verify::objects(fed, rules, full).await {
            let pdu = checked.map_err(|rejection| {
                MatrixError::invalid_param(format!("invite_room_state: {rejection}"))
            })?;
            if pdu.room_id() != room_id {
                let message = "invite_room_state has an event of another room";
                return Err(MatrixError::invalid_param(message));
            }
        }
        if !objects
            .iter()
            .any(|object| object.get("type") == Some(&json!("m.room.create")))
        {
            let message = "invite_room_state lacks the m.room.create event";
            return Err(MatrixError::missing_param(message));
        }
    }
    objects.sort_by_key(|object| place(object, inviter));
    let objects = objects.into_iter().map(Incoming::into_object);
    Ok(kept(objects.filter_map(for_clients)))
}

/// Where among what is told an entry stands, if it is.
fn place(object: &Object, inviter: Option<&UserId>) -> Option<usize> {
    let text = |key| object.get(key).and_then(Value::as_str);
    let (kind, state_key) = (text("type")?, text("state_key")?);
    if kind == "m.room.member" && inviter.is_some_and(|inviter| state_key == inviter) {
        return Some(STRIPPED.len());
    }
    STRIPPED
        .iter()
        .position(|told| (*told, "") == (kind, state_key))
}

/// As much of these, which stand in order, as is kept: of each key the first. The text of a JSON array.
fn kept(entries: impl Iterator<Item = Value>) -> String {
    let mut kept = String::from("[");
    let mut last = None;
    for entry in entries {
        let key = Some(entry["type"].clone());
        let text = entry.to_string();
        let fits = text.len() <= MAX_KEPT_ENTRY && kept.len() + text.len() + 2 <= MAX_KEPT;
        if key == last || !fits {
            continue;
        }
        if last.is_some() {
            kept.push(',');
        }
        kept.push_str(&text);
        last = key;
    }
    kept.push(']');
    kept
}

/// The stripped form of an entry, with its time if it tells one: clients date a room by its create event.
fn for_clients(mut object: Object) -> Option<Value> {
    let sender = object.get("sender")?.as_str()?;
    let content = object.get("content")?;
    if <&UserId>::try_from(sender).is_err() || !content.is_object() {
        return None;
    }
    let mut stripped = json!({
        "type": object.remove("type")?,
        "state_key": object.remove("state_key")?,
        "sender": object.remove("sender")?,
        "content": object.remove("content")?,
    });
    if let Some(ts) = object
        .remove("origin_server_ts")
        .filter(|ts| ts.as_i64().is_some())
    {
        stripped["origin_server_ts"] = ts;
    }
    Some(stripped)
}

/// Whether an entry has the form of a full event rather than the stripped one.
fn is_full(object: &Object) -> bool {
    ["auth_events", "prev_events", "hashes", "signatures"]
        .iter()
        .all(|key| object.contains_key(*key))
}
