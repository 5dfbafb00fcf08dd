//! A user's push rules and what may be done to them: pure functions over `ruma`'s [`Ruleset`].

use http::StatusCode;
use ruma::{
    UserId,
    events::push_rules::PushRulesEventContent,
    push::{
        Action, AnyPushRuleRef, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind,
        Ruleset,
    },
};
use serde_json::{Value, json};

use crate::MatrixError;

/// The kinds of rules, in the order in which they are checked.
const KINDS: [&str; 5] = ["override", "content", "room", "sender", "underride"];

/// What old clients send and everybody must ignore ("Historical Actions").
const HISTORICAL: [&str; 2] = ["dont_notify", "coalesce"];

/// The longest id of a rule, in bytes.
const MAX_RULE_ID: usize = 255;

/// The rules that `stored`, the content of the account data, amounts to; the server's defaults without.
/// Default rules are always today's: of those that were stored only what users can change is kept.
pub fn of(user_id: &UserId, stored: Option<&str>) -> Result<Ruleset, MatrixError> {
    let defaults = Ruleset::server_default(user_id);
    let Some(stored) = stored else {
        return Ok(defaults);
    };
    let content: PushRulesEventContent =
        serde_json::from_str(stored).map_err(|error| broken(&error))?;
    let mut rules = content.global;
    rules.update_with_server_default(defaults);
    Ok(rules)
}

/// The rules as clients read them: with all kinds, also those that have none.
pub fn json(rules: &Ruleset) -> Result<Value, MatrixError> {
    let mut value = serde_json::to_value(rules).map_err(|error| broken(&error))?;
    if let Value::Object(value) = &mut value {
        for kind in KINDS {
            value.entry(kind).or_insert_with(|| json!([]));
        }
    }
    Ok(value)
}

/// The content of the account data.
pub fn content(rules: &Ruleset) -> Result<String, MatrixError> {
    Ok(json!({ "global": json(rules)? }).to_string())
}

/// The rule, which must be there.
pub fn find<'a>(
    rules: &'a Ruleset,
    kind: &RuleKind,
    rule_id: &str,
) -> Result<AnyPushRuleRef<'a>, MatrixError> {
    rules.get(kind.clone(), rule_id).ok_or_else(absent)
}

/// Adds a rule, or changes the user's own one with that id; with `after` or `before` it moves next to
/// that one.
pub fn put(
    rules: &mut Ruleset,
    mut rule: NewPushRule,
    after: Option<&str>,
    before: Option<&str>,
) -> Result<(), MatrixError> {
    let (kind, rule_id) = (rule.kind(), rule.rule_id().to_owned());
    if rule_id.is_empty() || rule_id.len() > MAX_RULE_ID {
        return Err(MatrixError::invalid_param(format!(
            "A rule's id has between 1 and {MAX_RULE_ID} bytes"
        )));
    }
    if [after, before].contains(&Some(&rule_id)) {
        return Err(MatrixError::invalid_param(
            "A rule can't be placed relative to itself",
        ));
    }
    without_historical(match &mut rule {
        NewPushRule::Override(rule) | NewPushRule::Underride(rule) => &mut rule.actions,
        NewPushRule::Content(rule) => &mut rule.actions,
        NewPushRule::Room(rule) => &mut rule.actions,
        NewPushRule::Sender(rule) => &mut rule.actions,
        _ => return Err(MatrixError::invalid_param("This is no kind of rule")),
    });
    // A rule that moves is taken out first: positions then are what they will be. It stays disabled if
    // it was.
    let moves = after.or(before).is_some();
    let enabled = rules
        .get(kind.clone(), &rule_id)
        .is_none_or(AnyPushRuleRef::enabled);
    if moves && !rule_id.starts_with('.') {
        let _ = rules.remove(kind.clone(), &rule_id);
    }
    rules
        .insert(rule, after, before)
        .map_err(|error| refused(&error))?;
    set_enabled(rules, &kind, &rule_id, enabled)
}

/// Removes one of the user's own rules.
pub fn delete(rules: &mut Ruleset, kind: &RuleKind, rule_id: &str) -> Result<(), MatrixError> {
    rules
        .remove(kind.clone(), rule_id)
        .map_err(|error| match error {
            RemovePushRuleError::ServerDefault => {
                MatrixError::invalid_param("A rule of the server's can't be deleted, only disabled")
            }
            _ => absent(),
        })
}

/// Switches a rule on or off.
pub fn set_enabled(
    rules: &mut Ruleset,
    kind: &RuleKind,
    rule_id: &str,
    enabled: bool,
) -> Result<(), MatrixError> {
    rules
        .set_enabled(kind.clone(), rule_id, enabled)
        .map_err(|_| absent())
}

/// Sets what a rule does.
pub fn set_actions(
    rules: &mut Ruleset,
    kind: &RuleKind,
    rule_id: &str,
    mut actions: Vec<Action>,
) -> Result<(), MatrixError> {
    without_historical(&mut actions);
    rules
        .set_actions(kind.clone(), rule_id, actions)
        .map_err(|_| absent())
}

fn without_historical(actions: &mut Vec<Action>) {
    actions.retain(|action| {
        let action = serde_json::to_value(action).unwrap_or_default();
        !HISTORICAL.iter().any(|name| action == *name)
    });
}

fn absent() -> MatrixError {
    MatrixError::not_found("There is no such push rule")
}

fn refused(error: &InsertPushRuleError) -> MatrixError {
    let (errcode, message) = match error {
        InsertPushRuleError::ServerDefaultRuleId => (
            "M_INVALID_PARAM",
            "Ids that begin with a dot are the server's own rules",
        ),
        InsertPushRuleError::InvalidRuleId => (
            "M_INVALID_PARAM",
            "A rule's id can't hold a slash or backslash",
        ),
        InsertPushRuleError::RelativeToServerDefaultRule => (
            "M_INVALID_PARAM",
            "A rule can't be placed relative to a rule of the server's",
        ),
        InsertPushRuleError::UnknownRuleId => (
            "M_UNKNOWN",
            "There is no such rule to place this one `before` or `after`",
        ),
        InsertPushRuleError::BeforeHigherThanAfter => (
            "M_INVALID_PARAM",
            "The rule `before` is more important than the one `after`",
        ),
        _ => ("M_UNKNOWN", "This rule can't be set"),
    };
    MatrixError::new(StatusCode::BAD_REQUEST, errcode, message)
}

fn broken(error: &serde_json::Error) -> MatrixError {
    tracing::error!(%error, "stored push rules can't be read or written");
    MatrixError::internal()
}
