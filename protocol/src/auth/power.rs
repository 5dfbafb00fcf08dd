//! Power levels: of users, of events, of actions.

use std::num::IntErrorKind;

use ruma::UserId;
use serde_json::Value;

use crate::{Object, Pdu, RoomRules, auth::StateView, content::text};

/// A user's power. Creators in v12 and later have more than any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A number.
    Int(i64),
    /// A creator's.
    Infinite,
}

/// What a user may do to others, beyond sending events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ban, 50 unless set.
    Ban,
    /// Kick (and unban), 50 unless set.
    Kick,
    /// Invite, 0 unless set.
    Invite,
    /// Redact the events of others, 50 unless set.
    Redact,
}

impl Action {
    /// The field of `m.room.power_levels` that sets its level, and the level if that doesn't.
    fn field(self) -> (&'static str, i64) {
        match self {
            Self::Ban => ("ban", 50),
            Self::Kick => ("kick", 50),
            Self::Invite => ("invite", 0),
            Self::Redact => ("redact", 50),
        }
    }
}

/// The power levels of a room, read as needed from its create and power levels events.
#[derive(Clone, Copy)]
pub struct Power<'a> {
    rules: &'a RoomRules,
    create: Option<&'a Pdu>,
    levels: Option<&'a Object>,
}

impl<'a> Power<'a> {
    /// The levels that `state` sets, or the defaults where it sets none.
    pub fn of(rules: &'a RoomRules, state: &'a (impl StateView + ?Sized)) -> Self {
        let levels = state
            .get("m.room.power_levels", "")
            .map(|event| event.content());
        Self::new(
            rules,
            state.get("m.room.create", "").map(|event| &**event),
            levels,
        )
    }

    /// The levels that these events set: the create event and the content of the power levels event.
    pub fn new(rules: &'a RoomRules, create: Option<&'a Pdu>, levels: Option<&'a Object>) -> Self {
        Self {
            rules,
            create,
            levels,
        }
    }

    /// The user's level.
    pub fn user(&self, user: &UserId) -> Level {
        if self.is_creator(user) {
            return Level::Infinite;
        }
        let Some(levels) = self.levels else {
            // Without an m.room.power_levels event, the creator has 100 and everybody else 0.
            let creator = self.create.and_then(|create| creator(self.rules, create));
            return Level::Int(if creator == Some(user.as_str()) {
                100
            } else {
                0
            });
        };
        let own = levels
            .get("users")
            .and_then(|users| users.get(user.as_str()));
        Level::Int(
            own.and_then(|level| read_level(self.rules, level))
                .or_else(|| self.field("users_default"))
                .unwrap_or(0),
        )
    }

    /// The level that sending an event of this type needs.
    pub fn event(&self, kind: &str, is_state: bool) -> i64 {
        let own = self
            .levels
            .and_then(|levels| levels.get("events"))
            .and_then(|events| events.get(kind));
        let (field, default) = if is_state {
            ("state_default", 50)
        } else {
            ("events_default", 0)
        };
        own.and_then(|level| read_level(self.rules, level))
            .or_else(|| self.field(field))
            .unwrap_or(default)
    }

    /// The level that an action needs.
    pub fn action(&self, action: Action) -> i64 {
        let (field, default) = action.field();
        self.field(field).unwrap_or(default)
    }

    /// The level that notifying with this key needs: 50 unless set.
    pub fn notification(&self, key: &str) -> i64 {
        let own = self
            .levels
            .and_then(|levels| levels.get("notifications"))
            .and_then(|notifications| notifications.get(key));
        own.and_then(|level| read_level(self.rules, level))
            .unwrap_or(50)
    }

    /// Whether the user's level suffices for `action`.
    pub fn may(&self, user: &UserId, action: Action) -> bool {
        self.user(user) >= Level::Int(self.action(action))
    }

    /// The users whom the create event and the levels name. Who else is in the room has the level of all others.
    pub fn named(self) -> impl Iterator<Item = &'a UserId> {
        let users = self
            .levels
            .and_then(|levels| levels.get("users")?.as_object());
        let creator = self.create.and_then(|create| creator(self.rules, create));
        let creators = self.create.into_iter().flat_map(additional_creators);
        let names = users.into_iter().flatten().map(|(user, _)| user.as_str());
        let names = names.chain(creator).chain(creators);
        names.filter_map(|name| <&UserId>::try_from(name).ok())
    }

    /// Whether `user` is a creator with infinite power (v12 and later).
    fn is_creator(&self, user: &UserId) -> bool {
        self.rules.auth.privileged_creators
            && self.create.is_some_and(|create| {
                create.sender() == user
                    || additional_creators(create).any(|creator| creator == user.as_str())
            })
    }

    fn field(&self, field: &str) -> Option<i64> {
        read_level(self.rules, self.levels?.get(field)?)
    }
}

/// The user who made the room: the create event's sender, up to v10 its `content.creator`.
pub fn creator<'a>(rules: &RoomRules, create: &'a Pdu) -> Option<&'a str> {
    if rules.format.creator_in_content {
        text(create.content(), "creator")
    } else {
        Some(create.sender().as_str())
    }
}

/// `content.additional_creators` of a create event, as far as they are strings.
pub fn additional_creators(create: &Pdu) -> impl Iterator<Item = &str> {
    let list = create
        .content()
        .get("additional_creators")
        .and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// A level: an integer, or before v10 also a string of an integer, or a number that is cut at its point
/// (v1 "Deprecated event content schemas"). What no 64 bits hold counts as the nearest that they do.
pub fn read_level(rules: &RoomRules, value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) if rules.auth.integer_levels => number.as_i64(),
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(truncate)),
        Value::String(text) if !rules.auth.integer_levels => read_digits(text.trim()),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "that is the rule, and `as` saturates"
)]
fn truncate(level: f64) -> i64 {
    level as i64
}

/// One optional sign, then decimal digits.
fn read_digits(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(level) => Some(level),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow => Some(i64::MAX),
            IntErrorKind::NegOverflow => Some(i64::MIN),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_with_and_without_an_event() {
        let rules = RoomRules::named("11").unwrap();
        let none = Power::new(rules, None, None);
        let empty = Object::new();
        let empty = Power::new(rules, None, Some(&empty));
        for power in [none, empty] {
            assert_eq!(
                (
                    power.event("m.room.name", true),
                    power.event("m.room.message", false)
                ),
                (50, 0)
            );
            assert_eq!(
                [Action::Ban, Action::Kick, Action::Invite, Action::Redact]
                    .map(|action| power.action(action)),
                [50, 50, 0, 50]
            );
            assert_eq!(power.user(user_id!("@a:b")), Level::Int(0));
        }
    }

    /// The forms that the specification lists as tolerated before v10.
    #[test]
    fn old_levels_may_be_strings_and_fractions() {
        let old = RoomRules::named("1").unwrap();
        let new = RoomRules::named("10").unwrap();
        for (written, level) in [
            (json!("100"), 100),
            (json!("000100"), 100),
            (json!("+100"), 100),
            (json!("-100"), -100),
            (json!(" 100 "), 100),
            (json!(" 00100 "), 100),
            (json!(" +100\n"), 100),
            (json!("\t-100 "), -100),
            (json!(50.57), 50),
            (json!(-50.57), -50),
            (json!(5.114_698E4), 51146),
            (json!(1e300), i64::MAX),
            (json!(-1e300), i64::MIN),
            (json!(u64::MAX), i64::MAX),
            (json!("99999999999999999999"), i64::MAX),
        ] {
            assert_eq!(read_level(old, &written), Some(level), "{written}");
            assert_eq!(read_level(new, &written), None, "{written}");
        }
        for none in [
            json!(""),
            json!(" "),
            json!("1.5"),
            json!("1e2"),
            json!("0x10"),
            json!("1_000"),
            json!("+-1"),
            json!("- 1"),
            json!("1 0"),
            json!("١"),
            json!(null),
            json!(true),
            json!([1]),
            json!({}),
        ] {
            assert_eq!(read_level(old, &none), None, "{none}");
        }
    }

    #[test]
    fn wrong_types_read_as_absent() {
        let rules = RoomRules::named("11").unwrap();
        for content in [
            json!({"users": [], "events": 1, "ban": "x", "users_default": "5", "state_default": 1.5}),
            json!({"users": {"@a:b": "50"}, "events": {"x": null}, "ban": [], "users_default": {}}),
        ] {
            let power = Power::new(rules, None, content.as_object());
            assert_eq!(power.user(user_id!("@a:b")), Level::Int(0));
            assert_eq!(power.event("x", true), 50);
            assert_eq!(power.action(Action::Ban), 50);
        }
        assert!(Level::Infinite > Level::Int(i64::MAX));
    }
}
