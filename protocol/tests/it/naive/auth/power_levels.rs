//! The rules about power levels.

use serde_json::Value;

use super::{Rules, Verdict, level};
use crate::naive::domain;

impl Rules<'_> {
    pub(super) fn power_levels(&self, power: i128) -> Verdict {
        let new = self.event.content();
        let fields = [
            "users_default",
            "events_default",
            "state_default",
            "ban",
            "redact",
            "kick",
            "invite",
        ];
        let maps: &[&str] = if self.version >= 6 {
            &["events", "notifications"]
        } else {
            &["events"]
        };
        let is_level = |value: &Value| level(self.version, value).is_some();
        let is_fine = |value: &Value| is_level(value) || (value.is_null() && self.version < 10);
        for field in fields {
            if new.get(field).is_some_and(|value| !is_fine(value)) {
                return None;
            }
        }
        for map in maps {
            if let Some(map) = new.get(map)
                && !map.as_object()?.values().all(is_fine)
            {
                return None;
            }
        }
        if let Some(users) = new.get("users") {
            for (user, value) in users.as_object()? {
                if !user.starts_with('@') || domain(user).is_empty() || !is_level(value) {
                    return None;
                }
                if self.is_privileged(user) {
                    return None;
                }
            }
        }
        let Some(old) = self.levels() else {
            return Some(());
        };
        let read = |value: &Value| level(self.version, value);
        for field in fields {
            let (old, new) = (read(&old[field]), read(&new[field]));
            if old != new
                && (old.is_some_and(|old| old > power) || new.is_some_and(|new| new > power))
            {
                return None;
            }
        }
        for map in maps.iter().chain(&["users"]) {
            let keys = [old, new]
                .into_iter()
                .filter_map(|levels| levels[map].as_object());
            for key in keys.flat_map(|levels| levels.keys()) {
                let (old, new) = (read(&old[map][key]), read(&new[map][key]));
                if old == new {
                    continue;
                }
                let old_is_above = match old {
                    None => false,
                    Some(_) if *map == "users" && key == self.event.sender() => false,
                    Some(old) if *map == "users" => old >= power,
                    Some(old) => old > power,
                };
                if old_is_above || new.is_some_and(|new| new > power) {
                    return None;
                }
            }
        }
        Some(())
    }
}
