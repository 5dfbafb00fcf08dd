//! What is told of rooms to those who aren't in them, and which rooms a space holds: ours, and those of which other
//! servers tell (<https://spec.matrix.org/v1.19/server-server-api/#spaces>).
//!
//! Whom it is told is decided in [`rhizome_rooms::access`], by [`Entry::doors`].

mod ask;
mod told;

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::Object;
use rhizome_rooms::{
    access::Doors,
    space::{self, Child},
};
use rhizome_storage::{RoomHead, RoomNo, RoomSummary};
use ruma::OwnedRoomId;
use serde_json::Value;

use crate::{Federation, MatrixError};

pub(crate) use ask::Asked;
pub use ask::{theirs, whom_to_ask};
pub use told::Told;

/// The most bytes of an answer about a space. We take no more of others, and they get no more of us.
pub const MAX_ANSWER: usize = 4 << 20;
/// The most bytes of the events that are shown of one space's children: of more, the first.
const MAX_CHILDREN_STATE: usize = 1 << 20;

/// What is told of a room.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// What names and describes it, as the specification's `RoomSummary`.
    pub fields: Object,
    /// To whom it is open.
    pub doors: Doors,
    /// Whether it is a space.
    pub is_space: bool,
    /// The rooms that it holds, in their order; none unless it is a space.
    pub children: Arc<[Child]>,
}

impl Entry {
    /// The children, or only those that the space suggests.
    pub fn children(&self, suggested_only: bool) -> impl Iterator<Item = &Child> {
        let children = self.children.iter();
        children.filter(move |child| !suggested_only || child.suggested)
    }

    /// Appends it as JSON, with the children's events.
    pub fn write(&self, out: &mut String, suggested_only: bool) {
        out.push('{');
        for (key, value) in &self.fields {
            // What is written are texts, numbers and lists: they always can be.
            out.push_str(&serde_json::to_string(key).unwrap_or_default());
            out.push(':');
            out.push_str(&value.to_string());
            out.push(',');
        }
        out.push_str("\"children_state\":[");
        let start = out.len();
        for (index, child) in self.children(suggested_only).enumerate() {
            if out.len() - start + child.stripped.len() > MAX_CHILDREN_STATE {
                break;
            }
            if index > 0 {
                out.push(',');
            }
            out.push_str(&child.stripped);
        }
        out.push_str("]}");
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let value_size = |value: &Value| match value {
            Value::String(text) => text.len(),
            Value::Array(list) => 64 * list.len(),
            _ => 8,
        };
        let fields = self.fields.iter();
        let fields: usize = fields
            .map(|(key, value)| 32 + key.len() + value_size(value))
            .sum();
        let children = self.children.iter();
        let children: usize = children.map(|child| 256 + child.stripped.len()).sum();
        256 + fields + children
    }
}

/// A room that we are in.
#[derive(Debug, Clone)]
pub struct Ours {
    /// Where it stands.
    pub head: Arc<RoomHead>,
    /// What is told of it.
    pub entry: Arc<Entry>,
}

/// Those of some rooms that we are in, in a few queries however many they are.
///
/// # Errors
/// The database's.
pub async fn ours(
    fed: &Federation,
    rooms: &[OwnedRoomId],
) -> Result<HashMap<OwnedRoomId, Ours>, MatrixError> {
    let store = fed.store();
    let known = store.known_rooms(rooms).await?;
    let known: Vec<RoomNo> = known.into_values().collect();
    let here = store.rooms_with_server(fed.server_name(), &known).await?;
    let heads = store.heads(&here).await?;
    let summaries = store.room_summaries(&here).await?;
    let is_space = |summary: &RoomSummary| summary.room_type.as_deref() == Some(space::SPACE);
    let spaces = summaries.iter().filter(|(_, summary)| is_space(summary));
    let spaces: Vec<RoomNo> = spaces.map(|(room, _)| *room).collect();
    let mut children = space::children(store, &spaces).await?;
    let mut ours = HashMap::with_capacity(heads.len());
    for (room, head) in heads {
        // Without a state, we are only coming in.
        let Some(summary) = summaries.get(&room).filter(|_| head.snapshot.is_some()) else {
            continue;
        };
        let entry = Entry {
            room_id: head.room_id.clone(),
            fields: fields(&head, summary),
            doors: Doors::of(head.rules, summary),
            is_space: is_space(summary),
            children: children.remove(&room).unwrap_or_default(),
        };
        let entry = Arc::new(entry);
        ours.insert(head.room_id.clone(), Ours { head, entry });
    }
    Ok(ours)
}

fn fields(head: &RoomHead, summary: &RoomSummary) -> Object {
    let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    let mut fields = Object::new();
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    put("room_id", head.room_id.as_str().into());
    put("num_joined_members", head.joined.into());
    put(
        "world_readable",
        is(&summary.history_visibility, "world_readable").into(),
    );
    put(
        "guest_can_join",
        is(&summary.guest_access, "can_join").into(),
    );
    put("room_version", head.rules.version.as_str().into());
    let join_rule = summary.join_rule.as_deref().unwrap_or("invite");
    put("join_rule", join_rule.into());
    for (key, text) in [
        ("name", &summary.name),
        ("topic", &summary.topic),
        ("canonical_alias", &summary.alias),
        ("avatar_url", &summary.avatar),
        ("room_type", &summary.room_type),
        ("encryption", &summary.encryption),
    ] {
        if let Some(text) = text {
            put(key, text.as_str().into());
        }
    }
    let allowed = Doors::of(head.rules, summary).allowed;
    if !allowed.is_empty() {
        let allowed = allowed.iter().map(|room| Value::from(room.as_str()));
        put("allowed_room_ids", allowed.collect());
    }
    fields
}
