//! "Authorisation rules", step by step.

mod member;
mod power_levels;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Event, Events, Key, State, domain};

/// A number that is above all others.
const INFINITE: i128 = i128::MAX;

struct Rules<'a> {
    version: u32,
    event: &'a Event,
    state: BTreeMap<Key, &'a Event>,
}

/// Whether the state allows the event, by all rules but those about `auth_events`.
pub fn allowed(version: u32, event: &Event, state: &State, events: &Events) -> bool {
    let state = state
        .iter()
        .map(|(key, id)| (key.clone(), &events[id]))
        .collect();
    Rules {
        version,
        event,
        state,
    }
    .allow()
    .is_some()
}

/// Whether the event may name its `auth_events`, and whether these allow it.
pub fn auth_events_allowed(version: u32, event: &Event, events: &Events) -> bool {
    if event.kind() == "m.room.create" {
        return allowed(version, event, &State::new(), events);
    }
    let mut state = State::new();
    if version >= 12 {
        let create = event.create_by_room_id();
        if events.get(&create).is_none_or(|create| create.rejected) {
            return false;
        }
        state.insert(("m.room.create".into(), String::new()), create);
    }
    for id in event.auth_events() {
        let named = &events[&id];
        let expected = selection(version, event).contains(&named.key());
        let twice = state.insert(named.key(), id).is_some();
        if twice || !expected || named.rejected || named.json["room_id"] != event.json["room_id"] {
            return false;
        }
    }
    state.contains_key(&("m.room.create".into(), String::new()))
        && allowed(version, event, &state, events)
}

/// "Auth events selection".
pub fn selection(version: u32, event: &Event) -> Vec<Key> {
    let key = |kind: &str, key: &str| (kind.to_owned(), key.to_owned());
    let mut keys = Vec::new();
    if event.kind() == "m.room.create" {
        return keys;
    }
    if version < 12 {
        keys.push(key("m.room.create", ""));
    }
    keys.push(key("m.room.power_levels", ""));
    keys.push(key("m.room.member", event.sender()));
    if event.kind() == "m.room.member" {
        keys.push(key("m.room.member", event.state_key().unwrap_or_default()));
        let membership = event.membership();
        let joins = membership == Some("join");
        if joins || membership == Some("invite") || (membership == Some("knock") && version >= 7) {
            keys.push(key("m.room.join_rules", ""));
        }
        if membership == Some("invite") {
            let token = &event.content()["third_party_invite"]["signed"]["token"];
            if let Some(token) = token.as_str() {
                keys.push(key("m.room.third_party_invite", token));
            }
        }
        let via = event.content()["join_authorised_via_users_server"].as_str();
        if let Some(via) = via.filter(|_| joins && version >= 8) {
            keys.push(key("m.room.member", via));
        }
    }
    keys
}

/// A level as each version writes it.
fn level(version: u32, value: &Value) -> Option<i128> {
    if let Some(integer) = value.as_i64() {
        return Some(integer.into());
    }
    let text = value.as_str().filter(|_| version < 10)?.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size: i128 = digits.parse().ok()?;
    Some(if text.starts_with('-') { -size } else { size })
}

/// `Some(())` is "allow", `None` is "reject".
type Verdict = Option<()>;

fn allow_if(condition: bool) -> Verdict {
    condition.then_some(())
}

impl<'a> Rules<'a> {
    fn get(&self, kind: &str, key: &str) -> Option<&'a Event> {
        self.state.get(&(kind.to_owned(), key.to_owned())).copied()
    }

    fn membership(&self, user: &str) -> &'a str {
        let event = self.get("m.room.member", user);
        event.and_then(Event::membership).unwrap_or("leave")
    }

    /// An absent rule means `invite`, and so does an event that has none.
    fn join_rule(&self) -> &'a str {
        match self.get("m.room.join_rules", "") {
            None => "invite",
            Some(event) => match &event.content()["join_rule"] {
                Value::String(rule) => rule,
                _ => "invite",
            },
        }
    }

    fn levels(&self) -> Option<&'a Value> {
        self.get("m.room.power_levels", "").map(Event::content)
    }

    fn field(&self, field: &str, default: i128) -> i128 {
        self.levels()
            .and_then(|levels| level(self.version, &levels[field]))
            .unwrap_or(default)
    }

    fn creator(&self) -> Option<&'a str> {
        let create = self.get("m.room.create", "")?;
        if self.version < 11 {
            create.content()["creator"].as_str()
        } else {
            Some(create.sender())
        }
    }

    fn is_privileged(&self, user: &str) -> bool {
        let additional = self
            .get("m.room.create", "")
            .and_then(|create| create.content()["additional_creators"].as_array());
        let is_additional =
            additional.is_some_and(|list| list.iter().any(|creator| creator == user));
        self.version >= 12 && (self.creator() == Some(user) || is_additional)
    }

    fn power(&self, user: &str) -> i128 {
        if self.is_privileged(user) {
            return INFINITE;
        }
        let Some(levels) = self.levels() else {
            return if self.creator() == Some(user) { 100 } else { 0 };
        };
        level(self.version, &levels["users"][user])
            .unwrap_or_else(|| self.field("users_default", 0))
    }

    /// The whole list.
    fn allow(&self) -> Verdict {
        let event = self.event;
        if event.kind() == "m.room.create" {
            return self.create();
        }
        let create = self.get("m.room.create", "")?;
        if self.version >= 12 && create.id != event.create_by_room_id() {
            return None;
        }
        if create.content()["m.federate"] == false
            && domain(event.sender()) != domain(create.sender())
        {
            return None;
        }
        if self.version <= 5 && event.kind() == "m.room.aliases" {
            return allow_if(event.state_key() == Some(domain(event.sender())));
        }
        if event.kind() == "m.room.member" {
            return self.member();
        }
        if self.membership(event.sender()) != "join" {
            return None;
        }
        let power = self.power(event.sender());
        if event.kind() == "m.room.third_party_invite" {
            return allow_if(power >= self.field("invite", 0));
        }
        let (default_field, default) = match event.state_key() {
            Some(_) => ("state_default", 50),
            None => ("events_default", 0),
        };
        let own = self
            .levels()
            .and_then(|levels| level(self.version, &levels["events"][event.kind()]));
        if own.unwrap_or_else(|| self.field(default_field, default)) > power {
            return None;
        }
        if let Some(key) = event.state_key()
            && key.starts_with('@')
            && key != event.sender()
        {
            return None;
        }
        if event.kind() == "m.room.power_levels" {
            return self.power_levels(power);
        }
        if self.version <= 2 && event.kind() == "m.room.redaction" {
            let redacted = event.json["redacts"].as_str().unwrap_or_default();
            let own = domain(redacted) == domain(&event.id);
            return allow_if(power >= self.field("redact", 50) || own);
        }
        Some(())
    }

    fn create(&self) -> Verdict {
        let json = &self.event.json;
        if !self.event.prev_events().is_empty() {
            return None;
        }
        if self.version >= 12 {
            allow_if(json.get("room_id").is_none())?;
        } else {
            allow_if(domain(json["room_id"].as_str()?) == domain(self.event.sender()))?;
        }
        let content = self.event.content();
        if self.version <= 10 {
            content.get("creator")?;
        }
        Some(())
    }
}

/// A user's power by a create event and a power levels event.
pub fn power_by(version: u32, create: Option<&Event>, levels: Option<&Event>, user: &str) -> i128 {
    let state = [create, levels].into_iter().flatten();
    let Some(event) = create.or(levels) else {
        return 0;
    };
    let rules = Rules {
        version,
        event,
        state: state.map(|event| (event.key(), event)).collect(),
    };
    rules.power(user)
}
