//! The form of an event that clients see (client-server API, "Room event format").
//!
//! What is the same for every reader is made once and kept with the event in memory
//! (`StoredEvent::client`); what depends on the reader or the moment (`room_id` or not, and the
//! members of `unsigned`) is spliced on by concatenation. Nothing is parsed for it again.

use std::{fmt::Write as _, sync::Arc};

use rhizome_protocol::sticky;
use rhizome_storage::StoredEvent;
use ruma::UserId;

use crate::view::json::push_string;

/// What a reader's copy of an event says beside the event itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsigned<'a> {
    /// Now, in milliseconds since 1970; gives `age`.
    pub now_ms: i64,
    /// The transaction id with which this very device sent the event.
    pub transaction_id: Option<&'a str>,
    /// The id under which the reader had scheduled it.
    pub delay_id: Option<&'a str>,
    /// The reader's membership at the time of the event.
    pub membership: Option<&'a str>,
    /// The state event that this one replaced.
    pub replaced: Option<&'a StoredEvent>,
    /// The redaction of this event.
    pub redaction: Option<&'a StoredEvent>,
    /// For how many more milliseconds it is sticky, if it is.
    pub sticky_ttl_ms: Option<i64>,
    /// What relates to it, as JSON.
    pub relations: Option<&'a str>,
    /// The state that tells what a room is, stripped, as JSON; and what that is called here.
    pub stripped: Option<(&'a str, &'a str)>,
}

/// In which form an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With its `room_id`: `/messages`, `/event`, `/state`, …
    Room,
    /// Without: inside a room's part of `/sync`.
    Sync,
    /// As other servers see it (a filter's `event_format: federation`).
    Federation,
}

/// The shared part: an object that is still open, without `room_id` and `unsigned`.
fn shared(event: &StoredEvent) -> &Arc<str> {
    event.client.get_or_init(|| make_shared(event).into())
}

fn make_shared(event: &StoredEvent) -> String {
    let pdu = &event.pdu;
    let content = pdu.raw_content();
    let mut out = String::with_capacity(content.len() + 256);
    out.push_str("{\"content\":");
    match pdu.redacts() {
        // "Servers SHOULD add a `redacts` property to the `content`" of rooms before version 11,
        // whose redactions name their target at the top.
        Some(target) if !pdu.content().contains_key("redacts") => {
            out.push_str("{\"redacts\":");
            push_string(&mut out, target.as_str());
            let rest = &content[1..];
            if rest.trim_start() != "}" {
                out.push(',');
            }
            out.push_str(rest);
        }
        _ => out.push_str(content),
    }
    out.push_str(",\"event_id\":");
    push_string(&mut out, pdu.event_id().as_str());
    // Writing into a String cannot fail.
    let _ = write!(out, ",\"origin_server_ts\":{}", pdu.origin_server_ts());
    if let Some(target) = pdu.redacts() {
        // … and the other way round from version 11 on, for older clients.
        out.push_str(",\"redacts\":");
        push_string(&mut out, target.as_str());
    }
    if let Some(duration) = pdu.sticky_ms() {
        let _ = write!(out, ",\"{}\":{{\"duration_ms\":{duration}}}", sticky::KEY);
    }
    out.push_str(",\"sender\":");
    push_string(&mut out, pdu.sender().as_str());
    if let Some(key) = pdu.state_key() {
        out.push_str(",\"state_key\":");
        push_string(&mut out, key);
    }
    out.push_str(",\"type\":");
    push_string(&mut out, pdu.kind());
    out
}

/// Appends an event in the form that one reader is to see.
pub fn write(out: &mut String, event: &StoredEvent, form: Form, unsigned: &Unsigned<'_>) {
    if form == Form::Federation {
        return write_federation(out, event, unsigned);
    }
    out.push_str(shared(event));
    if form == Form::Room {
        out.push_str(",\"room_id\":");
        push_string(out, event.pdu.room_id().as_str());
    }
    out.push_str(",\"unsigned\":");
    write_unsigned(out, event, unsigned);
    out.push('}');
}

/// As other servers see it, with the event's own id over whatever a stranger may have put there.
/// Rarely asked for, so it may cost a parse.
fn write_federation(out: &mut String, event: &StoredEvent, unsigned: &Unsigned<'_>) {
    let mut extra = String::new();
    write_unsigned(&mut extra, event, unsigned);
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(event.pdu.json()).unwrap_or_default();
    object.insert("event_id".to_owned(), event.pdu.event_id().as_str().into());
    object.insert("room_id".to_owned(), event.pdu.room_id().as_str().into());
    object.insert(
        "unsigned".to_owned(),
        serde_json::from_str(&extra).unwrap_or_default(),
    );
    out.push_str(&serde_json::Value::Object(object).to_string());
}

fn write_unsigned(out: &mut String, event: &StoredEvent, unsigned: &Unsigned<'_>) {
    let _ = write!(
        out,
        "{{\"age\":{}",
        unsigned.now_ms.saturating_sub(event.pdu.origin_server_ts())
    );
    if let Some(ttl) = unsigned.sticky_ttl_ms {
        let _ = write!(out, ",\"msc4354_sticky_duration_ttl_ms\":{ttl}");
    }
    if let Some(relations) = unsigned.relations {
        out.push_str(",\"m.relations\":");
        out.push_str(relations);
    }
    if let Some(membership) = unsigned.membership {
        out.push_str(",\"membership\":");
        push_string(out, membership);
    }
    if let Some(replaced) = unsigned.replaced {
        out.push_str(",\"prev_content\":");
        out.push_str(replaced.pdu.raw_content());
        out.push_str(",\"prev_sender\":");
        push_string(out, replaced.pdu.sender().as_str());
        out.push_str(",\"replaces_state\":");
        push_string(out, replaced.pdu.event_id().as_str());
    }
    if let Some(redaction) = unsigned.redaction {
        out.push_str(",\"redacted_because\":");
        let plain = Unsigned {
            now_ms: unsigned.now_ms,
            ..Unsigned::default()
        };
        write(out, redaction, Form::Room, &plain);
    }
    if let Some((name, state)) = unsigned.stripped {
        out.push(',');
        push_string(out, name);
        out.push(':');
        out.push_str(state);
    }
    if let Some(delay_id) = unsigned.delay_id {
        out.push_str(",\"org.matrix.msc4140.delay_id\":");
        push_string(out, delay_id);
    }
    if let Some(transaction) = unsigned.transaction_id {
        out.push_str(",\"transaction_id\":");
        push_string(out, transaction);
    }
    out.push('}');
}

/// Appends stripped state: what an invited user may know of a room.
pub fn write_stripped(out: &mut String, event: &StoredEvent) {
    out.push_str("{\"content\":");
    out.push_str(event.pdu.raw_content());
    let _ = write!(
        out,
        ",\"origin_server_ts\":{}",
        event.pdu.origin_server_ts()
    );
    out.push_str(",\"sender\":");
    push_string(out, event.pdu.sender().as_str());
    out.push_str(",\"state_key\":");
    push_string(out, event.pdu.state_key().unwrap_or_default());
    out.push_str(",\"type\":");
    push_string(out, event.pdu.kind());
    out.push('}');
}

/// Whether an event is the membership of this user.
pub fn is_own_membership(event: &StoredEvent, user: &UserId) -> bool {
    event.pdu.is_state("m.room.member", user.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use rhizome_protocol::{Pdu, RoomRules};
    use rhizome_storage::{EventNo, Placement, RoomNo, Status};
    use ruma::user_id;
    use serde_json::{Value, json};

    use super::*;

    fn stored(version: &str, id: &str, mut object: Value) -> StoredEvent {
        let rules = RoomRules::get(&version.try_into().unwrap()).unwrap();
        let defaults = json!({"room_id": "!r:here", "sender": "@a:here", "origin_server_ts": 1_000,
            "depth": 3, "prev_events": [], "auth_events": [], "hashes": {}, "signatures": {}});
        for (key, value) in defaults.as_object().unwrap() {
            object
                .as_object_mut()
                .unwrap()
                .entry(key)
                .or_insert_with(|| value.clone());
        }
        let pdu =
            Pdu::from_stored(rules, id.try_into().unwrap(), object.to_string().into()).unwrap();
        StoredEvent {
            no: EventNo(1),
            room: RoomNo(1),
            pdu: Arc::new(pdu),
            order: Some(7),
            depth: 3,
            status: Status::Accepted,
            reason: None,
            placement: Placement::Live,
            state_before: None,
            state_after: None,
            visibility: None,
            redacted_by: None,
            txn: None,
            client: OnceLock::new(),
            replaces: OnceLock::new(),
        }
    }

    fn written(event: &StoredEvent, form: Form, unsigned: &Unsigned<'_>) -> Value {
        let mut out = String::new();
        write(&mut out, event, form, unsigned);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    #[test]
    fn a_message_is_written_with_and_without_its_room() {
        let event = stored(
            "11",
            "$e",
            json!({"type": "m.room.message",
            "content": {"body": "a \"quoted\"\u{0}\n text", "deep": {"x": [1, null]}}, "stranger": "!"}),
        );
        let plain = Unsigned {
            now_ms: 1_500,
            ..Unsigned::default()
        };
        let mut expected = json!({"type": "m.room.message", "event_id": "$e", "sender": "@a:here",
            "origin_server_ts": 1_000, "unsigned": {"age": 500},
            "content": {"body": "a \"quoted\"\u{0}\n text", "deep": {"x": [1, null]}}});
        assert_eq!(written(&event, Form::Sync, &plain), expected);
        expected["room_id"] = "!r:here".into();
        assert_eq!(written(&event, Form::Room, &plain), expected);
        assert_eq!(
            Arc::strong_count(event.client.get().unwrap()),
            1,
            "made once and kept"
        );
        let federation = written(&event, Form::Federation, &plain);
        assert_eq!(
            (&federation["stranger"], &federation["event_id"]),
            (&json!("!"), &json!("$e"))
        );
    }

    #[test]
    fn unsigned_quotes_what_was_replaced_and_why_it_is_empty() {
        let old = stored(
            "11",
            "$old",
            json!({"type": "m.room.topic", "state_key": "",
            "sender": "@b:here", "content": {"topic": "old"}}),
        );
        let why = stored(
            "11",
            "$why",
            json!({"type": "m.room.redaction",
            "content": {"redacts": "$e", "reason": "r"}}),
        );
        let event = stored(
            "11",
            "$e",
            json!({"type": "m.room.topic", "state_key": "", "content": {}}),
        );
        let unsigned = Unsigned {
            now_ms: 0,
            transaction_id: Some("t\"1"),
            delay_id: Some("d1"),
            membership: Some("join"),
            replaced: Some(&old),
            redaction: Some(&why),
            sticky_ttl_ms: None,
            relations: Some("{\"m.reference\":{\"chunk\":[]}}"),
            stripped: Some(("invite_room_state", "[{}]")),
        };
        let value = written(&event, Form::Sync, &unsigned);
        let said = &value["unsigned"];
        assert_eq!(value["state_key"], "");
        assert_eq!(said["age"], -1_000);
        assert_eq!(said["transaction_id"], "t\"1");
        assert_eq!(said["org.matrix.msc4140.delay_id"], "d1");
        assert_eq!(said["membership"], "join");
        assert_eq!(said["prev_content"], json!({"topic": "old"}));
        assert_eq!(
            (&said["prev_sender"], &said["replaces_state"]),
            (&json!("@b:here"), &json!("$old"))
        );
        assert_eq!(said["redacted_because"]["event_id"], "$why");
        assert_eq!(said["redacted_because"]["room_id"], "!r:here");
        assert_eq!(said["invite_room_state"], json!([{}]));
        assert_eq!(said["m.relations"], json!({"m.reference": {"chunk": []}}));
    }

    #[test]
    fn a_redaction_names_its_target_in_both_places_in_every_version() {
        let newer = json!({"type": "m.room.redaction", "content": {"redacts": "$t"}});
        let older = json!({"type": "m.room.redaction", "redacts": "$t", "content": {}});
        let reason =
            json!({"type": "m.room.redaction", "redacts": "$t", "content": {"reason": "r"}});
        for (version, object) in [("11", newer), ("10", older), ("10", reason)] {
            let value = written(
                &stored(version, "$e", object),
                Form::Sync,
                &Unsigned::default(),
            );
            assert_eq!(value["redacts"], "$t", "{version}");
            assert_eq!(value["content"]["redacts"], "$t", "{version}");
        }
    }

    #[test]
    fn stripped_state_has_no_more_than_it_should() {
        let event = stored(
            "11",
            "$e",
            json!({"type": "m.room.name", "state_key": "", "content": {"name": "N"}}),
        );
        let mut out = String::new();
        write_stripped(&mut out, &event);
        let expected = json!({"type": "m.room.name", "state_key": "", "sender": "@a:here",
            "origin_server_ts": 1_000, "content": {"name": "N"}});
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
        assert!(!is_own_membership(&event, user_id!("@a:here")));
    }
}
