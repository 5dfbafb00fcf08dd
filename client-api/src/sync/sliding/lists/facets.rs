//! What lists look at, of one room.

use std::sync::Arc;

use rhizome_protocol::Membership;
use rhizome_storage::Pos;
use serde_json::Value;

use crate::sync::sliding::request::filter::Traits;

/// What lists look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facets {
    /// When something happened there last.
    pub activity: Pos,
    /// When something happened that counts as activity (`bump_stamp`).
    pub bump: Pos,
    /// The user's membership.
    pub membership: Membership,
    /// Whether lists have it: not what the user has left themselves, nor invites that they don't want to see.
    pub is_listed: bool,
    /// Whether it is a direct chat.
    pub is_dm: bool,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// Its type.
    pub room_type: Option<Arc<str>>,
    /// The user's tags.
    pub tags: Arc<[String]>,
}

#[cfg(test)]
impl Facets {
    /// A room that the user is in, and of which nothing is said.
    pub fn joined(activity: Pos) -> Self {
        Self {
            activity,
            bump: Pos(0),
            membership: Membership::Join,
            is_listed: true,
            is_dm: false,
            is_encrypted: false,
            room_type: None,
            tags: Arc::new([]),
        }
    }
}

impl Facets {
    /// Whether the user is in it.
    pub fn is_joined(&self) -> bool {
        self.membership == Membership::Join
    }

    /// Whether the user is invited, or knocks.
    pub fn is_summons(&self) -> bool {
        matches!(self.membership, Membership::Invite | Membership::Knock)
    }

    /// What filters look at.
    pub fn traits(&self) -> Traits<'_> {
        Traits {
            is_dm: self.is_dm,
            is_encrypted: self.is_encrypted,
            is_invited: self.membership == Membership::Invite,
            room_type: self.room_type.as_deref(),
            tags: &self.tags,
        }
    }
}

/// The names of the tags in an `m.tag`.
pub fn tags_of(content: &str) -> Arc<[String]> {
    let content: Value = serde_json::from_str(content).unwrap_or_default();
    let tags = content.get("tags").and_then(Value::as_object);
    tags.into_iter()
        .flat_map(|tags| tags.keys().cloned())
        .collect()
}
