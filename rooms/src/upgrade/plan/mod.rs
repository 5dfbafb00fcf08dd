//! What an upgrade makes of a room: the events that the new one begins with, and those that end the old one.
//!
//! Pure. Of the new room's events the power levels come last: until then its creator has the power for all of them,
//! whatever power they had in the old one.

mod levels;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use rhizome_protocol::{Object, Pdu, RoomRules, StateKey, power};
use ruma::{EventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::create::plan::{Planned, founded_by};

/// What is carried over as it is, in this order, if it says anything
/// (<https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-19>).
const CARRIED: [&str; 8] = [
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.encryption",
    "m.room.server_acl",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
];
const LEVELS: &str = "m.room.power_levels";
const ALIAS: &str = "m.room.canonical_alias";
const CHILD: &str = "m.space.child";
pub(super) const TOMBSTONE: &str = "m.room.tombstone";
/// The longest state key, in bytes, that an event may have.
const MAX_KEY: usize = 255;

/// The state of the old room that an upgrade looks at, each with an empty state key.
pub(super) const LOOKED_AT: [&str; 12] = [
    "m.room.create",
    TOMBSTONE,
    LEVELS,
    ALIAS,
    CARRIED[0],
    CARRIED[1],
    CARRIED[2],
    CARRIED[3],
    CARRIED[4],
    CARRIED[5],
    CARRIED[6],
    CARRIED[7],
];

/// A request to upgrade a room, decoded.
#[derive(Debug, Clone)]
pub struct UpgradeRoom {
    /// Which.
    pub room_id: OwnedRoomId,
    /// Who does it.
    pub user: OwnedUserId,
    /// What their member event says beside the membership.
    pub user_profile: Object,
    /// The version of the new room.
    pub version: RoomVersionId,
    /// Who else is to be a creator, where the version has several.
    pub additional_creators: Vec<OwnedUserId>,
}

/// The room that is replaced, as far as an upgrade looks at it.
#[derive(Debug)]
pub(super) struct OldRoom {
    pub(super) rules: &'static RoomRules,
    pub(super) room_id: OwnedRoomId,
    pub(super) state: BTreeMap<StateKey, Arc<Pdu>>,
    /// Oldest first.
    pub(super) bans: Vec<Arc<Pdu>>,
    /// Those of this server.
    pub(super) aliases: Vec<OwnedRoomAliasId>,
}

impl OldRoom {
    fn content(&self, kind: &str) -> Option<&Object> {
        let event = self.state.get(&StateKey::new(kind, ""))?;
        Some(event.content()).filter(|content| !content.is_empty())
    }

    fn create(&self) -> Option<&Arc<Pdu>> {
        self.state.get(&StateKey::new("m.room.create", ""))
    }

    /// The rooms that belong to this one, where it is a space.
    fn children(&self) -> impl Iterator<Item = (&str, &Object)> {
        let children = self.state.iter().filter(|(key, _)| key.kind == CHILD);
        // A child without servers to find it by is none any more.
        let children = children.map(|(key, event)| (key.key.as_str(), event.content()));
        let children =
            children.filter(|(_, content)| content.get("via").is_some_and(Value::is_array));
        // What names no room isn't one either, and might be what nobody can send again.
        children.filter(|(room, _)| room.len() <= MAX_KEY && <&RoomId>::try_from(*room).is_ok())
    }

    /// What the room is replaced by already.
    pub(super) fn replacement(&self) -> Option<OwnedRoomId> {
        replacement(self.state.get(&StateKey::new(TOMBSTONE, ""))?)
    }

    /// Keeps this many children, and says how many there were more.
    pub(super) fn keep_children(&mut self, most: usize) -> usize {
        let more = self.children().skip(most);
        let more: Vec<_> = more.map(|(room, _)| StateKey::new(CHILD, room)).collect();
        for key in &more {
            self.state.remove(key);
        }
        more.len()
    }

    /// Who had a power without limit: creators, where the version lets them.
    fn creators(&self) -> Vec<&str> {
        let create = self
            .create()
            .filter(|_| self.rules.auth.privileged_creators);
        let create = create.map(|create| &**create);
        let sender = create.map(|create| create.sender().as_str());
        let others = create.into_iter().flat_map(power::additional_creators);
        sender.into_iter().chain(others).collect()
    }

    fn moves(&self, alias: &Value) -> bool {
        let alias = alias.as_str();
        alias.is_some_and(|alias| self.aliases.iter().any(|ours| ours.as_str() == alias))
    }

    /// What the room says of its names, with those that go along, or with the others.
    fn aliases_that(&self, go_along: bool) -> Option<Object> {
        let mut content = self.content(ALIAS)?.clone();
        content.retain(|_, value| match value {
            Value::Array(aliases) => {
                aliases.retain(|alias| self.moves(alias) == go_along);
                !aliases.is_empty()
            }
            alias => self.moves(alias) == go_along,
        });
        Some(content)
    }
}

/// All events of the new room in order. `last` is the old room's end, for versions where the create event names it.
pub(super) fn successor(
    rules: &'static RoomRules,
    request: &UpgradeRoom,
    old: &OldRoom,
    last: Option<&EventId>,
) -> Vec<Planned> {
    let mut plan = vec![
        created(rules, request, old, last),
        Planned::new("m.room.member", request.user.as_str(), {
            let mut content = request.user_profile.clone();
            content.insert("membership".into(), "join".into());
            Value::Object(content)
        }),
    ];
    for kind in CARRIED {
        if let Some(content) = old.content(kind) {
            let mut content = Value::Object(content.clone());
            if rules.format.strict_json {
                whole_numbers(&mut content);
            }
            if kind == "m.room.join_rules" {
                content = join_rules(rules, content);
            }
            plan.push(Planned::new(kind, "", content));
        }
    }
    if let Some(content) = old.aliases_that(true).filter(|names| !names.is_empty()) {
        plan.push(Planned::new(ALIAS, "", Value::Object(content)));
    }
    plan.extend(old.children().map(|(room, content)| {
        let mut content = Value::Object(content.clone());
        if rules.format.strict_json {
            whole_numbers(&mut content);
        }
        Planned::new(CHILD, room, content)
    }));
    let creators = creators(rules, request);
    plan.extend(old.bans.iter().filter_map(|ban| banned(ban, &creators)));
    let levels = old.content(LEVELS);
    if let Some(levels) = levels.map(|levels| levels::carried(rules, levels, old, &creators)) {
        plan.push(Planned::new(LEVELS, "", Value::Object(levels)));
    }
    plan
}

fn created(
    rules: &RoomRules,
    request: &UpgradeRoom,
    old: &OldRoom,
    last: Option<&EventId>,
) -> Planned {
    let mut content = Object::new();
    for field in ["type", "m.federate"] {
        let value = old.create().and_then(|create| create.content().get(field));
        if let Some(value @ (Value::String(_) | Value::Bool(_))) = value {
            content.insert(field.into(), value.clone());
        }
    }
    let mut predecessor = json!({ "room_id": old.room_id });
    if let (Some(last), Some(fields)) = (last, predecessor.as_object_mut()) {
        fields.insert("event_id".into(), last.as_str().into());
    }
    content.insert("predecessor".into(), predecessor);
    let additional = request.additional_creators.clone();
    let content = founded_by(rules, content, &request.user, additional);
    Planned::new("m.room.create", "", Value::Object(content))
}

/// Who has a power without limit in the new room.
fn creators<'a>(rules: &RoomRules, request: &'a UpgradeRoom) -> Vec<&'a str> {
    if !rules.auth.privileged_creators {
        return Vec::new();
    }
    let additional = request.additional_creators.iter();
    std::iter::once(&request.user)
        .chain(additional)
        .map(|user| user.as_str())
        .collect()
}

/// The old room's ban, by who upgrades it. A creator can't be banned, nor can somebody ban themselves.
fn banned(ban: &Pdu, creators: &[&str]) -> Option<Planned> {
    let user = ban.state_key().filter(|user| !creators.contains(user))?;
    if user.len() > MAX_KEY || <&UserId>::try_from(user).is_err() {
        return None;
    }
    let mut content = json!({ "membership": "ban" });
    if let (Some(Value::String(reason)), Some(fields)) =
        (ban.content().get("reason"), content.as_object_mut())
    {
        fields.insert("reason".into(), reason.as_str().into());
    }
    Some(Planned::new("m.room.member", user, content))
}

/// The join rules, in words that the version knows: what it doesn't know, nobody could join by.
fn join_rules(rules: &RoomRules, mut content: Value) -> Value {
    let rule = content.get("join_rule").and_then(Value::as_str);
    let known = |rule: &str| match rule {
        "knock" => rules.auth.knock,
        "restricted" => rules.auth.restricted,
        "knock_restricted" => rules.auth.knock_restricted,
        _ => true,
    };
    let instead: &[&str] = match rule {
        Some("knock_restricted") => &["restricted", "knock", "invite"],
        _ => &["invite"],
    };
    if rule.is_some_and(|rule| !known(rule)) {
        let instead = instead.iter().find(|rule| known(rule));
        let instead = instead.copied().unwrap_or("invite");
        if let Some(fields) = content.as_object_mut() {
            fields.insert("join_rule".into(), instead.into());
            if instead != "restricted" {
                fields.remove("allow");
            }
        }
    }
    content
}

/// Old versions have numbers that later ones don't know.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            const MOST: i64 = (1 << 53) - 1;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the nearest that there is will do"
            )]
            let nearest = number.as_f64().map_or(0, |float| float as i64);
            let whole = number.as_i64().unwrap_or(nearest).clamp(-MOST, MOST);
            *value = whole.into();
        }
        Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// What ends the old room.
pub(super) fn tombstone(replacement: &RoomId) -> Planned {
    let content = json!({
        "body": "This room has been replaced",
        "replacement_room": replacement,
    });
    Planned::new(TOMBSTONE, "", content)
}

/// The room to which a tombstone leads.
pub(super) fn replacement(tombstone: &Pdu) -> Option<OwnedRoomId> {
    let room = tombstone.content().get("replacement_room")?.as_str()?;
    room.try_into().ok()
}

/// What the old room gets beside its end, as far as the user may: it gives up the names that go along, and sending and
/// inviting need more power.
pub(super) fn after_the_end(old: &OldRoom) -> Vec<Planned> {
    let mut plan = Vec::new();
    let left = old.aliases_that(false);
    if let Some(left) = left.filter(|left| old.content(ALIAS) != Some(left)) {
        plan.push(Planned::new(ALIAS, "", Value::Object(left)));
    }
    let levels = old.content(LEVELS);
    if let Some(levels) = levels.and_then(|levels| levels::silenced(old.rules, levels)) {
        plan.push(Planned::new(LEVELS, "", Value::Object(levels)));
    }
    plan
}
