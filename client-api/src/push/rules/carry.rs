//! What becomes of rules for a room when another replaces it: pure.

use ruma::{
    RoomId,
    push::{
        ConditionalPushRule, EventMatchConditionData, NewConditionalPushRule, NewPushRule,
        NewSimplePushRule, PushCondition, RuleKind,
    },
};

use super::ruleset::{self, Rules};

/// Copies the user's rules for one room to another: that of the room itself, and those that clients make of a
/// condition on it, such as the one by which a room is muted. What is there for the new room stays as it is.
pub fn carry(rules: &mut Rules, old: &RoomId, new: &RoomId) {
    if let Some(rule) = rules.known.room.get(old.as_str())
        && !rules.known.room.contains(new.as_str())
    {
        let (actions, enabled) = (rule.actions.clone(), rule.enabled);
        let rule = NewSimplePushRule::new(new.to_owned(), actions);
        add(rules, NewPushRule::Room(rule), None, enabled);
    }
    for kind in [RuleKind::Override, RuleKind::Underride] {
        let known = match kind {
            RuleKind::Override => &rules.known.override_,
            _ => &rules.known.underride,
        };
        let about: Vec<_> = known
            .iter()
            .filter(|rule| !rule.default && rule.conditions.iter().any(|one| is_about(one, old)))
            .cloned()
            .collect();
        for rule in about {
            copy(rules, &kind, &rule, (old, new));
        }
    }
}

fn copy(rules: &mut Rules, kind: &RuleKind, rule: &ConditionalPushRule, of: (&RoomId, &RoomId)) {
    let (old, new) = of;
    // Mostly a client's id for such a rule is the room's.
    let id = if rule.rule_id.contains(old.as_str()) {
        rule.rule_id.replace(old.as_str(), new.as_str())
    } else {
        format!("{}.{new}", rule.rule_id)
    };
    if ruleset::find(rules, kind, &id).is_ok() {
        return;
    }
    let conditions = rule.conditions.iter().map(|condition| {
        if !is_about(condition, old) {
            return condition.clone();
        }
        EventMatchConditionData::new("room_id".to_owned(), new.to_string()).into()
    });
    let copy = NewConditionalPushRule::new(id, conditions.collect(), rule.actions.clone());
    let copy = match kind {
        RuleKind::Override => NewPushRule::Override(copy),
        _ => NewPushRule::Underride(copy),
    };
    add(rules, copy, Some(&rule.rule_id), rule.enabled);
}

/// One that can't be, as its id would be too long, isn't carried.
fn add(rules: &mut Rules, rule: NewPushRule, after: Option<&str>, enabled: bool) {
    let (kind, id) = (rule.kind(), rule.rule_id().to_owned());
    if ruleset::put(rules, rule, after, None).is_ok() {
        let _ = ruleset::set_enabled(rules, &kind, &id, enabled);
    }
}

fn is_about(condition: &PushCondition, room: &RoomId) -> bool {
    match condition {
        PushCondition::EventMatch(data) => data.key == "room_id" && data.pattern == room.as_str(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    fn carried(stored: &Value) -> Value {
        let content = json!({ "global": stored }).to_string();
        let mut rules = ruleset::of(user_id!("@me:x"), Some(&content)).unwrap();
        carry(&mut rules, room_id!("!unknown:x"), room_id!("!new:x"));
        carry(&mut rules, room_id!("!old:x"), room_id!("!new:x"));
        let once = ruleset::content(&rules).unwrap();
        carry(&mut rules, room_id!("!old:x"), room_id!("!new:x"));
        assert_eq!(ruleset::content(&rules).unwrap(), once);
        let mut value = ruleset::json(&rules).unwrap();
        for kind in ["override", "room"] {
            let kind = value[kind].as_array_mut().unwrap();
            kind.retain(|rule| rule["default"] == false);
        }
        json!({ "override": value["override"], "room": value["room"] })
    }

    fn rule(id: &str, room: &str, enabled: bool) -> Value {
        json!({ "rule_id": id, "default": false, "enabled": enabled, "actions": ["dont_notify"],
            "conditions": [{ "kind": "event_match", "key": "room_id", "pattern": room },
                { "kind": "event_match", "key": "type", "pattern": "m.*" }] })
    }

    fn of_room(id: &str, enabled: bool, actions: &Value) -> Value {
        json!({ "rule_id": id, "default": false, "enabled": enabled, "actions": actions })
    }

    #[test]
    fn rules_for_a_room_are_there_for_its_successor_in_the_same_place() {
        let other = rule("other", "!elsewhere:x", true);
        let stored = json!({
            "override": [rule("!old:x", "!old:x", true), other, rule("mine", "!old:x", false)],
            "room": [of_room("!old:x", false, &json!(["notify"]))],
        });
        let found = carried(&stored);
        let overrides = [
            rule("!old:x", "!old:x", true),
            rule("!new:x", "!new:x", true),
            other,
            rule("mine", "!old:x", false),
            rule("mine.!new:x", "!new:x", false),
        ];
        assert_eq!(found["override"], json!(overrides));
        let rooms = [
            of_room("!new:x", false, &json!(["notify"])),
            of_room("!old:x", false, &json!(["notify"])),
        ];
        assert_eq!(found["room"], json!(rooms));
    }

    #[test]
    fn what_is_there_for_the_new_room_stays() {
        let rooms = json!([
            of_room("!new:x", true, &json!([])),
            of_room("!old:x", true, &json!(["notify"])),
        ]);
        let found = carried(&json!({ "room": rooms }));
        assert_eq!(found["room"], rooms);
        assert_eq!(found["override"], json!([]));
    }
}
