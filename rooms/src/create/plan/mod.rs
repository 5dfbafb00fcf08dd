//! What a new room consists of: from a `createRoom` request to the list of its first events.
//!
//! Pure: nothing here knows where the events will be stored. The order is the specification's
//! (client-server `POST /createRoom`): create, the creator's join, power levels, canonical alias,
//! what the preset sets, `initial_state`, name and topic, invites.

mod policy;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use rhizome_protocol::{Object, RoomRules, StateKey};
use ruma::{OwnedRoomAliasId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Value, json};

pub use self::policy::{Entrance, Policies, Policy};
use crate::{Error, error::Result};

/// How many users one request may invite: each is an event of the room's first write.
pub const MAX_INVITES: usize = 100;
/// How many entries `initial_state` may have.
pub const MAX_INITIAL_STATE: usize = 200;

/// Which defaults a new room takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Join by invitation.
    PrivateChat,
    /// Join by invitation; everyone invited has the creator's power.
    TrustedPrivateChat,
    /// Anyone may join.
    PublicChat,
}

/// A state event that the request asks for.
#[derive(Debug, Clone)]
pub struct InitialState {
    /// The event type.
    pub kind: String,
    /// The state key, empty unless given.
    pub state_key: String,
    /// The content.
    pub content: Object,
}

/// A request to create a room, decoded.
#[derive(Debug, Clone)]
pub struct CreateRoom {
    /// Who creates it.
    pub creator: OwnedUserId,
    /// What the creator's member event says beside the membership: `displayname`, `avatar_url`.
    pub creator_profile: Object,
    /// The room version.
    pub version: RoomVersionId,
    /// Whether the room is listed in this server's public directory.
    pub public: bool,
    /// Which defaults to take.
    pub preset: Preset,
    /// `m.room.name`.
    pub name: Option<String>,
    /// `m.room.topic`.
    pub topic: Option<String>,
    /// An alias on this server that is to point to the room, and be its canonical alias.
    pub alias: Option<OwnedRoomAliasId>,
    /// Extra keys of the create event's content.
    pub creation_content: Object,
    /// State events to set, in order.
    pub initial_state: Vec<InitialState>,
    /// Laid over the default power levels, key by key.
    pub power_level_content_override: Object,
    /// Whom to invite.
    pub invite: Vec<OwnedUserId>,
    /// Whether the invites are to a direct chat.
    pub is_direct: bool,
    /// What the invites of this server's users say of their profiles.
    pub invited_profiles: HashMap<OwnedUserId, Object>,
    /// Whether the room is encrypted, unless `initial_state` says how.
    pub encrypted: bool,
    /// What the operator wants instead of the preset's.
    pub policy: Policy,
}

/// One of the room's first events, all of them state events of the creator.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Event type and state key.
    pub key: StateKey,
    /// The content.
    pub content: Object,
}

impl Planned {
    pub(crate) fn new(kind: &str, state_key: &str, content: Value) -> Self {
        let content = if let Value::Object(content) = content {
            content
        } else {
            Object::new()
        };
        Self {
            key: StateKey::new(kind, state_key),
            content,
        }
    }
}

/// All events of the new room in order, without the invites (see [`invite`]).
pub fn events(rules: &RoomRules, request: &CreateRoom) -> Result<Vec<Planned>> {
    if request.invite.len() > MAX_INVITES {
        return Err(Error::Invalid(format!(
            "At most {MAX_INVITES} users can be invited at once"
        )));
    }
    if request.initial_state.len() > MAX_INITIAL_STATE {
        return Err(Error::Invalid(format!(
            "initial_state may have at most {MAX_INITIAL_STATE} entries"
        )));
    }
    for entry in &request.initial_state {
        if matches!(entry.kind.as_str(), "m.room.create" | "m.room.member") {
            return Err(Error::InvalidRoomState(format!(
                "initial_state may not contain {}",
                entry.kind
            )));
        }
    }

    let mut plan = vec![
        // 1. The create event.
        Planned::new(
            "m.room.create",
            "",
            Value::Object(create_content(rules, request)?),
        ),
        // 2. The creator joins.
        Planned::new("m.room.member", request.creator.as_str(), {
            let mut content = request.creator_profile.clone();
            content.insert("membership".into(), "join".into());
            Value::Object(content)
        }),
        // 3. Power levels.
        Planned::new(
            "m.room.power_levels",
            "",
            Value::Object(power_levels(rules, request)),
        ),
    ];
    // 4. The canonical alias.
    if let Some(alias) = &request.alias {
        plan.push(Planned::new(
            "m.room.canonical_alias",
            "",
            json!({ "alias": alias }),
        ));
    }
    // 5. The preset, unless initial_state sets the same.
    for (kind, content) in preset_state(rules, request) {
        if !request
            .initial_state
            .iter()
            .any(|set| set.kind == kind && set.state_key.is_empty())
        {
            plan.push(Planned::new(kind, "", content));
        }
    }
    // 6. initial_state.
    plan.extend(request.initial_state.iter().map(|entry| Planned {
        key: StateKey::new(&entry.kind, &entry.state_key),
        content: entry.content.clone(),
    }));
    // 7. Name and topic.
    if let Some(name) = &request.name {
        plan.push(Planned::new("m.room.name", "", json!({ "name": name })));
    }
    if let Some(topic) = &request.topic {
        plan.push(Planned::new(
            "m.room.topic",
            "",
            json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } }),
        ));
    }
    Ok(plan)
}

/// The content of a user's invite that comes with the room's creation (step 8).
pub fn invite(request: &CreateRoom, user: &UserId) -> Object {
    let profile = request.invited_profiles.get(user);
    let mut content = profile.cloned().unwrap_or_default();
    content.insert("membership".into(), "invite".into());
    if request.is_direct {
        content.insert("is_direct".into(), true.into());
    }
    content
}

fn create_content(rules: &RoomRules, request: &CreateRoom) -> Result<Object> {
    let mut creators = Vec::new();
    if rules.auth.privileged_creators {
        creators = given_creators(&request.creation_content)?;
        if request.preset == Preset::TrustedPrivateChat {
            creators.extend(request.invite.iter().cloned());
        }
    }
    let content = request.creation_content.clone();
    Ok(founded_by(rules, content, &request.creator, creators))
}

/// The create event's content: what it is to say beside who makes the room, in which version.
pub(crate) fn founded_by(
    rules: &RoomRules,
    mut content: Object,
    creator: &UserId,
    mut additional: Vec<OwnedUserId>,
) -> Object {
    content.insert("room_version".into(), rules.id().into());
    if rules.format.creator_in_content {
        content.insert("creator".into(), creator.as_str().into());
    } else {
        content.remove("creator");
    }
    if rules.auth.privileged_creators {
        let mut seen = HashSet::new();
        additional.retain(|user| user != creator && seen.insert(user.clone()));
        content.remove("additional_creators");
        if !additional.is_empty() {
            let users: Vec<&str> = additional.iter().map(|user| user.as_str()).collect();
            content.insert("additional_creators".into(), users.into());
        }
    }
    content
}

/// `additional_creators`, as the request has them.
fn given_creators(content: &Object) -> Result<Vec<OwnedUserId>> {
    let invalid =
        || Error::InvalidRoomState("additional_creators must be a list of user ids".into());
    match content.get("additional_creators") {
        None => Ok(Vec::new()),
        Some(Value::Array(given)) => given
            .iter()
            .map(|user| {
                let user = user
                    .as_str()
                    .and_then(|user| OwnedUserId::try_from(user).ok());
                user.ok_or_else(invalid)
            })
            .collect(),
        Some(_) => Err(invalid()),
    }
}

fn power_levels(rules: &RoomRules, request: &CreateRoom) -> Object {
    let mut users = Object::new();
    if !rules.auth.privileged_creators {
        users.insert(request.creator.to_string(), 100.into());
        if request.preset == Preset::TrustedPrivateChat {
            users.extend(
                request
                    .invite
                    .iter()
                    .map(|user| (user.to_string(), 100.into())),
            );
        }
    }
    // Creators of v12 can do what a tombstone at the level of other state would let any admin do.
    let tombstone = if rules.auth.privileged_creators {
        150
    } else {
        100
    };
    let invite = if request.preset == Preset::PublicChat {
        50
    } else {
        0
    };
    let Value::Object(mut content) = json!({
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.encryption": 100,
            "m.room.server_acl": 100,
            "m.room.tombstone": tombstone,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": invite,
    }) else {
        return Object::new();
    };
    request.policy.lay_over(&mut content);
    content.extend(request.power_level_content_override.clone());
    // Creators go on to the next room, so nobody becomes one by being left out of levels that are set otherwise.
    if rules.auth.privileged_creators
        && let Some(Value::Object(events)) = content.get_mut("events")
    {
        events
            .entry("m.room.tombstone")
            .or_insert_with(|| tombstone.into());
    }
    content
}

/// The join rule that the request sets itself.
fn own_join_rule(request: &CreateRoom) -> Option<&str> {
    let mut rules = request.initial_state.iter().rev();
    let rule = rules.find(|set| set.kind == "m.room.join_rules" && set.state_key.is_empty())?;
    rule.content.get("join_rule")?.as_str()
}

/// The preset's part of the state. Guests are kept out by saying nothing.
fn preset_state(rules: &RoomRules, request: &CreateRoom) -> Vec<(&'static str, Value)> {
    let join_rule = match request.preset {
        Preset::PrivateChat | Preset::TrustedPrivateChat => "invite",
        Preset::PublicChat => "public",
    };
    let join_rule = request.policy.join_rule(rules, join_rule);
    // As the presets have it: where everybody may come in, guests may not.
    let guests = join_rule != "public";
    let public = own_join_rule(request).unwrap_or(join_rule) == "public";
    let encrypted = request.encrypted || (request.policy.encrypted_unless_public && !public);
    let mut state = vec![
        ("m.room.join_rules", json!({ "join_rule": join_rule })),
        (
            "m.room.history_visibility",
            json!({ "history_visibility": "shared" }),
        ),
    ];
    if guests {
        let guests = json!({ "guest_access": "can_join" });
        state.push(("m.room.guest_access", guests));
    }
    if encrypted {
        let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        state.push(("m.room.encryption", encryption));
    }
    state
}
