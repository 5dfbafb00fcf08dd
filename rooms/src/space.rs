//! Spaces: which rooms a space holds, and in which order
//! (<https://spec.matrix.org/v1.19/client-server-api/#mspacechild-relationship>).

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Object, Pdu};
use rhizome_storage::{RoomNo, Store};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde_json::{Value, json};

use crate::error::Result;

/// The type of the state that names a child.
pub const CHILD: &str = "m.space.child";
/// The type of rooms that are spaces.
pub const SPACE: &str = "m.space";

/// How many children a space has at most.
const MAX_CHILDREN: usize = 5_000;
/// How many children all spaces have that are looked up together: where they have more, each has as many as any other.
const MAX_TOGETHER: usize = 20_000;
/// How many servers are remembered that a child may be joined through.
const MAX_VIA: usize = 10;
/// The longest `order` that counts.
const MAX_ORDER: usize = 50;
/// The most bytes of a content that is shown as it is. Of a longer one, what the specification knows is shown.
const MAX_CONTENT: usize = 4 << 10;

/// A room that a space holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Which.
    pub room_id: OwnedRoomId,
    /// Servers that it can be joined through.
    pub via: Vec<OwnedServerName>,
    /// Whether the space suggests it.
    pub suggested: bool,
    /// The event, stripped, with its `origin_server_ts`: JSON.
    pub stripped: Arc<str>,
    order: Option<String>,
    ts: i64,
}

impl Child {
    /// What a state event says of a child; `None` if that isn't one: it was taken out of the space, or never was in it.
    pub fn of(event: &Pdu) -> Option<Self> {
        if event.kind() != CHILD {
            return None;
        }
        let (sender, ts) = (event.sender(), event.origin_server_ts());
        Self::new(sender, event.state_key()?, event.content(), ts)
    }

    /// The same of a stripped event that another server tells.
    pub fn told(stripped: &Value) -> Option<Self> {
        let text = |key: &str| stripped.get(key)?.as_str();
        if text("type") != Some(CHILD) {
            return None;
        }
        let sender = <&UserId>::try_from(text("sender")?).ok()?;
        let ts = stripped.get("origin_server_ts")?.as_i64()?;
        Self::new(
            sender,
            text("state_key")?,
            stripped.get("content")?.as_object()?,
            ts,
        )
    }

    fn new(sender: &UserId, state_key: &str, content: &Object, ts: i64) -> Option<Self> {
        let room_id = RoomId::parse(state_key).ok()?;
        let via = content.get("via")?.as_array()?.iter();
        let via = via.filter_map(|server| ServerName::parse(server.as_str()?).ok());
        let via: Vec<OwnedServerName> = via.take(MAX_VIA).collect();
        if via.is_empty() {
            return None;
        }
        let order = content.get("order").and_then(Value::as_str);
        let order = order.filter(|order| is_order(order)).map(ToOwned::to_owned);
        let suggested = content.get("suggested") == Some(&Value::Bool(true));
        let mut shown = Value::from(content.clone());
        if shown.to_string().len() > MAX_CONTENT {
            shown = json!({ "via": via, "suggested": suggested });
            if let Some(order) = &order {
                shown["order"] = order.as_str().into();
            }
        }
        let stripped = json!({
            "type": CHILD,
            "state_key": state_key,
            "sender": sender,
            "content": shown,
            "origin_server_ts": ts,
        });
        Some(Self {
            room_id,
            via,
            suggested,
            stripped: stripped.to_string().into(),
            order,
            ts,
        })
    }

    /// Which of two children comes first.
    fn place(&self, other: &Self) -> Ordering {
        let by_order = match (&self.order, &other.order) {
            (Some(one), Some(two)) => one.cmp(two),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        by_order
            .then(self.ts.cmp(&other.ts))
            .then_with(|| self.room_id.cmp(&other.room_id))
    }
}

/// One that is longer, or has other letters than ASCII's, counts as none.
fn is_order(order: &str) -> bool {
    (1..=MAX_ORDER).contains(&order.len())
        && order.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Children of one space, each once, in their order ("Ordering of children within a space").
pub fn in_order(children: impl IntoIterator<Item = Child>) -> Arc<[Child]> {
    let mut children: Vec<Child> = children.into_iter().take(MAX_CHILDREN).collect();
    let mut seen = HashSet::new();
    children.retain(|child| seen.insert(child.room_id.clone()));
    children.sort_by(Child::place);
    children.into()
}

/// The children of each of these rooms that has any, in two queries however many they are.
///
/// # Errors
///
/// Those of the database.
pub async fn children(store: &Store, spaces: &[RoomNo]) -> Result<HashMap<RoomNo, Arc<[Child]>>> {
    let entries = store.space_children(spaces, MAX_CHILDREN, MAX_TOGETHER);
    let entries = entries.await?;
    let nos: Vec<_> = entries.iter().map(|(_, event)| *event).collect();
    let events = store.events_by_no(&nos).await?;
    let mut of: HashMap<RoomNo, Vec<Child>> = HashMap::new();
    for ((room, _), event) in entries.iter().zip(&events) {
        of.entry(*room).or_default().extend(Child::of(&event.pdu));
    }
    Ok(of
        .into_iter()
        .map(|(room, children)| (room, in_order(children)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(room: &str, ts: i64, more: &Value) -> Option<Child> {
        let mut content = json!({ "via": ["a.example"] });
        for (key, value) in more.as_object().unwrap() {
            content[key] = value.clone();
        }
        told(room, ts, &content)
    }

    fn told(room: &str, ts: i64, content: &Value) -> Option<Child> {
        Child::told(&json!({
            "type": CHILD, "state_key": room, "sender": "@a:a.example",
            "content": content, "origin_server_ts": ts,
        }))
    }

    #[test]
    fn children_stand_by_order_then_time_then_id() {
        let with = |room: &str, ts, order: Value| child(room, ts, &json!({ "order": order }));
        let long = "x".repeat(51);
        let children = [
            with("!late:x", 9, "b".into()),
            with("!early:x", 1, "b".into()),
            with("!space:x", 5, " ".into()),
            with("!tilde:x", 5, "~".into()),
            // What is no order comes last, by time, then by id.
            child("!z:x", 3, &json!({})),
            with("!y:x", 3, 7.into()),
            with("!x:x", 2, long.into()),
            with("!w:x", 4, "ü".into()),
            with("!v:x", 0, "".into()),
            with("!longest:x", 8, "a".repeat(50).into()),
        ];
        let ordered = in_order(children.into_iter().map(Option::unwrap));
        let ids: Vec<_> = ordered.iter().map(|child| child.room_id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "!space:x",
                "!longest:x",
                "!early:x",
                "!late:x",
                "!tilde:x",
                "!v:x",
                "!x:x",
                "!y:x",
                "!z:x",
                "!w:x"
            ]
        );
    }

    #[test]
    fn what_cannot_be_joined_through_anybody_is_no_child() {
        assert!(child("!a:x", 1, &json!({})).is_some());
        for content in [
            json!({}),
            json!({ "via": [] }),
            json!({ "via": "a.example" }),
            json!({ "via": [1, "not a server"] }),
        ] {
            assert_eq!(told("!a:x", 1, &content), None, "{content}");
        }
        assert_eq!(child("no room", 1, &json!({})), None);
        let some = told("!a:x", 1, &json!({ "via": [1, "a.example", "b.example"] }));
        assert_eq!(some.unwrap().via, ["a.example", "b.example"]);
    }

    #[test]
    fn what_is_shown_of_a_child_is_bounded() {
        let many: Vec<String> = (0..500).map(|n| format!("{n}.example")).collect();
        let more = json!({ "via": many, "order": "o", "suggested": true, "x": "x".repeat(9_000) });
        let child = child("!a:x", 1, &more).unwrap();
        assert!(child.suggested);
        let shown: Value = serde_json::from_str(&child.stripped).unwrap();
        assert_eq!(shown["content"]["via"].as_array().unwrap().len(), MAX_VIA);
        assert_eq!(shown["content"]["order"], "o");
        assert_eq!(shown["content"]["x"], Value::Null);
        assert_eq!(shown["origin_server_ts"], 1);
    }
}
