//! What a server outside of a room is told about it, with an invite or after a knock.

use rhizome_protocol::{Incoming, Object, RoomRules};
use ruma::{RoomId, UserId};
use serde_json::{Value, json, value::RawValue};

use crate::{Federation, MatrixError, verify};

/// The most entries of stripped state that are kept, and the most bytes of all of them.
const MAX_STRIPPED: usize = 100;
const MAX_STRIPPED_BYTES: usize = 512 << 10;

/// The state that tells a user who is not in the room what it is.
const TOLD: [(&str, &str); 7] = [
    ("m.room.create", ""),
    ("m.room.join_rules", ""),
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.encryption", ""),
];

/// What another server is told about a room of ours, as full events: [`TOLD`], and the member event of
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
    let mut keys = TOLD.to_vec();
    keys.extend(inviter.map(|inviter| ("m.room.member", inviter.as_str())));
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

/// Checks `invite_room_state` (of a knock `knock_room_state`) and turns it into stripped state for clients: the text of a JSON array.
///
/// In versions whose room id is the create event's hash, entries in the form of full events must hold, and
/// the create event must be among the entries. Entries in the stripped form are put up with everywhere:
/// widespread servers send nothing else, whatever the version.
pub(crate) async fn for_users(
    fed: &Federation,
    rules: &'static RoomRules,
    room_id: &RoomId,
    entries: &[Box<RawValue>],
) -> Result<String, MatrixError> {
    let size: usize = entries.iter().map(|entry| entry.get().len()).sum();
    if entries.len() > MAX_STRIPPED || size > MAX_STRIPPED_BYTES {
        return Err(MatrixError::invalid_param("invite_room_state is too large"));
    }
    let mut objects = Vec::with_capacity(entries.len());
    for entry in entries {
        objects.push(verify::parse(entry).map_err(|rejection| {
            MatrixError::invalid_param(format!("invite_room_state: {rejection}"))
        })?);
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
    let objects = objects.into_iter().map(Incoming::into_object);
    let stripped: Vec<Value> = objects.filter_map(for_clients).collect();
    Ok(Value::Array(stripped).to_string())
}

/// The stripped form of an entry, with its time if it tells one: clients date a room by its create event.
fn for_clients(mut object: Object) -> Option<Value> {
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
