//! A rule that a client sends.

use ruma::push::{
    Action, NewConditionalPushRule, NewPatternedPushRule, NewPushRule, NewSimplePushRule,
    PushCondition, RuleKind,
};
use serde::Deserialize;

use super::RELATED;
use crate::MatrixError;

#[derive(Deserialize)]
struct Body {
    actions: Vec<Action>,
    #[serde(default)]
    conditions: Vec<PushCondition>,
    pattern: Option<String>,
}

/// Reads it. Of what is no part of this kind of rule nothing is kept.
pub fn read(kind: &RuleKind, rule_id: &str, body: &[u8]) -> Result<NewPushRule, MatrixError> {
    let Body {
        actions,
        conditions,
        pattern,
    } = serde_json::from_slice(body).map_err(|error| MatrixError::of_json(&error))?;
    if !conditions.iter().all(is_whole) {
        return Err(MatrixError::bad_json(
            "A condition on a related event has a `rel_type`, and both `key` and `pattern` or neither",
        ));
    }
    let id = rule_id.to_owned();
    let conditional = || NewConditionalPushRule::new(id.clone(), conditions, actions.clone());
    Ok(match kind {
        RuleKind::Override => NewPushRule::Override(conditional()),
        RuleKind::Underride => NewPushRule::Underride(conditional()),
        RuleKind::Content => {
            let pattern = pattern
                .ok_or_else(|| MatrixError::missing_param("A content rule has a `pattern`"))?;
            NewPushRule::Content(NewPatternedPushRule::new(id, pattern, actions))
        }
        RuleKind::Room => {
            let id = rule_id.try_into().map_err(|error| {
                MatrixError::invalid_param(format!("A room rule's id is a room's: {error}"))
            })?;
            NewPushRule::Room(NewSimplePushRule::new(id, actions))
        }
        RuleKind::Sender => {
            let id = rule_id.try_into().map_err(|error| {
                MatrixError::invalid_param(format!("A sender rule's id is a user's: {error}"))
            })?;
            NewPushRule::Sender(NewSimplePushRule::new(id, actions))
        }
        _ => {
            return Err(MatrixError::invalid_param(
                "Rules of this kind can't be made",
            ));
        }
    })
}

/// Whether a condition on a related event is one: what it matches, and where, come together (MSC3664).
fn is_whole(condition: &PushCondition) -> bool {
    let has = |key: &str| condition.data().contains_key(key);
    condition.kind() != RELATED || (has("rel_type") && has("key") == has("pattern"))
}
