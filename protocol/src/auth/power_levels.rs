//! Rule 10: `m.room.power_levels`.

use std::collections::BTreeSet;

use ruma::UserId;
use serde_json::Value;

use super::{StateView, deny};
use crate::{
    Object, Pdu, Rejection, RoomRules,
    power::{self, Level, read_level},
};

const FIELDS: [&str; 7] = [
    "users_default",
    "events_default",
    "state_default",
    "ban",
    "redact",
    "kick",
    "invite",
];

/// 10. Power levels. `level` is the sender's.
pub(super) fn check(
    event: &Pdu,
    create: &Pdu,
    level: Level,
    state: &(impl StateView + ?Sized),
) -> Result<(), Rejection> {
    let (rules, new) = (event.rules(), event.content());
    check_types(rules, new)?;
    // 10.4. Creators aren't listed: their power is infinite.
    if rules.auth.privileged_creators
        && let Some(Value::Object(users)) = new.get("users")
        && let Some(creator) = std::iter::once(create.sender().as_str())
            .chain(power::additional_creators(create))
            .find(|creator| users.contains_key(*creator))
    {
        return deny(
            "auth 10.4",
            format!("{creator} is a creator, whose power level can't be set"),
        );
    }
    // 10.5. The first one is free.
    let Some(current) = state.get("m.room.power_levels", "") else {
        return Ok(());
    };
    let current = current.content();

    // 10.6. No field may be changed from, or to, more than the sender has.
    for field in FIELDS {
        let (old, new) = (
            own_level(rules, current, field),
            own_level(rules, new, field),
        );
        if old != new {
            for value in [old, new].into_iter().flatten() {
                if Level::Int(value) > level {
                    return deny(
                        "auth 10.6",
                        format!(
                            "`{field}` can't be changed from or to {value}: that is above the sender's level"
                        ),
                    );
                }
            }
        }
    }
    for field in maps(rules) {
        for (key, old, new) in changes(rules, current, new, field) {
            // 10.7. Nor an entry from more,
            if old.is_some_and(|old| Level::Int(old) > level) {
                return deny(
                    "auth 10.7",
                    format!("the level of {key:?} in `{field}` is above the sender's"),
                );
            }
            // 10.8. or to more.
            if new.is_some_and(|new| Level::Int(new) > level) {
                return deny(
                    "auth 10.8",
                    format!("the new level of {key:?} in `{field}` is above the sender's"),
                );
            }
        }
    }
    for (user, old, new) in changes(rules, current, new, "users") {
        // 10.9. Nor a user's who has as much, save the sender's own,
        if user != event.sender().as_str() && old.is_some_and(|old| Level::Int(old) >= level) {
            return deny(
                "auth 10.9",
                format!("{user} has no less power than the sender"),
            );
        }
        // 10.10. or to more.
        if new.is_some_and(|new| Level::Int(new) > level) {
            return deny(
                "auth 10.10",
                format!("the new level of {user} is above the sender's"),
            );
        }
    }
    // 10.11. Otherwise, allow.
    Ok(())
}

/// 10.1 to 10.3: levels are integers, in their places.
///
/// Before v10 the rules have only 10.3's checks; but what can't be read as a level can't be compared with
/// one either, which other servers take for a rejection. `null` is absence to them.
fn check_types(rules: &RoomRules, content: &Object) -> Result<(), Rejection> {
    let is_level = |value: &Value| read_level(rules, value).is_some();
    let is_absent = |value: &Value| value.is_null() && !rules.auth.integer_levels;
    // 10.1. Single levels.
    if let Some(field) = FIELDS.iter().find(|field| {
        content
            .get(**field)
            .is_some_and(|value| !is_level(value) && !is_absent(value))
    }) {
        return deny("auth 10.1", format!("`{field}` must be an integer"));
    }
    // 10.2. Levels of events and notifications.
    for field in maps(rules) {
        if let Some(value) = content.get(*field)
            && !value.as_object().is_some_and(|levels| {
                levels
                    .values()
                    .all(|value| is_level(value) || is_absent(value))
            })
        {
            return deny(
                "auth 10.2",
                format!("`{field}` must be an object of integers"),
            );
        }
    }
    // 10.3. Levels of users.
    if let Some(value) = content.get("users")
        && !value.as_object().is_some_and(|users| {
            users
                .iter()
                .all(|(user, value)| UserId::parse(user.as_str()).is_ok() && is_level(value))
        })
    {
        return deny(
            "auth 10.3",
            "`users` must be an object of user ids and integers",
        );
    }
    Ok(())
}

/// The objects of levels that are not users'. Versions before 6 leave notifications alone.
fn maps(rules: &RoomRules) -> &'static [&'static str] {
    if rules.auth.limit_notifications {
        &["events", "notifications"]
    } else {
        &["events"]
    }
}

fn own_level(rules: &RoomRules, content: &Object, field: &str) -> Option<i64> {
    read_level(rules, content.get(field)?)
}

/// The entries of `field` that differ between two contents: key, old level, new level.
fn changes<'a>(
    rules: &'a RoomRules,
    old: &'a Object,
    new: &'a Object,
    field: &str,
) -> impl Iterator<Item = (&'a str, Option<i64>, Option<i64>)> {
    let old = old.get(field).and_then(Value::as_object);
    let new = new.get(field).and_then(Value::as_object);
    let keys: BTreeSet<&str> = old
        .into_iter()
        .chain(new)
        .flat_map(|levels| levels.keys().map(String::as_str))
        .collect();
    let level = |levels: Option<&Object>, key: &str| own_level(rules, levels?, key);
    keys.into_iter()
        .map(move |key| (key, level(old, key), level(new, key)))
        .filter(|(_, old, new)| old != new)
}
