//! Filters: what a client wants to hear of (client-server API, "Filtering").
//!
//! Filters are stored as received and read with `ruma`'s types, and what those lack beside them ([`definition`]); what
//! they let through is decided here, by plain functions over the few fields that a filter can name. Whether others
//! relate to an event the database knows ([`related`]).

mod definition;
mod related;

use rhizome_protocol::Object;
use rhizome_storage::StoredEvent;
use ruma::{
    RoomId,
    api::client::filter::{Filter, LazyLoadOptions, RoomEventFilter, UrlFilter},
};
use serde_json::Value;

use self::definition::Texts;
pub use self::{
    definition::{EventFilter, FilterDefinition, RoomFilter},
    related::Asking,
};
use crate::{MatrixError, content::pairs};

/// The longest filter that is accepted, in bytes.
pub const MAX_FILTER_BYTES: usize = 65_536;

/// Timeline events in a room when the filter doesn't say.
pub const DEFAULT_TIMELINE: usize = 10;

/// The most timeline events in a room, or events on a page, whatever the filter says.
pub const MAX_TIMELINE: usize = 1_000;

/// Whether a type matches a filter's pattern, in which `*` stands for any run of characters.
pub fn type_matches(pattern: &str, kind: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == kind;
    };
    let Some(mut left) = kind.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

/// Whether a filter's types let one through.
pub fn types_allow(types: Option<&[String]>, not_types: &[String], kind: &str) -> bool {
    !not_types.iter().any(|pattern| type_matches(pattern, kind))
        && types.is_none_or(|types| types.iter().any(|pattern| type_matches(pattern, kind)))
}

/// Whether a room passes `rooms` and `not_rooms`.
pub fn room_allowed<R: AsRef<RoomId>>(rooms: Option<&[R]>, not_rooms: &[R], room: &RoomId) -> bool {
    !not_rooms.iter().any(|r| r.as_ref() == room)
        && rooms.is_none_or(|rooms| rooms.iter().any(|r| r.as_ref() == room))
}

/// Whether a room passes the whole room filter.
pub fn room_wanted(filter: &RoomFilter, room: &RoomId) -> bool {
    room_allowed(filter.rooms.as_deref(), &filter.not_rooms, room)
}

/// Whether a room passes the `rooms` of one section (timeline, state, ephemeral, …).
pub fn section_wants_room(filter: &RoomEventFilter, room: &RoomId) -> bool {
    room_allowed(filter.rooms.as_deref(), &filter.not_rooms, room)
}

/// Labels of an event that are looked at.
const MOST_LABELS: usize = 100;

/// Whether a section's filter lets an event through (its room is checked apart, and what relates to it by
/// [`Asking::unrelated`]).
pub fn wants_event(filter: &EventFilter, event: &StoredEvent) -> bool {
    let pdu = &event.pdu;
    if !types_allow(filter.types.as_deref(), &filter.not_types, pdu.kind()) {
        return false;
    }
    let sender = pdu.sender();
    if filter.not_senders.iter().any(|s| s == sender)
        || filter
            .senders
            .as_ref()
            .is_some_and(|senders| !senders.iter().any(|s| s == sender))
    {
        return false;
    }
    let has_url = || pdu.content_field("url").is_some();
    let by_url = match filter.url_filter {
        None => true,
        Some(UrlFilter::EventsWithUrl) => has_url(),
        Some(UrlFilter::EventsWithoutUrl) => !has_url(),
    };
    // Most filters ask for nothing of the content, and then it isn't read.
    let said = &filter.said;
    by_url
        && (!said.asks_labels() || wants_labels(filter, pdu.content()))
        && (!said.asks_relation() || wants_relation(filter, pdu.content()))
}

/// Whether every event of the rooms that a filter lets through is let through.
pub fn wants_all(filter: &EventFilter) -> bool {
    let of_types = filter.types.is_none() && filter.not_types.is_empty();
    let of_senders = filter.senders.is_none() && filter.not_senders.is_empty();
    let of_content = filter.url_filter.is_none() && !filter.said.asks_labels();
    let of_relations = !filter.said.asks_relation() && !filter.related.is_asked();
    of_types && of_senders && of_content && of_relations
}

/// Whether the labels of an event let it through (MSC2326); the first [`MOST_LABELS`] count.
fn wants_labels(filter: &EventFilter, content: &Object) -> bool {
    let said = &filter.said;
    if !said.asks_labels() {
        return true;
    }
    let labels = content.get("org.matrix.labels").and_then(Value::as_array);
    let has = |texts: &Texts| {
        let labels = labels.into_iter().flatten().take(MOST_LABELS);
        let mut labels = labels.filter_map(Value::as_str);
        labels.any(|label| texts.contains(label))
    };
    !said.not_labels.as_ref().is_some_and(has) && said.labels.as_ref().is_none_or(has)
}

/// Whether how an event relates to another lets it through (MSC3874).
fn wants_relation(filter: &EventFilter, content: &Object) -> bool {
    let said = &filter.said;
    if !said.asks_relation() {
        return true;
    }
    let relation = content.get("m.relates_to");
    said.wants_rel_type(relation.and_then(|relation| relation.get("rel_type")?.as_str()))
}

/// Whether a section's filter lets a piece of data without a sender through (receipts, typing,
/// account data of a room). Who names senders doesn't want what has none.
pub fn wants_kind(filter: &RoomEventFilter, kind: &str) -> bool {
    filter.senders.is_none() && types_allow(filter.types.as_deref(), &filter.not_types, kind)
}

/// Whether the filter of global account data lets a type through.
pub fn wants_global(filter: &Filter, kind: &str) -> bool {
    filter.senders.is_none() && types_allow(filter.types.as_deref(), &filter.not_types, kind)
}

/// How many events a section may hold, between 0 and [`MAX_TIMELINE`].
pub fn limit(filter: &RoomEventFilter, default: usize) -> usize {
    filter
        .limit
        .map_or(default, |limit| {
            usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
        })
        .min(MAX_TIMELINE)
}

/// Lazy loading of members: `None` when off, else whether redundant ones are wanted.
pub fn lazy_members(filter: &RoomEventFilter) -> Option<bool> {
    match filter.lazy_load_options {
        LazyLoadOptions::Disabled => None,
        LazyLoadOptions::Enabled {
            include_redundant_members,
        } => Some(include_redundant_members),
    }
}

/// Whether all members of a state may be told: neither the types nor lazy loading leave them out.
pub fn wants_members(filter: &RoomEventFilter) -> bool {
    let types = types_allow(filter.types.as_deref(), &filter.not_types, "m.room.member");
    types && lazy_members(filter).is_none()
}

/// Reads a filter. `Err` holds a sentence for the client.
pub fn parse(json: &str) -> Result<FilterDefinition, String> {
    if json.len() > MAX_FILTER_BYTES {
        return Err(format!(
            "the filter is longer than {MAX_FILTER_BYTES} bytes"
        ));
    }
    serde_json::from_str(json).map_err(|error| format!("the filter is not valid: {error}"))
}

/// The filter of events that a request's query names.
pub fn of_query(query: Option<&str>) -> Result<EventFilter, MatrixError> {
    match text_of_query(query) {
        None => Ok(EventFilter::default()),
        Some(text) => serde_json::from_str(&text).map_err(|error| {
            MatrixError::invalid_param(format!("the filter is not valid: {error}"))
        }),
    }
}

/// The text of the filter that a request's query names.
pub fn text_of_query(query: Option<&str>) -> Option<String> {
    let query = query.filter(|query| query.contains("filter"))?;
    let found = pairs(query).into_iter().find(|(name, _)| name == "filter");
    found.map(|(_, text)| text)
}

/// Keeps only the fields of an event that `event_fields` names; `\.` in a name is a literal dot.
pub fn keep_fields(event: &Value, fields: &[String]) -> Value {
    let mut kept = serde_json::Map::new();
    for field in fields {
        let path = split_path(field);
        copy_path(event, &path, &mut kept);
    }
    Value::Object(kept)
}

/// The names in a dot-separated path (appendices, "Dot-separated property paths").
pub fn split_path(field: &str) -> Vec<String> {
    let mut path = vec![String::new()];
    let mut chars = field.chars().peekable();
    while let Some(c) = chars.next() {
        let last = path.len() - 1;
        match c {
            '\\' if matches!(chars.peek(), Some('.' | '\\')) => path[last].extend(chars.next()),
            '.' => path.push(String::new()),
            other => path[last].push(other),
        }
    }
    path
}

fn copy_path(from: &Value, path: &[String], into: &mut serde_json::Map<String, Value>) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let Some(value) = from.get(first) else { return };
    if rest.is_empty() {
        into.insert(first.clone(), value.clone());
        return;
    }
    if !value.is_object() {
        return;
    }
    let below = into
        .entry(first.clone())
        .or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Some(below) = below.as_object_mut() {
        copy_path(value, rest, below);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, kind, expected) in [
            ("m.room.*", "m.room.message", true),
            ("m.room.*", "m.roommate", false),
            ("*", "", true),
            ("*.message", "m.room.message", true),
            ("m.*.message", "m.room.message", true),
            ("m.*.*e", "m.room.message", true),
            ("m.room.message", "m.room.message", true),
            ("m.room.messag", "m.room.message", false),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(type_matches(pattern, kind), expected, "{pattern} {kind}");
        }
    }

    #[test]
    fn an_empty_list_of_types_lets_nothing_through_and_absence_everything() {
        let none: Option<&[String]> = None;
        assert!(types_allow(none, &[], "m.x"));
        assert!(!types_allow(Some(&[]), &[], "m.x"));
        assert!(!types_allow(
            Some(&["m.*".to_owned()]),
            &["m.x".to_owned()],
            "m.x"
        ));
    }

    fn event_filter(json: Value) -> EventFilter {
        serde_json::from_value(json).unwrap()
    }

    fn object(json: Value) -> Object {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn labels_are_looked_for() {
        let labelled = object(json!({"org.matrix.labels": ["#fun", 7, "#work"]}));
        let bare = object(json!({"org.matrix.labels": "#fun"}));
        for (filter, expected) in [
            (json!({}), [true, true]),
            (json!({"org.matrix.labels": ["#fun"]}), [true, false]),
            (
                json!({"org.matrix.labels": ["#other", "#work"]}),
                [true, false],
            ),
            (json!({"org.matrix.labels": ["#other"]}), [false, false]),
            (json!({"org.matrix.labels": []}), [false, false]),
            (json!({"org.matrix.not_labels": ["#fun"]}), [false, true]),
            (json!({"org.matrix.not_labels": ["#other"]}), [true, true]),
            (
                json!({"org.matrix.labels": ["#fun"], "org.matrix.not_labels": ["#work"]}),
                [false, false],
            ),
        ] {
            let read = event_filter(filter.clone());
            let found = [&labelled, &bare].map(|content| wants_labels(&read, content));
            assert_eq!(found, expected, "{filter}");
        }
    }

    #[test]
    fn relations_are_looked_for_under_both_names() {
        let threaded = object(json!({"m.relates_to": {"rel_type": "m.thread", "event_id": "$a"}}));
        let bare = object(json!({"m.relates_to": {"m.in_reply_to": {"event_id": "$a"}}}));
        for prefix in ["", "org.matrix.msc3874."] {
            let (only, not) = (
                format!("{prefix}rel_types"),
                format!("{prefix}not_rel_types"),
            );
            for (filter, expected) in [
                (json!({ &*only: ["m.thread"] }), [true, false]),
                (json!({ &*only: ["m.replace"] }), [false, false]),
                (json!({ &*only: [] }), [false, false]),
                (json!({ &*not: ["m.thread"] }), [false, true]),
                (json!({ &*not: ["m.replace"] }), [true, true]),
                (
                    json!({ &*only: ["m.thread"], &*not: ["m.thread"] }),
                    [false, false],
                ),
            ] {
                let read = event_filter(filter.clone());
                let found = [&threaded, &bare].map(|content| wants_relation(&read, content));
                assert_eq!(found, expected, "{filter}");
            }
        }
    }

    #[test]
    fn fields_are_picked_by_path_with_escaped_dots() {
        let event =
            json!({"type": "m.x", "content": {"body": "hi", "m.relates_to": {"a": 1}, "other": 2}});
        let fields = [
            "type",
            "content.body",
            "content.m\\.relates_to.a",
            "content.absent",
            "type.x",
        ];
        let fields: Vec<String> = fields.iter().map(|&f| f.to_owned()).collect();
        assert_eq!(
            keep_fields(&event, &fields),
            json!({"type": "m.x", "content": {"body": "hi", "m.relates_to": {"a": 1}}})
        );
    }

    #[test]
    fn wrong_filters_are_refused_with_a_reason() {
        assert!(parse("{\"room\": 3}").is_err());
        assert!(parse(&format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_FILTER_BYTES))).is_err());
        for section in ["timeline", "state"] {
            for wrong in [
                json!({"org.matrix.labels": "#fun"}),
                json!({"org.matrix.not_labels": [1]}),
                json!({"related_by_senders": ["nobody"]}),
                json!({"related_by_rel_types": "m.thread"}),
                json!({"rel_types": {}}),
                json!({"org.matrix.msc3874.not_rel_types": [null]}),
                json!({"limit": -1}),
            ] {
                let filter = json!({"room": {section: wrong}});
                assert!(parse(&filter.to_string()).is_err(), "{filter}");
            }
        }
        assert!(parse("{\"presence\": 3}").is_err());
        assert!(parse("{}").is_ok());
    }
}
