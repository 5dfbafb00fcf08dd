//! The redaction algorithm.

use serde_json::Value;

use crate::{
    Object, RoomRules,
    canonical::{JsonError, ObjectWriter, write_object, write_value},
};

/// Removes from an event all that its room version's redaction doesn't keep. `unsigned` goes as well.
pub fn redact(rules: &RoomRules, object: &mut Object) {
    object.retain(|key, _| keeps_top_level(rules, key));
    let kind = match object.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        _ => String::new(),
    };
    if let Some(Value::Object(content)) = object.get_mut("content") {
        redact_content(rules, &kind, content);
    }
}

/// Removes from the content of an event of type `kind` all that a redaction doesn't keep.
pub(crate) fn redact_content(rules: &RoomRules, kind: &str, content: &mut Object) {
    content.retain(|key, value| keeps_content(rules, kind, key, value));
    if let Some(Value::Object(invite)) = third_party_invite(kind, content) {
        invite.retain(|key, _| key == "signed");
    }
}

/// The text that an event's signatures and its reference hash are over: canonical, redacted, without
/// `signatures` and `unsigned`. Written straight from the full event.
pub(crate) fn signed_text(rules: &RoomRules, object: &Object) -> Result<String, JsonError> {
    let kind = object
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut keys: Vec<_> = object
        .iter()
        .filter(|(key, _)| *key != "signatures" && keeps_top_level(rules, key))
        .collect();
    keys.sort_unstable_by_key(|(key, _)| *key);

    let mut out = String::with_capacity(512);
    let mut event = ObjectWriter::begin(&mut out, 1)?;
    for (key, value) in keys {
        event.key(key);
        match value {
            Value::Object(content) if key == "content" => {
                write_kept_content(rules, kind, content, event.out)?;
            }
            value => write_value(event.out, value, rules.strictness(), 1)?,
        }
    }
    event.end();
    Ok(out)
}

fn write_kept_content(
    rules: &RoomRules,
    kind: &str,
    content: &Object,
    out: &mut String,
) -> Result<(), JsonError> {
    let mut keys: Vec<_> = content
        .iter()
        .filter(|(key, value)| keeps_content(rules, kind, key, value))
        .collect();
    keys.sort_unstable_by_key(|(key, _)| *key);
    let mut object = ObjectWriter::begin(out, 2)?;
    for (key, value) in keys {
        object.key(key);
        match value {
            Value::Object(invite) if kind == "m.room.member" && key == "third_party_invite" => {
                write_object(object.out, invite, rules.strictness(), 3, |key| {
                    key == "signed"
                })?;
            }
            value => write_value(object.out, value, rules.strictness(), 2)?,
        }
    }
    object.end();
    Ok(())
}

fn third_party_invite<'a>(kind: &str, content: &'a mut Object) -> Option<&'a mut Value> {
    if kind == "m.room.member" {
        content.get_mut("third_party_invite")
    } else {
        None
    }
}

/// Whether a redacted event has this top-level key.
fn keeps_top_level(rules: &RoomRules, key: &str) -> bool {
    match key {
        "event_id" | "type" | "room_id" | "sender" | "state_key" | "content" | "hashes"
        | "signatures" | "depth" | "prev_events" | "auth_events" | "origin_server_ts" => true,
        "membership" | "origin" | "prev_state" => rules.redaction.keep_old_top_level,
        _ => false,
    }
}

/// Whether the redacted content of an event of type `kind` has this key.
fn keeps_content(rules: &RoomRules, kind: &str, key: &str, value: &Value) -> bool {
    let rules = &rules.redaction;
    match (kind, key) {
        ("m.room.member", "membership")
        | ("m.room.create", "creator")
        | ("m.room.join_rules", "join_rule")
        | ("m.room.history_visibility", "history_visibility")
        | (
            "m.room.power_levels",
            "ban" | "events" | "events_default" | "kick" | "redact" | "state_default" | "users"
            | "users_default",
        ) => true,
        ("m.room.member", "join_authorised_via_users_server") => rules.keep_authorised_via,
        ("m.room.member", "third_party_invite") => {
            rules.keep_third_party_signed && value.is_object()
        }
        ("m.room.create", _) => rules.keep_create,
        ("m.room.join_rules", "allow") => rules.keep_allow,
        ("m.room.power_levels", "invite") => rules.keep_invite_level,
        ("m.room.aliases", "aliases") => rules.keep_aliases,
        ("m.room.redaction", "redacts") => rules.keep_redacts,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::canonical::to_canonical;

    fn object(value: Value) -> Object {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        object
    }

    fn redacted(version: &str, event: Value) -> Value {
        let rules = RoomRules::named(version).unwrap();
        let mut event = object(event);
        let text = signed_text(rules, &event).unwrap();
        redact(rules, &mut event);
        let mut unsigned = event.clone();
        unsigned.remove("signatures");
        assert_eq!(
            text,
            to_canonical(&unsigned).unwrap(),
            "the two ways to redact agree"
        );
        Value::Object(event)
    }

    #[test]
    fn top_level_fields_differ_between_versions() {
        let event = json!({"type": "x", "sender": "@a:b", "room_id": "!r", "event_id": "$x", "hashes": {}, "depth": 1,
            "signatures": {}, "prev_events": [], "auth_events": [], "origin_server_ts": 1, "state_key": "",
            "origin": "b", "membership": "join", "prev_state": [], "redacts": "$y", "unsigned": {}, "extra": 1,
            "content": {"body": "x"}});
        let v11 = json!({"type": "x", "sender": "@a:b", "room_id": "!r", "event_id": "$x", "hashes": {}, "depth": 1,
            "signatures": {}, "prev_events": [], "auth_events": [], "origin_server_ts": 1, "state_key": "",
            "content": {}});
        let mut v10 = v11.clone();
        for (key, value) in [
            ("origin", json!("b")),
            ("membership", json!("join")),
            ("prev_state", json!([])),
        ] {
            v10[key] = value;
        }
        assert_eq!(redacted("10", event.clone()), v10);
        assert_eq!(redacted("11", event.clone()), v11);
        assert_eq!(redacted("12", event), v11);
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better so")]
    fn content(version: &str, kind: &str, content: Value) -> Value {
        redacted(version, json!({"type": kind, "content": content}))["content"].clone()
    }

    #[test]
    fn contents_differ_between_versions() {
        let member = json!({"membership": "invite", "displayname": "x", "join_authorised_via_users_server": "@a:b",
            "third_party_invite": {"display_name": "x", "signed": {"mxid": "@a:b"}}});
        assert_eq!(
            content("10", "m.room.member", member.clone()),
            json!({"membership": "invite", "join_authorised_via_users_server": "@a:b"})
        );
        assert_eq!(
            content("11", "m.room.member", member),
            json!({"membership": "invite", "join_authorised_via_users_server": "@a:b",
                "third_party_invite": {"signed": {"mxid": "@a:b"}}})
        );
        assert_eq!(
            content("11", "m.room.member", json!({"third_party_invite": 1})),
            json!({})
        );
        assert_eq!(
            content(
                "11",
                "m.room.member",
                json!({"third_party_invite": {"x": 1}})
            ),
            json!({"third_party_invite": {}})
        );

        let create = json!({"creator": "@a:b", "room_version": "10", "m.federate": false});
        assert_eq!(
            content("10", "m.room.create", create.clone()),
            json!({"creator": "@a:b"})
        );
        assert_eq!(content("12", "m.room.create", create.clone()), create);

        let power = json!({"invite": 1, "kick": 2, "notifications": {}, "users": {"@a:b": 100}});
        assert_eq!(
            content("10", "m.room.power_levels", power.clone()),
            json!({"kick": 2, "users": {"@a:b": 100}})
        );
        assert_eq!(
            content("11", "m.room.power_levels", power),
            json!({"invite": 1, "kick": 2, "users": {"@a:b": 100}})
        );

        let redaction = json!({"redacts": "$x", "reason": "spam"});
        assert_eq!(
            content("10", "m.room.redaction", redaction.clone()),
            json!({})
        );
        assert_eq!(
            content("11", "m.room.redaction", redaction),
            json!({"redacts": "$x"})
        );

        let rules = json!({"join_rule": "restricted", "allow": [], "x": 1});
        assert_eq!(
            content("10", "m.room.join_rules", rules),
            json!({"join_rule": "restricted", "allow": []})
        );
        assert_eq!(
            content(
                "12",
                "m.room.message",
                json!({"body": "x", "membership": "join"})
            ),
            json!({})
        );
    }

    #[test]
    fn each_key_is_kept_from_one_version_to_another() {
        for rules in RoomRules::supported() {
            let number: u32 = rules.id().parse().unwrap();
            let kept = |kind: &str, key: &str, since: u32, until: u32| {
                let redacted = content(rules.id(), kind, json!({ key: ["x"] }));
                let expected = (since..=until).contains(&number);
                assert_eq!(
                    redacted.get(key).is_some(),
                    expected,
                    "{kind} {key} in {number}"
                );
            };
            kept("m.room.aliases", "aliases", 1, 5);
            kept("m.room.join_rules", "allow", 8, 12);
            kept("m.room.member", "join_authorised_via_users_server", 9, 12);
            kept("m.room.create", "creator", 1, 12);
            kept("m.room.create", "m.federate", 11, 12);
            kept("m.room.power_levels", "invite", 11, 12);
            kept("m.room.power_levels", "notifications", 13, 13);
            kept("m.room.redaction", "redacts", 11, 12);
            kept("m.room.history_visibility", "history_visibility", 1, 12);
        }
    }
}
