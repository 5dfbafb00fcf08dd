//! The server's own rules (client-server API, "Predefined Rules"), with those of proposals under their unstable ids.
//!
//! `ruma` has the specification's. Here is what it lacks or has otherwise: polls (MSC3930) are matched by `event_match`,
//! as clients look for it; every encrypted event may be pushed (MSC4028), and followed threads notify (MSC4306).

use std::sync::LazyLock;

use ruma::{
    UserId,
    push::{
        ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData, PushCondition,
        Ruleset,
    },
};

use super::Rules;

/// The types of polls as they are sent.
const POLLS: &str = "org.matrix.msc3381.poll.";

/// Threads, between what the text says and what the room says. A thread that isn't followed is silent only for who
/// enables that rule: most clients don't know what following is, and would never hear of a thread.
const THREADS: &str = r#"[
    {"rule_id": ".io.element.msc4306.rule.unsubscribed_thread", "default": true, "enabled": false,
     "conditions": [{"kind": "io.element.msc4306.thread_subscription", "subscribed": false}], "actions": []},
    {"rule_id": ".io.element.msc4306.rule.subscribed_thread", "default": true, "enabled": true,
     "conditions": [{"kind": "io.element.msc4306.thread_subscription", "subscribed": true}],
     "actions": ["notify", {"set_tweak": "sound", "value": "default"}]}
]"#;

/// Every encrypted event, right after the rule that silences all; for clients that decrypt what they are woken for.
const ENCRYPTED: &str = r#"
    {"rule_id": ".org.matrix.msc4028.encrypted_event", "default": true, "enabled": false,
     "conditions": [{"kind": "event_match", "key": "type", "pattern": "m.room.encrypted"}],
     "actions": ["notify"]}"#;

static POSTCONTENT: LazyLock<Vec<ConditionalPushRule>> =
    LazyLock::new(|| serde_json::from_str(THREADS).unwrap_or_default());
static ENCRYPTED_EVENT: LazyLock<Option<ConditionalPushRule>> =
    LazyLock::new(|| serde_json::from_str(ENCRYPTED).ok());

/// The rules of a user who has never changed one.
pub fn of(user_id: &UserId) -> Rules {
    let mut known = Ruleset::server_default(user_id);
    known.override_ = known.override_.into_iter().map(of_polls).collect();
    known.underride = known.underride.into_iter().map(of_polls).collect();
    if let Some(rule) = &*ENCRYPTED_EVENT {
        let (at, _) = known.override_.insert_full(rule.clone());
        known.override_.move_index(at, 1);
    }
    Rules {
        known,
        postcontent: POSTCONTENT.clone(),
    }
}

fn of_polls(rule: ConditionalPushRule) -> ConditionalPushRule {
    let conditions = rule.conditions.into_iter().map(|condition| {
        let PushCondition::EventPropertyIs(data) = &condition else {
            return condition;
        };
        let kind = data.value.as_str().filter(|kind| kind.starts_with(POLLS));
        match kind {
            Some(kind) => EventMatchConditionData::new(data.key.clone(), kind.to_owned()).into(),
            None => condition,
        }
    });
    ConditionalPushRuleInit {
        conditions: conditions.collect(),
        actions: rule.actions,
        default: rule.default,
        enabled: rule.enabled,
        rule_id: rule.rule_id,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn all_that_is_added_is_there_and_only_polls_are_changed() {
        let user = user_id!("@me:x");
        let (rules, of_ruma) = (of(user), Ruleset::server_default(user));
        assert_eq!(rules.postcontent.len(), 2);
        assert_eq!(
            rules.known.override_[1].rule_id,
            ".org.matrix.msc4028.encrypted_event"
        );
        assert_eq!(rules.known.iter().count(), of_ruma.iter().count() + 1);
        let mut changed = Vec::new();
        for rule in &of_ruma {
            let id = rule.rule_id();
            let ours = rules.known.iter().find(|ours| ours.rule_id() == id);
            let text = |rule| serde_json::to_value(ruma_rule(rule)).unwrap();
            if text(ours.unwrap()) != text(rule) {
                changed.push(id);
            }
        }
        assert!(
            changed.iter().all(|id| id.contains("msc3930")),
            "{changed:?}"
        );
        assert_eq!(changed.len(), 5);
    }

    fn ruma_rule(rule: ruma::push::AnyPushRuleRef<'_>) -> ruma::api::client::push::PushRule {
        rule.to_owned().into()
    }
}
