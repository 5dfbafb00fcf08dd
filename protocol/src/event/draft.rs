//! From an unsigned local event to a signed PDU.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, ServerName};
use serde_json::Value;

use super::{limits::Limits, rejection::json_error, sticky};
use crate::{
    Object, Pdu, Rejection, RoomRules, canonical,
    hash::{self, ReferenceHash},
    redact,
    rules::EventIdFormat,
    sign::{KeyPair, add_signature},
};

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
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The forward extremities that it follows.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it (without the create event in v12).
    pub auth_events: Vec<OwnedEventId>,
    /// The reference hashes of all these events, which v1 and v2 write beside the ids. Left empty in other
    /// versions.
    pub hashes: BTreeMap<OwnedEventId, ReferenceHash>,
    /// One more than the deepest of `prev_events`.
    pub depth: i64,
    /// Milliseconds since 1970.
    pub origin_server_ts: i64,
    /// For how many milliseconds it is sticky, if it is.
    pub sticky_ms: Option<u32>,
}

/// The object of a draft without hashes and signatures: the template that `make_join` and its like
/// hand out. A create event gets its `creator` where the version wants one.
pub fn template(rules: &RoomRules, draft: &Draft, place: &Place) -> Object {
    let ids = |ids: &[OwnedEventId]| {
        let reference = |id| reference(rules, id, place);
        Value::Array(ids.iter().map(reference).collect())
    };
    let mut object = Object::new();
    let mut content = draft.content.clone();
    if let Some(redacts) = &draft.redacts {
        let place = if rules.format.redacts_in_content {
            &mut content
        } else {
            &mut object
        };
        place.insert("redacts".into(), redacts.as_str().into());
    }
    if draft.kind == "m.room.create" && rules.format.creator_in_content {
        content
            .entry("creator")
            .or_insert_with(|| draft.sender.as_str().into());
    }
    object.insert("type".into(), draft.kind.as_str().into());
    object.insert("sender".into(), draft.sender.as_str().into());
    if let Some(room_id) = &draft.room_id {
        object.insert("room_id".into(), room_id.as_str().into());
    }
    if let Some(state_key) = &draft.state_key {
        object.insert("state_key".into(), state_key.as_str().into());
    }
    object.insert("content".into(), content.into());
    object.insert("prev_events".into(), ids(&place.prev_events));
    object.insert("auth_events".into(), ids(&place.auth_events));
    object.insert("depth".into(), place.depth.into());
    object.insert("origin_server_ts".into(), place.origin_server_ts.into());
    if let Some(duration) = place.sticky_ms {
        object.insert(sticky::KEY.into(), sticky::value(duration));
    }
    object
}

/// How `prev_events` and `auth_events` name an event.
fn reference(rules: &RoomRules, id: &OwnedEventId, place: &Place) -> Value {
    if rules.format.event_id != EventIdFormat::Explicit {
        return id.as_str().into();
    }
    let mut hashes = Object::new();
    if let Some(hash) = place.hashes.get(id) {
        hashes.insert("sha256".into(), hash::to_base64(hash).into());
    }
    Value::Array(vec![id.as_str().into(), hashes.into()])
}

/// Hashes, signs and parses the event. Our own events count their string limits in bytes always, and their
/// contents are strict canonical JSON.
pub fn build(
    rules: &'static RoomRules,
    draft: &Draft,
    place: &Place,
    server: &ServerName,
    key: &KeyPair,
) -> Result<Pdu, Rejection> {
    finish(rules, template(rules, draft, place), server, key)
}

/// Hashes and signs a finished object, e.g. the filled-in template of another server's `make_join`.
/// Hashes, signatures, `unsigned` and an event id that it brings along are thrown away.
pub fn finish(
    rules: &'static RoomRules,
    mut object: Object,
    server: &ServerName,
    key: &KeyPair,
) -> Result<Pdu, Rejection> {
    for field in ["hashes", "signatures", "unsigned"] {
        object.remove(field);
    }
    object.remove("event_id");
    if !rules.format.strict_json
        && let Some(Value::Object(content)) = object.get("content")
    {
        // What older versions tolerate, we don't add to.
        canonical::to_canonical(content).map_err(json_error)?;
    }
    if rules.format.event_id == EventIdFormat::Explicit {
        // Chosen by what the event says: two that say the same at the same place and time are one.
        let said = hash::content_hash(rules, &object).map_err(json_error)?;
        let id = format!("${}:{server}", hash::to_url_base64(&said));
        object.insert("event_id".into(), id.into());
    }
    let mut hashes = Object::new();
    let content_hash = hash::content_hash(rules, &object).map_err(json_error)?;
    hashes.insert("sha256".into(), hash::to_base64(&content_hash).into());
    object.insert("hashes".into(), hashes.into());
    let signed = redact::signed_text(rules, &object).map_err(json_error)?;
    let signature = key.sign(signed.as_bytes());
    add_signature(&mut object, server, key, &signature).map_err(json_error)?;
    Pdu::assemble(rules, object.into(), Limits::Bytes, Some(&signed))
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, room_id, server_name, user_id};
    use serde_json::json;

    use super::*;
    use crate::canonical::parse_object;

    fn draft(kind: &str) -> Draft {
        Draft {
            room_id: Some(room_id!("!r:example.org").to_owned()),
            sender: user_id!("@alice:example.org").to_owned(),
            kind: kind.into(),
            state_key: None,
            content: Object::new(),
            redacts: None,
        }
    }

    fn place() -> Place {
        Place {
            depth: 1,
            origin_server_ts: 5,
            ..Place::default()
        }
    }

    #[test]
    fn what_we_build_others_can_parse() {
        let key = KeyPair::from_seed("a", &[3; 32]).unwrap();
        for rules in RoomRules::supported() {
            let mut redaction = draft("m.room.redaction");
            redaction.redacts = Some(event_id!("$x").to_owned());
            let built = build(
                rules,
                &redaction,
                &place(),
                server_name!("example.org"),
                &key,
            )
            .unwrap();
            assert_eq!(built.redacts().unwrap(), "$x");
            assert_eq!(
                built.content().contains_key("redacts"),
                rules.format.redacts_in_content
            );
            let received =
                Pdu::parse(rules, parse_object(built.json().as_bytes()).unwrap()).unwrap();
            assert_eq!(received, built);
        }
    }

    /// Versions 1 and 2: an id of our server, no two alike, and the hashes of what the event follows.
    #[test]
    fn ids_and_hashes_where_servers_choose() {
        let key = KeyPair::from_seed("a", &[3; 32]).unwrap();
        let (server, rules) = (server_name!("example.org"), RoomRules::named("1").unwrap());
        let first = build(rules, &draft("x"), &place(), server, &key).unwrap();
        assert_eq!(first.event_id().server_name(), Some(server));
        let after = Place {
            prev_events: vec![first.event_id().to_owned()],
            hashes: [(first.event_id().to_owned(), first.reference_hash().unwrap())].into(),
            ..place()
        };
        let second = build(rules, &draft("x"), &after, server, &key).unwrap();
        assert_ne!(second.event_id(), first.event_id());
        let written = parse_object(second.json().as_bytes()).unwrap();
        let hash = hash::to_base64(&first.reference_hash().unwrap());
        assert_eq!(
            written["prev_events"],
            json!([[first.event_id(), {"sha256": hash}]])
        );
        assert_eq!(second.prev_events(), [first.event_id()]);
    }

    /// Where versions tolerate odd numbers, ours are right nevertheless.
    #[test]
    fn our_own_contents_are_strict() {
        let key = KeyPair::from_seed("a", &[3; 32]).unwrap();
        for rules in RoomRules::supported() {
            for odd in [json!(1.5), json!(1_u64 << 53)] {
                let mut draft = draft("x");
                draft.content.insert("n".into(), json!({ "m": odd }));
                let refused = build(rules, &draft, &place(), server_name!("example.org"), &key);
                assert_eq!(refused.unwrap_err().rule, "canonical JSON");
            }
        }
    }

    #[test]
    fn creators_and_room_ids() {
        let key = KeyPair::from_seed("a", &[3; 32]).unwrap();
        let mut create = draft("m.room.create");
        create.state_key = Some(String::new());
        let server = server_name!("example.org");
        let v10 = build(
            RoomRules::named("10").unwrap(),
            &create,
            &place(),
            server,
            &key,
        )
        .unwrap();
        assert_eq!(v10.content()["creator"], "@alice:example.org");
        create.room_id = None;
        let v12 = build(
            RoomRules::named("12").unwrap(),
            &create,
            &place(),
            server,
            &key,
        )
        .unwrap();
        assert!(v12.content().is_empty());
        assert_eq!(v12.room_id().as_str()[1..], v12.event_id().as_str()[1..]);
    }

    #[test]
    fn our_own_limits_are_bytes_in_every_version() {
        let key = KeyPair::from_seed("a", &[3; 32]).unwrap();
        let mut long = draft("x");
        long.state_key = Some("é".repeat(200));
        for rules in RoomRules::supported() {
            assert!(build(rules, &long, &place(), server_name!("example.org"), &key).is_err());
        }
    }

    #[test]
    fn a_template_loses_what_its_maker_must_not_choose() {
        let key = KeyPair::from_seed("a", &[3; 32]).unwrap();
        let rules = RoomRules::named("11").unwrap();
        let mut object = template(rules, &draft("x"), &place());
        let clean = finish(rules, object.clone(), server_name!("example.org"), &key).unwrap();
        for (field, value) in [
            ("hashes", json!(1)),
            ("signatures", json!([])),
            ("unsigned", json!({})),
            ("event_id", json!("$x")),
        ] {
            object.insert(field.into(), value);
        }
        assert_eq!(
            finish(rules, object, server_name!("example.org"), &key).unwrap(),
            clean
        );
    }
}
