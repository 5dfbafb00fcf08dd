//! A user's push rules and what may be done to them: pure functions over [`Rules`].

mod defaults;

use http::StatusCode;
use ruma::{
    UserId,
    events::push_rules::PushRulesEventContent,
    push::{
        Action, AnyPushRuleRef, ConditionalPushRule, InsertPushRuleError, NewPushRule,
        RemovePushRuleError, RuleKind, Ruleset,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::MatrixError;

/// The kinds of rules, in the order in which they are checked.
const KINDS: [&str; 6] = [
    "override",
    "content",
    "postcontent",
    "room",
    "sender",
    "underride",
];

/// What some clients call the kind of MSC4306.
const POSTCONTENT: [&str; 2] = ["postcontent", "io.element.msc4306.postcontent"];

/// The longest id of a rule, in bytes.
const MAX_RULE_ID: usize = 255;

/// A user's push rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Of the specification's kinds.
    pub known: Ruleset,
    /// Of the kind that is asked after those by content (MSC4306). They are all the server's.
    pub postcontent: Vec<ConditionalPushRule>,
}

/// What [`Ruleset`] doesn't read of the account data.
#[derive(Deserialize)]
struct Stored {
    global: More,
}

#[derive(Deserialize)]
struct More {
    #[serde(default)]
    postcontent: Vec<ConditionalPushRule>,
}

impl Rules {
    /// All rules in the order in which they are asked. What those after content are is the same as an override rule.
    pub fn iter(&self) -> impl Iterator<Item = AnyPushRuleRef<'_>> {
        let is_before = |rule: &AnyPushRuleRef<'_>| {
            matches!(
                rule,
                AnyPushRuleRef::Override(_) | AnyPushRuleRef::Content(_)
            )
        };
        let before = self.known.iter().take_while(is_before);
        let after = self.known.iter().skip_while(is_before);
        let postcontent = self.postcontent.iter().map(AnyPushRuleRef::Override);
        before.chain(postcontent).chain(after)
    }

    fn postcontent(&mut self, rule_id: &str) -> Result<&mut ConditionalPushRule, MatrixError> {
        let mut rules = self.postcontent.iter_mut();
        rules
            .find(|rule| rule.rule_id == rule_id)
            .ok_or_else(absent)
    }
}

/// Reads the name of a kind.
pub fn kind(text: &str) -> Result<RuleKind, MatrixError> {
    let known = KINDS.contains(&text) || POSTCONTENT.contains(&text);
    let kind = known.then(|| RuleKind::from(text));
    kind.ok_or_else(|| MatrixError::invalid_param("There is no such kind of push rule"))
}

/// Whether it is the kind of MSC4306.
pub fn is_postcontent(kind: &RuleKind) -> bool {
    POSTCONTENT.contains(&kind.as_str())
}

/// The rules that `stored`, the content of the account data, amounts to; the server's defaults without.
/// Default rules are always today's: of those that were stored only what users can change is kept.
pub fn of(user_id: &UserId, stored: Option<&str>) -> Result<Rules, MatrixError> {
    let mut defaults = defaults::of(user_id);
    let Some(stored) = stored else {
        return Ok(defaults);
    };
    let content: PushRulesEventContent =
        serde_json::from_str(stored).map_err(|error| broken(&error))?;
    let more: Stored = serde_json::from_str(stored).map_err(|error| broken(&error))?;
    let mut known = content.global;
    known.update_with_server_default(defaults.known);
    for old in more.global.postcontent {
        let same = defaults.postcontent.iter_mut();
        for rule in same.filter(|rule| rule.rule_id == old.rule_id) {
            rule.enabled = old.enabled;
            rule.actions.clone_from(&old.actions);
        }
    }
    Ok(Rules {
        known,
        postcontent: defaults.postcontent,
    })
}

/// The rules as clients read them: with all kinds, also those that have none.
pub fn json(rules: &Rules) -> Result<Value, MatrixError> {
    let mut value = serde_json::to_value(&rules.known).map_err(|error| broken(&error))?;
    if let Value::Object(value) = &mut value {
        let postcontent = serde_json::to_value(&rules.postcontent);
        let postcontent = postcontent.map_err(|error| broken(&error))?;
        value.insert(POSTCONTENT[0].to_owned(), postcontent);
        for kind in KINDS {
            value.entry(kind).or_insert_with(|| json!([]));
        }
    }
    Ok(value)
}

/// The rules of one kind, as clients read them.
pub fn json_of(rules: &Rules, kind: &RuleKind) -> Result<Value, MatrixError> {
    let name = if is_postcontent(kind) {
        POSTCONTENT[0]
    } else {
        kind.as_str()
    };
    Ok(json(rules)?[name].take())
}

/// The content of the account data.
pub fn content(rules: &Rules) -> Result<String, MatrixError> {
    Ok(json!({ "global": json(rules)? }).to_string())
}

/// The rule, which must be there.
pub fn find<'a>(
    rules: &'a Rules,
    kind: &RuleKind,
    rule_id: &str,
) -> Result<AnyPushRuleRef<'a>, MatrixError> {
    if is_postcontent(kind) {
        let mut rules = rules.postcontent.iter();
        let rule = rules.find(|rule| rule.rule_id == rule_id);
        return rule.map(AnyPushRuleRef::Override).ok_or_else(absent);
    }
    let rule = rules.known.get(kind.clone(), rule_id);
    rule.ok_or_else(absent)
}

/// Adds a rule, or changes the user's own one with that id; with `after` or `before` it moves next to
/// that one.
pub fn put(
    rules: &mut Rules,
    rule: NewPushRule,
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
    // A rule that moves is taken out first: positions then are what they will be. It stays disabled if
    // it was.
    let moves = after.or(before).is_some();
    let known = &mut rules.known;
    let enabled = known
        .get(kind.clone(), &rule_id)
        .is_none_or(AnyPushRuleRef::enabled);
    if moves && !rule_id.starts_with('.') {
        let _ = known.remove(kind.clone(), &rule_id);
    }
    known
        .insert(rule, after, before)
        .map_err(|error| refused(&error))?;
    set_enabled(rules, &kind, &rule_id, enabled)
}

/// Removes one of the user's own rules.
pub fn delete(rules: &mut Rules, kind: &RuleKind, rule_id: &str) -> Result<(), MatrixError> {
    let of_the_server =
        || MatrixError::invalid_param("A rule of the server's can't be deleted, only disabled");
    if is_postcontent(kind) {
        return rules
            .postcontent(rule_id)
            .and_then(|_| Err(of_the_server()));
    }
    let removed = rules.known.remove(kind.clone(), rule_id);
    removed.map_err(|error| match error {
        RemovePushRuleError::ServerDefault => of_the_server(),
        _ => absent(),
    })
}

/// Switches a rule on or off.
pub fn set_enabled(
    rules: &mut Rules,
    kind: &RuleKind,
    rule_id: &str,
    enabled: bool,
) -> Result<(), MatrixError> {
    if is_postcontent(kind) {
        rules.postcontent(rule_id)?.enabled = enabled;
        return Ok(());
    }
    let set = rules.known.set_enabled(kind.clone(), rule_id, enabled);
    set.map_err(|_| absent())
}

/// Sets what a rule does.
pub fn set_actions(
    rules: &mut Rules,
    kind: &RuleKind,
    rule_id: &str,
    actions: Vec<Action>,
) -> Result<(), MatrixError> {
    if is_postcontent(kind) {
        rules.postcontent(rule_id)?.actions = actions;
        return Ok(());
    }
    let set = rules.known.set_actions(kind.clone(), rule_id, actions);
    set.map_err(|_| absent())
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
