//! What an event is to a user by their push rules (client-server API, "Push Rules"): pure.
//!
//! A user's rules are compiled once into a [`RuleSet`], in which what names the user is the same for everybody; so
//! rules that differ in nothing else are one set ([`super::wishes`] shares them), and most users have the defaults.
//! What an event is to those who have a set is found for all of them at once, unless it depends on who is
//! asked, as where somebody is mentioned. What isn't known yet is asked for only if something depends on it: a
//! message notifies everybody by the default rules, however many members the room has. Where it does depend on who is
//! asked, it is found once more for all whom the event doesn't name ([`Named`]), and only others are asked one by one.
//!
//! Different sets share what they look at ([`Seen`]): texts in lower case, their words, and whether the server's own
//! rules match, which most sets have.

mod condition;
mod named;
mod property;
mod seen;
#[cfg(test)]
mod tests;
mod words;

use std::sync::LazyLock;

use rhizome_protocol::{glob, power::Power};
use ruma::{
    UserId,
    push::{Action, AnyPushRuleRef, ConditionalPushRule},
};
use serde_json::Value;

use self::{
    condition::{Condition, Holds},
    property::{Path, Scalar},
    seen::MOST_COMMON,
};
pub use self::{
    condition::{Related, related_to},
    named::Named,
    seen::Seen,
};
use super::rules::{self, Rules};

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
    /// Which of the server's rules has the same.
    common: Option<usize>,
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
    /// The user; `None`: whoever isn't named by the event.
    pub id: Option<&'a UserId>,
    /// What they are called in the room.
    pub name: Option<&'a str>,
    /// Whether they follow the thread that the event is in.
    pub follows: bool,
    /// Since which position they are in the room.
    pub since: i64,
}

impl Asked<'_> {
    /// Somebody whom an event doesn't name, and who doesn't follow its thread.
    pub const STRANGER: Self = Self {
        id: None,
        name: None,
        follows: false,
        since: i64::MAX,
    };
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
    pub fn alert(&self, seen: &mut Seen<'_>, known: &Known<'_>) -> Result<Alert, Missing> {
        // Of the rules before that may match: what would tell, and what they all say.
        let mut open: Option<(Missing, Alert)> = None;
        seen.again();
        for rule in &self.0 {
            let holds = rule.matches(seen, known);
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
        seen: &mut Seen<'_>,
        known: &Known<'_>,
    ) -> Result<Option<(Alert, &str)>, Missing> {
        seen.again();
        for rule in &self.0 {
            match rule.matches(seen, known) {
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

/// The conditions of the server's own rules.
static COMMON: LazyLock<Vec<Vec<Condition>>> = LazyLock::new(|| {
    let user = ruma::user_id!("@somebody:somewhere");
    let rules = rules::parsed(user, None).unwrap_or_default();
    let rules = rules.iter().take(MOST_COMMON);
    rules.map(|rule| Rule::conditions(rule, user)).collect()
});

impl Rule {
    fn of(rule: AnyPushRuleRef<'_>, user: &UserId) -> Self {
        let conditions = Self::conditions(rule, user);
        Self {
            common: COMMON.iter().position(|common| *common == conditions),
            conditions: conditions.into(),
            alert: Alert::of(rule.actions()),
            actions: in_force(rule.actions()).into(),
        }
    }

    /// In the order in which they are asked.
    fn conditions(rule: AnyPushRuleRef<'_>, user: &UserId) -> Vec<Condition> {
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
        conditions
    }

    fn matches(&self, seen: &mut Seen<'_>, known: &Known<'_>) -> Holds {
        let Some(number) = self.common else {
            return self.hold(seen, known);
        };
        if let Some(matches) = seen.common(number) {
            return matches.into();
        }
        let holds = self.hold(seen, known);
        // What is found without looking at who is asked holds for everybody.
        if known.user.is_none() && !matches!(holds, Holds::Open(_)) {
            seen.set_common(number, holds == Holds::Yes);
        }
        holds
    }

    fn hold(&self, seen: &mut Seen<'_>, known: &Known<'_>) -> Holds {
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
