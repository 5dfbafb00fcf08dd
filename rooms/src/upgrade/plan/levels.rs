//! What an upgrade makes of power levels.

use rhizome_protocol::{Object, RoomRules, power::read_level};
use ruma::UserId;
use serde_json::Value;

use super::OldRoom;

/// The least level that sending and inviting need in a room that is replaced.
const SILENCE: i64 = 50;
/// What a tombstone needs where who sends it becomes a creator, whom nobody can take any power.
const TOMBSTONE: i64 = 150;
/// The power of those in older versions who had it without limit.
const ADMIN: i64 = 100;
/// The greatest integer of canonical JSON.
const MOST: i64 = (1 << 53) - 1;
/// Fields that hold a level each.
const SINGLE: [&str; 7] = [
    "users_default",
    "events_default",
    "state_default",
    "ban",
    "redact",
    "kick",
    "invite",
];
/// Fields that hold many.
const MANY: [&str; 3] = ["events", "users", "notifications"];

/// The levels of the new room.
pub(super) fn carried(
    rules: &RoomRules,
    levels: &Object,
    old: &OldRoom,
    creators: &[&str],
) -> Object {
    let mut levels = normal(old.rules, levels);
    let privileged = (
        old.rules.auth.privileged_creators,
        rules.auth.privileged_creators,
    );
    if privileged == (false, true) {
        let needed = level_of(&levels, "events", "m.room.tombstone");
        let needed = needed.unwrap_or(TOMBSTONE).max(TOMBSTONE);
        set(&mut levels, "events", "m.room.tombstone", needed);
    }
    if privileged == (true, false) {
        // They can do whatever anybody can.
        let highest = highest(&levels).max(ADMIN);
        for creator in old.creators() {
            set(&mut levels, "users", creator, highest);
        }
    }
    if let Some(Value::Object(users)) = levels.get_mut("users") {
        users.retain(|user, _| {
            !creators.contains(&user.as_str()) && <&UserId>::try_from(user.as_str()).is_ok()
        });
    }
    levels
}

/// The old room's levels with which nobody but moderators sends or invites; `None` if it is so already.
pub(super) fn silenced(rules: &RoomRules, levels: &Object) -> Option<Object> {
    let level = |field: &str| levels.get(field).and_then(|level| read_level(rules, level));
    let everybody = level("users_default").unwrap_or(0);
    let needed = everybody.saturating_add(1).clamp(SILENCE, MOST);
    let mut silenced = levels.clone();
    for field in ["events_default", "invite"] {
        if level(field).unwrap_or(0) < needed {
            silenced.insert(field.into(), needed.into());
        }
    }
    (silenced != *levels).then_some(silenced)
}

/// The same levels as every version writes them. What is none is left out.
fn normal(rules: &RoomRules, levels: &Object) -> Object {
    let read = |value: &Value| read_level(rules, value).map(|level| level.clamp(-MOST, MOST));
    let mut normal = Object::new();
    for (field, value) in levels {
        if SINGLE.contains(&field.as_str()) {
            normal.extend(read(value).map(|level| (field.clone(), level.into())));
        } else if !MANY.contains(&field.as_str()) {
            let mut value = value.clone();
            super::whole_numbers(&mut value);
            normal.insert(field.clone(), value);
        } else if let Value::Object(many) = value {
            let many = many.iter();
            let many = many.filter_map(|(key, value)| Some((key.clone(), read(value)?.into())));
            normal.insert(field.clone(), Value::Object(many.collect()));
        }
    }
    normal
}

fn level_of(levels: &Object, field: &str, key: &str) -> Option<i64> {
    levels.get(field)?.get(key)?.as_i64()
}

fn set(levels: &mut Object, field: &str, key: &str, level: i64) {
    let many = levels.entry(field);
    let many = many.or_insert_with(|| Value::Object(Object::new()));
    if let Value::Object(many) = many {
        many.insert(key.to_owned(), level.into());
    }
}

/// The highest level that anything needs.
fn highest(levels: &Object) -> i64 {
    let single = SINGLE
        .iter()
        .filter_map(|field| levels.get(*field)?.as_i64());
    let events = levels.get("events").and_then(Value::as_object);
    let events = events.into_iter().flat_map(Object::values);
    let events = events.filter_map(Value::as_i64);
    single.chain(events).max().unwrap_or_default()
}
