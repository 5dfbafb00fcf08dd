//! Who may tell what is missing of a room's state: whoever does can leave out that somebody is banned.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu, RoomRules, StateKey,
    power::{self, Action, Power},
};
use ruma::{OwnedServerName, ServerName, UserId};
use serde_json::Value;

/// So many servers are asked, in turn.
const MOST: usize = 10;

/// Whom to ask: those whom the joining user relied on, then those whose users may ban, who could let in anybody themselves,
/// the mightiest first. All but the first must be among those that were said to be in the room.
pub(crate) fn whom_to_ask(
    rules: &'static RoomRules,
    state: &HashMap<StateKey, Arc<Pdu>>,
    relied_on: &[OwnedServerName],
    servers: &[OwnedServerName],
) -> Vec<OwnedServerName> {
    let power = Power::of(rules, state);
    let users = mighty(rules, state);
    let mut mighty: Vec<&UserId> = users
        .iter()
        .filter_map(|user| <&UserId>::try_from(user.as_str()).ok())
        .filter(|user| power.may(user, Action::Ban))
        .collect();
    mighty.sort_by_key(|user| Reverse(power.user(user)));
    let there: HashSet<&ServerName> = servers.iter().map(|server| &**server).collect();
    let mut seen: HashSet<&ServerName> = HashSet::new();
    let relied_on = relied_on.iter().map(|server| &**server).enumerate();
    let mighty = mighty.iter().map(|user| (1, user.server_name()));
    relied_on
        .chain(mighty)
        .filter(|(at, server)| *at == 0 || there.contains(server))
        .filter(|(_, server)| seen.insert(*server))
        .map(|(_, server)| server.to_owned())
        .take(MOST)
        .collect()
}

/// All to whom the room's state gives power by name.
fn mighty(rules: &RoomRules, state: &HashMap<StateKey, Arc<Pdu>>) -> Vec<String> {
    let mut users = Vec::new();
    if let Some(create) = state.get(&StateKey::new("m.room.create", "")) {
        users.extend(power::creator(rules, create).map(str::to_owned));
        users.extend(power::additional_creators(create).map(str::to_owned));
    }
    let levels = state.get(&StateKey::new("m.room.power_levels", ""));
    let named = levels.and_then(|levels| levels.content().get("users"));
    users.extend(
        named
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|users| users.keys().cloned()),
    );
    users
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::{
        draft::{Draft, Place, build},
        sign::KeyPair,
    };
    use serde_json::json;

    use super::*;

    fn event(kind: &str, content: Value) -> (StateKey, Arc<Pdu>) {
        let Value::Object(content) = content else {
            panic!("content is an object")
        };
        let draft = Draft {
            room_id: Some("!r:a.example".try_into().unwrap()),
            sender: "@creator:c.example".try_into().unwrap(),
            kind: kind.to_owned(),
            state_key: Some(String::new()),
            content,
            redacts: None,
        };
        let key = KeyPair::from_seed("test", &[7; 32]).unwrap();
        let rules = RoomRules::named("11").unwrap();
        let server: &ServerName = "c.example".try_into().unwrap();
        let pdu = build(rules, &draft, &Place::default(), server, &key).unwrap();
        (StateKey::new(kind, ""), Arc::new(pdu))
    }

    #[test]
    fn only_who_was_chosen_or_may_ban_is_asked() {
        let state = HashMap::from([
            event("m.room.create", json!({ "room_version": "11" })),
            event(
                "m.room.power_levels",
                json!({ "users": {
                    "@low:low.example": 49, "@mod:mod.example": 50, "@mod:gone.example": 50,
                    "@creator:c.example": 100,
                } }),
            ),
        ]);
        let names = |names: &[&str]| -> Vec<OwnedServerName> {
            names
                .iter()
                .map(|name| (*name).try_into().unwrap())
                .collect()
        };
        let told = [
            "via.example",
            "low.example",
            "mod.example",
            "c.example",
            "any.example",
        ];
        let relied_on = names(&["resident.example", "via.example", "elsewhere.example"]);
        let rules = RoomRules::named("11").unwrap();
        assert_eq!(
            whom_to_ask(rules, &state, &relied_on, &names(&told)),
            names(&[
                "resident.example",
                "via.example",
                "c.example",
                "mod.example"
            ])
        );
    }
}
