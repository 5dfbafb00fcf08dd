//! A parsed, immutable event.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::Value;

use crate::{
    Incoming, Membership, Object, Rejection, RoomRules,
    canonical::{self, JsonError},
    content::text,
    hash::{self, ReferenceHash},
    redact,
    rules::EventIdFormat,
};

/// The most bytes that a PDU may have in canonical form, signatures included.
pub const MAX_BYTES: usize = 65_536;
/// The longest `sender`, `room_id`, `type`, `state_key` and event id.
pub const MAX_STRING: usize = 255;
/// The most previous events that an event may have.
pub const MAX_PREV_EVENTS: usize = 20;
/// The most auth events that an event may have.
pub const MAX_AUTH_EVENTS: usize = 10;

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

/// How the limits on strings count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// Bytes: all that we make, and what others make from v11 on.
    Bytes,
    /// Code points: what others make up to v10.
    CodePoints,
    /// Not at all: what is in our database already.
    Trusted,
}

impl Limits {
    /// For events that others made.
    pub(crate) fn of_strangers(rules: &RoomRules) -> Self {
        if rules.format.limits_in_bytes {
            Self::Bytes
        } else {
            Self::CodePoints
        }
    }
}

impl Pdu {
    /// Checks the format and limits of a received event and computes its id. `unsigned` is dropped; hashes
    /// and signatures are not verified: [`crate::receive::verify`] does.
    ///
    /// An `event_id` in an event whose id is its hash stays in [`Pdu::json`] (its hashes cover it), but
    /// means nothing.
    pub fn parse(rules: &'static RoomRules, event: impl Into<Incoming>) -> Result<Self, Rejection> {
        Self::assemble(rules, event.into(), Limits::of_strangers(rules), None)
    }

    /// An event from our own database: `json` is what [`Pdu::json`] gave. No limits are checked.
    pub fn from_stored(
        rules: &'static RoomRules,
        event_id: OwnedEventId,
        json: Arc<str>,
    ) -> Result<Self, Rejection> {
        let object: Object = serde_json::from_str(&json).map_err(|error| {
            format_error(format!("the stored text of {event_id} is damaged: {error}"))
        })?;
        Self::extract(rules, object, Limits::Trusted, event_id, json)
    }

    /// Checks `object` and makes the event of it. `signed` is the event's [`redact::signed_text`], if the
    /// caller has it already.
    pub(crate) fn assemble(
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
        let json = canonical::to_canonical_of(rules, &object).map_err(json_error)?;
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
        Self::extract(rules, object, limits, event_id, json.into())
    }

    /// Reads the fields. The only place that knows where they stand.
    fn extract(
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
            Some(take_string(&mut object, "state_key", limits)?)
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
        if !rules.format.create_in_auth_events
            && auth_events
                .iter()
                .any(|id| id.as_str().get(1..) == room_id.as_str().get(1..))
        {
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
            content,
            depth,
            origin_server_ts,
            prev_events,
            auth_events,
            redacts,
            membership,
            json,
        })
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
            let json = canonical::to_canonical_of(self.rules, &object).ok()?;
            let json = numbers.restore(json);
            let event_id = self.event_id.clone();
            if !numbers.is_empty() {
                return Self::from_stored(self.rules, event_id, json.into()).ok();
            }
            Self::extract(self.rules, object, Limits::Trusted, event_id, json.into()).ok()
        };
        // Redaction keeps every field that `extract` demands and only makes the text shorter, so it can't
        // fail on text that `extract` has read before; without it, no content is the safe answer.
        redact().unwrap_or_else(|| {
            let mut bare = self.clone();
            redact::redact_content(self.rules, &self.kind, &mut bare.content);
            bare
        })
    }
}

pub(crate) fn format_error(reason: impl Into<String>) -> Rejection {
    Rejection::new("PDU format", reason)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn json_error(error: JsonError) -> Rejection {
    let rule = match error {
        JsonError::BadNumber(_) => "canonical JSON",
        _ => "PDU format",
    };
    Rejection::new(rule, error.to_string())
}

/// The types of the fields that hashing and signing rely on but `extract` doesn't read.
fn check_shape(object: &Object) -> Result<(), Rejection> {
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

/// The event's id: chosen by its server, or made of the hash of `signed`.
pub(crate) fn event_id(
    rules: &RoomRules,
    object: &Object,
    signed: &str,
) -> Result<OwnedEventId, Rejection> {
    let hash = || hash::sha256(signed.as_bytes());
    let id = match rules.format.event_id {
        EventIdFormat::Explicit => text(object, "event_id")
            .ok_or_else(|| format_error("`event_id` must be a string"))?
            .to_owned(),
        EventIdFormat::Hash => format!("${}", hash::to_base64(&hash())),
        EventIdFormat::UrlSafeHash => format!("${}", hash::to_url_base64(&hash())),
    };
    let id = EventId::parse(&id)
        .map_err(|error| format_error(format!("{id:?} is no event id: {error}")))?;
    // That domain's signature is what keeps others from choosing the same id.
    if rules.format.event_id == EventIdFormat::Explicit && id.server_name().is_none() {
        return Err(format_error(format!("the event id {id} lacks its server")));
    }
    Ok(id)
}

fn size_error(reason: String) -> Rejection {
    Rejection::new(Rejection::SIZE, reason)
}

fn check_length(field: &str, text: &str, limits: Limits) -> Result<(), Rejection> {
    let (length, unit) = match limits {
        Limits::Trusted => return Ok(()),
        Limits::Bytes => (text.len(), "bytes"),
        Limits::CodePoints => (text.chars().count(), "code points"),
    };
    if length > MAX_STRING {
        return Err(size_error(format!(
            "`{field}` has {length} {unit}, more than {MAX_STRING}"
        )));
    }
    Ok(())
}

fn take_string(object: &mut Object, field: &str, limits: Limits) -> Result<String, Rejection> {
    match object.remove(field) {
        Some(Value::String(text)) => {
            check_length(field, &text, limits)?;
            Ok(text)
        }
        _ => Err(format_error(format!("`{field}` must be a string"))),
    }
}

fn integer(object: &Object, field: &str) -> Result<i64, Rejection> {
    object
        .get(field)
        .and_then(Value::as_i64)
        .ok_or_else(|| format_error(format!("`{field}` must be an integer")))
}

fn take_event_ids(
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::canonical::parse_object;

    fn event() -> Value {
        json!({"type": "m.room.message", "sender": "@alice:example.org", "room_id": "!room:example.org",
            "content": {"body": "hi"}, "depth": 7, "origin_server_ts": 1_700_000_000_000_i64,
            "prev_events": ["$prev"], "auth_events": ["$a", "$b"],
            "hashes": {"sha256": "AAAA"}, "signatures": {"example.org": {}}, "unsigned": {"age": 5}})
    }

    fn parse(version: &str, event: &Value) -> Result<Pdu, Rejection> {
        // Through text, as events come.
        let object = parse_object(event.to_string().as_bytes()).unwrap();
        Pdu::parse(RoomRules::named(version).unwrap(), object)
    }

    #[test]
    fn a_good_event() {
        let pdu = parse("10", &event()).unwrap();
        assert_eq!(pdu.event_id().as_str().len(), 44);
        assert_eq!(pdu.room_id(), "!room:example.org");
        assert_eq!(pdu.sender(), "@alice:example.org");
        assert_eq!(
            (pdu.kind(), pdu.state_key(), pdu.depth()),
            ("m.room.message", None, 7)
        );
        assert_eq!(pdu.prev_events(), ["$prev"]);
        assert!(!pdu.json().contains("unsigned"));

        let stored =
            Pdu::from_stored(pdu.rules(), pdu.event_id().to_owned(), pdu.json().clone()).unwrap();
        assert_eq!(stored, pdu);
        let redacted = pdu.redacted();
        assert!(redacted.content().is_empty() && !redacted.json().contains("body"));
        assert_eq!(redacted.event_id(), pdu.event_id());
        assert_eq!(redacted.redacted(), redacted);
        let again = Pdu::parse(
            pdu.rules(),
            parse_object(redacted.json().as_bytes()).unwrap(),
        )
        .unwrap();
        assert_eq!(
            again.event_id(),
            pdu.event_id(),
            "redaction doesn't change the id"
        );
    }

    #[test]
    fn wrong_types_in_every_field_are_errors() {
        let optional = ["state_key"];
        for field in [
            "type",
            "sender",
            "room_id",
            "content",
            "depth",
            "origin_server_ts",
            "prev_events",
            "auth_events",
            "hashes",
            "signatures",
            "state_key",
        ] {
            for wrong in [
                json!(null),
                json!(true),
                json!(-1.5),
                json!({"x": 1}),
                json!([1]),
                json!([null, {}]),
                json!([[5]]),
                json!(12),
                json!("x\u{0}"),
            ] {
                let fits = match field {
                    "type" | "state_key" => wrong.is_string(),
                    "content" => wrong.is_object(),
                    "depth" | "origin_server_ts" => wrong == json!(12),
                    _ => false,
                };
                let mut bad = event();
                bad[field] = wrong.clone();
                for version in ["10", "11", "12"] {
                    assert_eq!(
                        parse(version, &bad).is_ok(),
                        fits,
                        "{field} = {wrong} in {version}"
                    );
                }
            }
            if !optional.contains(&field) {
                let mut bad = event();
                bad.as_object_mut().unwrap().remove(field);
                assert!(parse("11", &bad).is_err(), "without {field}");
            }
        }
    }

    #[test]
    fn limits_on_strings_count_code_points_before_v11() {
        let long = "é".repeat(200);
        for (field, value) in [
            ("type", long.clone()),
            ("state_key", long.clone()),
            ("sender", format!("@{long}:b")),
            ("room_id", format!("!{long}:b")),
        ] {
            let mut event = event();
            event[field] = json!(value);
            assert!(parse("10", &event).is_ok(), "{field}");
            assert!(parse("11", &event).is_err(), "{field}");
            event[field] = json!(format!("@{}:b", "é".repeat(254)));
            assert!(parse("10", &event).is_err(), "{field}");
        }
    }

    #[test]
    fn limits_on_sizes_and_counts() {
        let with = |field: &str, value: Value| {
            let mut event = event();
            event[field] = value;
            parse("11", &event)
        };
        let ids = |count: usize| json!((0..count).map(|n| format!("${n}")).collect::<Vec<_>>());
        assert!(with("prev_events", ids(20)).is_ok());
        assert!(with("prev_events", ids(21)).is_err());
        assert!(with("auth_events", ids(10)).is_ok());
        assert!(with("auth_events", ids(11)).is_err());
        assert!(with("auth_events", json!([format!("${}", "x".repeat(255))])).is_err());
        assert!(with("depth", json!((1_i64 << 53) - 1)).is_ok());
        assert!(with("depth", json!(1_i64 << 53)).is_err());
        assert!(with("depth", json!(-1)).is_err());
        assert!(
            with("unsigned", json!("x".repeat(100_000))).is_ok(),
            "what is dropped doesn't count"
        );

        let base = parse("11", &event()).unwrap().json().len();
        let body = |length: usize| with("content", json!({"body": "x".repeat(length + 2)}));
        assert_eq!(body(MAX_BYTES - base).unwrap().json().len(), MAX_BYTES);
        assert!(body(MAX_BYTES - base + 1).is_err());
        assert!(with("content", json!({"x": 1.5})).is_err());
        assert!(with("content", json!({"x": 1_u64 << 53})).is_err());
    }

    #[test]
    fn create_events_of_v12_have_no_room_id() {
        let mut create = event();
        create["type"] = json!("m.room.create");
        create["state_key"] = json!("");
        create["auth_events"] = json!([]);
        create["prev_events"] = json!([]);
        assert!(parse("11", &create).is_ok());
        assert_eq!(parse("12", &create).unwrap_err().rule, "auth 1.2");
        create.as_object_mut().unwrap().remove("room_id");
        assert!(parse("11", &create).is_err());
        let create = parse("12", &create).unwrap();
        assert_eq!(
            create.room_id().as_str()[1..],
            create.event_id().as_str()[1..]
        );
        assert_eq!(create.redacted().room_id(), create.room_id());
        let stored = Pdu::from_stored(
            create.rules(),
            create.event_id().to_owned(),
            create.json().clone(),
        )
        .unwrap();
        assert_eq!(stored.room_id(), create.room_id());

        let mut message = event();
        message["room_id"] = json!(create.room_id());
        assert_eq!(
            parse("12", &message).unwrap().implied_create().unwrap(),
            create.event_id()
        );
        message["auth_events"] = json!([create.event_id()]);
        assert!(
            parse("12", &message).is_err(),
            "auth events with the create event"
        );
        assert!(parse("11", &message).is_ok());
    }

    #[test]
    fn redacts_stands_where_the_version_has_it() {
        let mut redaction = event();
        redaction["type"] = json!("m.room.redaction");
        redaction["redacts"] = json!("$top");
        redaction["content"] = json!({"redacts": "$content"});
        assert_eq!(parse("10", &redaction).unwrap().redacts().unwrap(), "$top");
        assert_eq!(
            parse("11", &redaction).unwrap().redacts().unwrap(),
            "$content"
        );
        redaction["redacts"] = json!(1);
        assert_eq!(parse("10", &redaction).unwrap().redacts(), None);
    }

    /// Versions 1 and 2: the id is in the event, and events are named with hashes.
    #[test]
    fn ids_that_servers_choose() {
        let mut old = event();
        old["event_id"] = json!("$0:example.org");
        old["prev_events"] =
            json!([["$prev:example.org", {"sha256": "AAAA"}], ["$other:two.org", {}]]);
        old["auth_events"] = json!([]);
        for version in ["1", "2"] {
            let pdu = parse(version, &old).unwrap();
            assert_eq!(pdu.event_id(), "$0:example.org");
            assert_eq!(pdu.prev_events(), ["$prev:example.org", "$other:two.org"]);
            let stored =
                Pdu::from_stored(pdu.rules(), pdu.event_id().to_owned(), pdu.json().clone())
                    .unwrap();
            assert_eq!(stored, pdu);
            assert_eq!(pdu.redacted().event_id(), pdu.event_id());
            assert_eq!(pdu.redacted().prev_events(), pdu.prev_events());
            assert_eq!(pdu.redacted().reference_hash(), pdu.reference_hash());
            assert!(pdu.reference_hash().is_some());
            for (field, wrong) in [
                ("event_id", json!("$0")),
                ("event_id", json!("0:example.org")),
                ("event_id", json!(null)),
                (
                    "event_id",
                    json!(format!("${}:example.org", "x".repeat(255))),
                ),
                ("prev_events", json!(["$prev:example.org"])),
                (
                    "prev_events",
                    json!([[{"sha256": "AAAA"}, "$prev:example.org"]]),
                ),
                ("prev_events", json!([[]])),
                ("auth_events", json!(["$a:example.org"])),
            ] {
                let mut bad = old.clone();
                bad[field] = wrong;
                assert!(parse(version, &bad).is_err(), "{field} {}", bad[field]);
            }
        }
        assert!(parse("3", &old).is_err(), "pairs in version 3");
        let v3 = parse("3", &event()).unwrap();
        let v4 = parse("4", &event()).unwrap();
        let url_safe = v3.event_id().as_str().replace('+', "-").replace('/', "_");
        assert_eq!(
            v4.event_id(),
            url_safe.as_str(),
            "the same hash in another alphabet"
        );
    }

    /// Versions 1 to 5 put up with numbers that canonical JSON doesn't have; depths go up to 64 bits.
    #[test]
    fn old_versions_tolerate_numbers() {
        for rules in RoomRules::supported() {
            let old = !rules.format.strict_json;
            for number in [
                json!(1.5),
                json!(1_u64 << 60),
                json!(u64::MAX),
                json!(-1e300),
            ] {
                let mut event = event();
                if rules.format.event_id == EventIdFormat::Explicit {
                    event["event_id"] = json!("$0:b");
                    event["prev_events"] = json!([]);
                    event["auth_events"] = json!([]);
                }
                event["content"] = json!({"deep": [{"n": number}]});
                let pdu = Pdu::parse(rules, event.as_object().unwrap().clone());
                assert_eq!(pdu.is_ok(), old, "{number} in {}", rules.id());
                if let Ok(pdu) = pdu {
                    let again = parse_object(pdu.json().as_bytes()).unwrap();
                    assert_eq!(Pdu::parse(rules, again).unwrap(), pdu);
                }
                event["content"] = json!({});
                event["depth"] = json!(rules.max_depth());
                assert!(Pdu::parse(rules, event.as_object().unwrap().clone()).is_ok());
                event["depth"] = json!(rules.max_depth().unsigned_abs() + 1);
                assert!(Pdu::parse(rules, event.as_object().unwrap().clone()).is_err());
            }
        }
    }

    #[test]
    fn an_event_id_that_hashes_cover_stays() {
        let plain = parse("11", &event()).unwrap();
        let mut with_id = event();
        with_id["event_id"] = json!("$mine");
        let with_id = parse("11", &with_id).unwrap();
        assert_ne!(plain.event_id(), with_id.event_id());
        assert_ne!(with_id.event_id(), "$mine");
        assert!(with_id.json().contains("$mine"));
    }
}
