//! What another server tells of a space and what it holds, as far as it can be read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::Object;
use rhizome_rooms::{
    access::Doors,
    space::{self, Child, in_order},
};
use ruma::{OwnedRoomId, RoomAliasId, RoomId};
use serde_json::Value;

use super::Entry;

/// How many bytes an identifier has at most.
const LONGEST_ID: usize = 255;
/// How many rooms whose members may join are taken.
const MAX_ALLOWED: usize = 100;
/// The largest number of JSON as Matrix has it.
const MAX_NUMBER: u64 = (1 << 53) - 1;
/// What some servers still call these as it was proposed (MSC3266).
const ENCRYPTION: [&str; 2] = ["encryption", "im.nheko.summary.encryption"];
const VERSION: [&str; 3] = [
    "room_version",
    "im.nheko.summary.room_version",
    "im.nheko.summary.version",
];

/// Another server's answer about a room.
#[derive(Debug, Clone)]
pub struct Told {
    /// The room.
    pub entry: Arc<Entry>,
    /// Those of its children that the server knows and we may know of.
    pub children: HashMap<OwnedRoomId, Arc<Entry>>,
    /// Those of its children that nobody here may know of.
    pub inaccessible: HashSet<OwnedRoomId>,
}

impl Told {
    /// Reads an answer to the question for a room; `None` if it isn't about that.
    pub(super) fn of(answer: &Value, room: &RoomId) -> Option<Self> {
        let entry = entry(answer.get("room")?)?;
        if entry.room_id != room {
            return None;
        }
        let list = |key: &str| answer.get(key).and_then(Value::as_array);
        let mut named: HashSet<&RoomId> = entry.children.iter().map(|it| &*it.room_id).collect();
        // It tells of its children, and of nothing else.
        let inaccessible = list("inaccessible_children").into_iter().flatten();
        let inaccessible = inaccessible.filter_map(|id| <&RoomId>::try_from(id.as_str()?).ok());
        let inaccessible = inaccessible.filter(|id| named.remove(*id));
        let inaccessible = inaccessible.map(ToOwned::to_owned).collect();
        let children = list("children").into_iter().flatten();
        let children = children.filter_map(self::entry);
        let children = children.filter(|child| named.contains(&*child.room_id));
        let children = children.map(|child| (child.room_id.clone(), Arc::new(child)));
        Some(Self {
            children: children.collect(),
            inaccessible,
            entry: Arc::new(entry),
        })
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let children: usize = self.children.values().map(|child| 256 + child.size()).sum();
        self.entry.size() + children + 320 * self.inaccessible.len()
    }
}

/// A room as another server describes it. What is no value of its field is left out.
fn entry(told: &Value) -> Option<Entry> {
    let told = told.as_object()?;
    let text = |key: &str| told.get(key)?.as_str().filter(|text| !text.is_empty());
    let id = |key: &str| text(key).filter(|text| text.len() <= LONGEST_ID);
    let is = |key: &str| told.get(key) == Some(&Value::Bool(true));
    let room_id = RoomId::parse(text("room_id")?).ok()?;
    // The specification says what it means that it isn't there.
    let join_rule = id("join_rule").unwrap_or("public");
    let joined = told.get("num_joined_members").and_then(Value::as_u64);
    let room_type = id("room_type");

    let alias = id("canonical_alias").filter(|alias| <&RoomAliasId>::try_from(*alias).is_ok());
    let avatar = id("avatar_url").filter(|url| url.starts_with("mxc://"));
    let former = |names: &[&str]| names.iter().find_map(|name| id(name));
    let mut fields = Object::new();
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    put("room_id", room_id.as_str().into());
    put(
        "num_joined_members",
        joined.unwrap_or(0).min(MAX_NUMBER).into(),
    );
    put("world_readable", is("world_readable").into());
    put("guest_can_join", is("guest_can_join").into());
    put("join_rule", join_rule.into());
    for (key, value) in [
        ("name", text("name")),
        ("topic", text("topic")),
        ("canonical_alias", alias),
        ("avatar_url", avatar),
        ("room_type", room_type),
        ("encryption", former(&ENCRYPTION)),
        ("room_version", former(&VERSION)),
    ] {
        if let Some(value) = value {
            put(key, value.into());
        }
    }
    let allowed = told.get("allowed_room_ids").and_then(Value::as_array);
    let allowed = allowed.into_iter().flatten();
    let allowed = allowed.filter_map(|id| RoomId::parse(id.as_str()?).ok());
    let allowed: Vec<OwnedRoomId> = allowed.take(MAX_ALLOWED).collect();
    let doors = Doors::told(join_rule, is("world_readable"), &allowed);
    if !doors.allowed.is_empty() {
        let allowed = doors.allowed.iter().map(|room| Value::from(room.as_str()));
        put("allowed_room_ids", allowed.collect());
    }

    let is_space = room_type == Some(space::SPACE);
    let children = told.get("children_state").and_then(Value::as_array);
    let children = children.filter(|_| is_space).into_iter().flatten();
    Some(Entry {
        children: in_order(children.filter_map(Child::told)),
        room_id,
        fields,
        doors,
        is_space,
    })
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::json;

    use super::*;

    fn link(room: &str) -> Value {
        json!({
            "type": "m.space.child", "state_key": room, "sender": "@a:a.example",
            "content": { "via": ["a.example"] }, "origin_server_ts": 1,
        })
    }

    fn answer() -> Value {
        json!({
            "room": {
                "room_id": "!space:x", "room_type": "m.space", "num_joined_members": 2,
                "world_readable": false, "guest_can_join": false, "join_rule": "invite",
                "children_state": [link("!a:x"), link("!b:x"), link("!c:x"), "nonsense", { "type": 1 }],
            },
            "children": [
                { "room_id": "!a:x", "num_joined_members": 1, "name": "A" },
                { "room_id": "!c:x", "num_joined_members": 1 },
                { "room_id": "!unnamed:x", "num_joined_members": 1 },
                7,
            ],
            "inaccessible_children": ["!b:x", "!c:x", "!other:x", {}],
        })
    }

    #[test]
    fn an_answer_tells_of_its_room_and_of_its_children() {
        let told = Told::of(&answer(), room_id!("!space:x")).unwrap();
        assert!(told.entry.is_space);
        assert_eq!(told.entry.children.len(), 3);
        assert_eq!(told.children.len(), 1);
        let child = &told.children[room_id!("!a:x")];
        assert_eq!(child.fields["name"], "A");
        // Without a join rule it is `public`.
        assert!(child.doors.are_open_to_all());
        assert!(!told.entry.doors.are_open_to_all());
        let both = ["!b:x", "!c:x"].map(|id| OwnedRoomId::try_from(id).unwrap());
        assert_eq!(told.inaccessible, both.into());
        assert!(told.size() > 1_000);
        assert!(Told::of(&answer(), room_id!("!another:x")).is_none());
    }

    #[test]
    fn what_is_no_value_of_its_field_is_left_out() {
        let told = json!({
            "room_id": "!a:x", "num_joined_members": -1, "world_readable": "yes", "name": 1, "topic": "",
            "avatar_url": "https://evil", "canonical_alias": "no alias", "encryption": "x".repeat(300),
            "im.nheko.summary.version": "10", "allowed_room_ids": ["!b:x"], "join_rule": "restricted",
            "children_state": [link("!c:x")],
        });
        let entry = entry(&told).unwrap();
        let expected = json!({
            "room_id": "!a:x", "num_joined_members": 0, "world_readable": false, "guest_can_join": false,
            "join_rule": "restricted", "room_version": "10", "allowed_room_ids": ["!b:x"],
        });
        assert_eq!(Value::from(entry.fields), expected);
        // It is no space.
        assert!(entry.children.is_empty());
    }
}
