//! What an event is to a user by their push rules (client-server API, "Push Rules"): pure.
//!
//! A user's rules are compiled once into a [`RuleSet`], in which what names the user is the same for everybody; so
//! rules that differ in nothing else are one set ([`super::wishes`] shares them), and most users have the defaults.
//! What an event is to those who have a set is found for all of them at once, unless it depends on who is
//! asked, as where somebody is mentioned. What isn't known yet is asked for only if something depends on it: a
//! message notifies everybody by the default rules, however many members the room has.

mod condition;
mod glob;
mod property;
mod seen;
#[cfg(test)]
mod tests;

use rhizome_protocol::{Pdu, power::Power};
use ruma::{
    UserId,
    push::{Action, AnyPushRuleRef, ConditionalPushRule},
};
use serde_json::Value;

pub use self::condition::{Related, related_to};
use self::{
    condition::{Condition, Holds},
    property::{Path, Scalar},
    seen::Seen,
};
use super::rules::Rules;

/// Conditions of a user's own that are asked, …
const MOST_CONDITIONS: usize = 1_000;
/// … and bytes of text in them.
const MOST_TEXT: usize = 64 << 10;

/// Actions of old that everybody must ignore ("Historical Actions").
const HISTORICAL: [&str; 2] = ["dont_notify", "coalesce"];

/// What an event is to a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Alert {
    /// Nothing that they want to be notified of.
    #[default]
    Silent,
    /// They are notified.
    Notify,
    /// They are notified, and it is highlighted.
    Highlight,
}

/// The rules of some users that are enabled, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleSet(Box<[Rule]>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rule {
    /// All of them must hold.
    conditions: Box<[Condition]>,
    alert: Alert,
    /// What it does, as a JSON array.
    actions: Box<str>,
}

/// What is known beside the event.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    /// How many are joined to the room.
    pub members: Option<u64>,
    /// The power levels at the event.
    pub power: Option<Power<'a>>,
    /// Whether the event is in a thread.
    pub in_thread: Option<bool>,
    /// The events of the room that it relates to.
    pub related: Option<&'a [Related<'a>]>,
    /// Who is asked.
    pub user: Option<Asked<'a>>,
}

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The user.
    pub id: &'a UserId,
    /// What they are called in the room.
    pub name: Option<&'a str>,
    /// Whether they follow the thread that the event is in.
    pub follows: bool,
    /// Since which position they are in the room.
    pub since: i64,
}

/// What must be known to say what an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// How many members there are.
    Members,
    /// The power levels.
    Power,
    /// Whether the event is in a thread.
    Thread,
    /// What it relates to.
    Related,
    /// Who is asked.
    User,
}

impl RuleSet {
    /// The rules of `user`. Of their own the first are asked that have no more than 1,000 conditions (at least one
    /// each) and 64 KiB of text; those after them match nothing.
    pub fn of(rules: &Rules, user: &UserId) -> Self {
        let mut left = Some((MOST_CONDITIONS, MOST_TEXT));
        let enabled = rules.iter().filter(|rule| rule.enabled());
        let asked = enabled.filter(|rule| {
            rule.is_server_default() || {
                left = left.and_then(|(conditions, text)| {
                    let (own, own_text) = size_of(*rule);
                    Some((conditions.checked_sub(own)?, text.checked_sub(own_text)?))
                });
                left.is_some()
            }
        });
        Self(asked.map(|rule| Rule::of(rule, user)).collect())
    }

    /// Whether it matters what a user is called in a room.
    pub fn asks_names(&self) -> bool {
        self.asks(|condition| matches!(condition, Condition::NamesUser(_)))
    }

    /// Whether it matters which threads a user follows.
    pub fn asks_threads(&self) -> bool {
        self.asks(|condition| matches!(condition, Condition::Follows(_)))
    }

    /// Whether it matters what an event relates to, and whether the user was there.
    pub fn asks_related(&self) -> bool {
        self.asks(|condition| matches!(condition, Condition::Related(_)))
    }

    fn asks(&self, about: impl FnMut(&Condition) -> bool) -> bool {
        let mut conditions = self.0.iter().flat_map(|rule| &rule.conditions);
        conditions.any(about)
    }

    /// What an event is to somebody who hasn't sent it: to whoever is asked, or, where that is the same, to
    /// everybody who has these rules.
    ///
    /// Patterns and names are looked for in the first 8 KiB of a text only, and texts and lists of over 255 bytes or
    /// items are looked at as long as that is 1 MiB in all; after that nothing matches them.
    ///
    /// # Errors
    /// What must be known to tell.
    pub fn alert(&self, event: &Pdu, known: &Known<'_>) -> Result<Alert, Missing> {
        // Of the rules before that may match: what would tell, and what they all say.
        let mut open: Option<(Missing, Alert)> = None;
        let mut seen = Seen::new(event);
        for rule in &self.0 {
            let holds = rule.matches(&mut seen, known);
            match (holds, open) {
                (Holds::No, _) => {}
                (_, Some((missing, alert))) if alert != rule.alert => return Err(missing),
                (Holds::Yes, _) => return Ok(rule.alert),
                (Holds::Open(missing), None) => open = Some((missing, rule.alert)),
                (Holds::Open(_), Some(_)) => {}
            }
        }
        match open {
            Some((missing, alert)) if alert != Alert::Silent => Err(missing),
            _ => Ok(Alert::Silent),
        }
    }
}

impl RuleSet {
    /// What the rule does that matches an event, as a JSON array of actions; nothing if none matches. It is asked for
    /// somebody who hasn't sent the event, and within the same bounds as [`RuleSet::alert`].
    ///
    /// # Errors
    /// What must be known to tell.
    pub fn actions(
        &self,
        event: &Pdu,
        known: &Known<'_>,
    ) -> Result<Option<(Alert, &str)>, Missing> {
        let mut seen = Seen::new(event);
        for rule in &self.0 {
            match rule.matches(&mut seen, known) {
                Holds::No => {}
                Holds::Yes => return Ok(Some((rule.alert, &rule.actions))),
                Holds::Open(missing) => return Err(missing),
            }
        }
        Ok(None)
    }
}

/// How many conditions a rule has, and how many bytes of text are in them.
fn size_of(rule: AnyPushRuleRef<'_>) -> (usize, usize) {
    match rule {
        AnyPushRuleRef::Override(rule) | AnyPushRuleRef::Underride(rule) => {
            let text = rule.conditions.iter().map(Condition::size_of);
            (rule.conditions.len().max(1), text.sum())
        }
        AnyPushRuleRef::Content(rule) => (1, rule.pattern.len()),
        other => (1, other.rule_id().len()),
    }
}

impl Rule {
    fn of(rule: AnyPushRuleRef<'_>, user: &UserId) -> Self {
        let property =
            |key: &str, id: &str| vec![Condition::Is(Path::parse(key), Scalar::Text(id.into()))];
        let conditional = |rule: &ConditionalPushRule| {
            let conditions = rule.conditions.iter();
            conditions
                .map(|condition| Condition::of(condition, user))
                .collect()
        };
        let mut conditions: Vec<Condition> = match rule {
            AnyPushRuleRef::Override(rule) | AnyPushRuleRef::Underride(rule) => conditional(rule),
            AnyPushRuleRef::Content(rule) => {
                vec![Condition::pattern("content.body", &rule.pattern, user)]
            }
            AnyPushRuleRef::Room(rule) => property("room_id", rule.rule_id.as_str()),
            AnyPushRuleRef::Sender(rule) => property("sender", rule.rule_id.as_str()),
            _ => vec![Condition::Unknown],
        };
        conditions.sort_by_key(Condition::effort);
        Self {
            conditions: conditions.into(),
            alert: Alert::of(rule.actions()),
            actions: in_force(rule.actions()).into(),
        }
    }

    fn matches(&self, seen: &mut Seen<'_>, known: &Known<'_>) -> Holds {
        let mut holds = Holds::Yes;
        for condition in &self.conditions {
            match condition.holds(seen, known) {
                Holds::Yes => {}
                Holds::No => return Holds::No,
                Holds::Open(missing) => holds = Holds::Open(missing),
            }
        }
        holds
    }
}

impl Alert {
    fn of(actions: &[Action]) -> Self {
        if !actions.iter().any(Action::should_notify) {
            Self::Silent
        } else if actions.iter().any(Action::is_highlight) {
            Self::Highlight
        } else {
            Self::Notify
        }
    }
}

/// The actions that mean something, as a JSON array.
fn in_force(actions: &[Action]) -> String {
    let actions = actions.iter().filter_map(|action| {
        let action = serde_json::to_value(action).ok()?;
        (!HISTORICAL.iter().any(|name| action == *name)).then_some(action)
    });
    Value::Array(actions.collect()).to_string()
}
