//! "Authorisation rules", step by step.

use std::collections::BTreeMap;

use ring::signature::{ED25519, UnparsedPublicKey};
use ruma::serde::{Base64, base64::Standard};
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

    fn member(&self) -> Verdict {
        let event = self.event;
        let target = event.state_key()?;
        let (user, host) = target.split_once(':')?;
        // Other servers don't take any other state key than a user's.
        if !user.starts_with('@') || host.is_empty() {
            return None;
        }
        let sender = event.sender();
        let now = self.membership(sender);
        let power = self.power(sender);
        let target_power = self.power(target);
        let target_now = self.membership(target);
        match event.membership()? {
            "join" => self.join(target),
            "invite" if event.content().get("third_party_invite").is_some() => {
                self.third_party_invite(target)
            }
            "invite" => {
                let ok = now == "join" && target_now != "join" && target_now != "ban";
                allow_if(ok && power >= self.field("invite", 0))
            }
            "leave" if sender == target => {
                allow_if(now == "invite" || now == "join" || (now == "knock" && self.version >= 7))
            }
            "leave" => {
                if now != "join" || (target_now == "ban" && power < self.field("ban", 50)) {
                    return None;
                }
                allow_if(power >= self.field("kick", 50) && target_power < power)
            }
            "ban" => {
                allow_if(now == "join" && power >= self.field("ban", 50) && target_power < power)
            }
            "knock" if self.version >= 7 => {
                let rule = self.join_rule();
                let open = rule == "knock" || (rule == "knock_restricted" && self.version >= 10);
                allow_if(open && sender == target && !["ban", "invite", "join"].contains(&now))
            }
            _ => None,
        }
    }

    fn third_party_invite(&self, target: &str) -> Verdict {
        if self.membership(target) == "ban" {
            return None;
        }
        let mut signed = self.event.content()["third_party_invite"]
            .get("signed")?
            .clone();
        let (mxid, token) = (
            signed.get("mxid")?.as_str()?,
            signed.get("token")?.as_str()?,
        );
        let known = self.get("m.room.third_party_invite", token)?;
        if mxid != target || known.sender() != self.event.sender() {
            return None;
        }
        let base64 =
            |text: &Value| Some(Base64::<Standard>::parse(text.as_str()?).ok()?.into_inner());
        let key = base64(known.content().get("public_key")?)?;
        let signatures = signed.as_object_mut()?.remove("signatures")?;
        let text = signed.to_string();
        let mut all = signatures
            .as_object()?
            .values()
            .filter_map(Value::as_object)
            .flat_map(|keys| keys.values());
        let holds = |signature: &Value| {
            let key = UnparsedPublicKey::new(&ED25519, &key);
            base64(signature)
                .is_some_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
        };
        allow_if(all.any(holds))
    }

    fn join(&self, target: &str) -> Verdict {
        let event = self.event;
        let create = self.get("m.room.create", "")?;
        if event.prev_events() == [create.id.clone()] && self.creator() == Some(target) {
            return Some(());
        }
        let now = self.membership(event.sender());
        if event.sender() != target || now == "ban" {
            return None;
        }
        let invited = now == "invite" || now == "join";
        match self.join_rule() {
            "invite" => allow_if(invited),
            "knock" if self.version >= 7 => allow_if(invited),
            rule if (rule == "restricted" && self.version >= 8)
                || (rule == "knock_restricted" && self.version >= 10) =>
            {
                if invited {
                    return Some(());
                }
                let via = event.content()["join_authorised_via_users_server"].as_str()?;
                allow_if(
                    self.membership(via) == "join" && self.power(via) >= self.field("invite", 0),
                )
            }
            "public" => Some(()),
            _ => None,
        }
    }

    fn power_levels(&self, power: i128) -> Verdict {
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
