//! Which rooms a list has.

use std::collections::BTreeSet;

use super::raw::RawFilter;

/// Which rooms a list has; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Direct chats, or none.
    pub is_dm: Option<bool>,
    /// Children of any of these spaces.
    pub spaces: Option<BTreeSet<String>>,
    /// Encrypted, or not.
    pub is_encrypted: Option<bool>,
    /// Invites, or none.
    pub is_invited: Option<bool>,
    /// Of one of these types.
    pub room_types: Option<BTreeSet<Option<String>>>,
    /// Of none of these types.
    pub not_room_types: BTreeSet<Option<String>>,
    /// With one of these tags.
    pub tags: Option<BTreeSet<String>>,
    /// With none of these tags.
    pub not_tags: BTreeSet<String>,
}

impl From<RawFilter> for Filter {
    fn from(raw: RawFilter) -> Self {
        Self {
            is_dm: raw.is_dm,
            spaces: raw.spaces.map(|spaces| spaces.into_iter().collect()),
            is_encrypted: raw.is_encrypted,
            is_invited: raw.is_invited,
            room_types: raw.room_types.map(|types| types.into_iter().collect()),
            not_room_types: raw.not_room_types.into_iter().collect(),
            tags: raw.tags.map(|tags| tags.into_iter().collect()),
            not_tags: raw.not_tags.into_iter().collect(),
        }
    }
}

impl Filter {
    /// Whether it asks for tags.
    pub fn is_of_tags(&self) -> bool {
        self.tags.is_some() || !self.not_tags.is_empty()
    }

    /// Whether a room passes, but for the spaces.
    pub fn passes(&self, room: &Traits<'_>) -> bool {
        let is = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let of_type = |types: &BTreeSet<Option<String>>| {
            types.iter().any(|one| one.as_deref() == room.room_type)
        };
        let tagged = |tags: &BTreeSet<String>| room.tags.iter().any(|tag| tags.contains(tag));
        is(self.is_dm, room.is_dm)
            && is(self.is_encrypted, room.is_encrypted)
            && is(self.is_invited, room.is_invited)
            && self.room_types.as_ref().is_none_or(of_type)
            && !of_type(&self.not_room_types)
            && self.tags.as_ref().is_none_or(tagged)
            && !tagged(&self.not_tags)
    }
}

/// What filters look at.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    /// The user's `m.direct` names it.
    pub is_dm: bool,
    /// It has an `m.room.encryption`.
    pub is_encrypted: bool,
    /// The user is invited.
    pub is_invited: bool,
    /// Its type.
    pub room_type: Option<&'a str>,
    /// The user's tags.
    pub tags: &'a [String],
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn passes(filter: Value, room: Traits<'_>) -> bool {
        let raw: RawFilter = serde_json::from_value(filter).unwrap();
        Filter::from(raw).passes(&room)
    }

    #[test]
    fn what_is_named_twice_stays_out() {
        let tags = ["a".to_owned(), "b".to_owned()];
        let space = Traits {
            is_dm: false,
            is_encrypted: true,
            is_invited: false,
            room_type: Some("m.space"),
            tags: &tags,
        };
        let room = Traits {
            room_type: None,
            ..space
        };
        assert!(passes(json!({}), space));
        assert!(!passes(
            json!({ "room_types": ["m.space"], "not_room_types": ["m.space"] }),
            space
        ));
        assert!(passes(json!({ "room_types": [null] }), room));
        assert!(!passes(json!({ "room_types": [null] }), space));
        assert!(!passes(json!({ "not_room_types": [null] }), room));
        assert!(passes(json!({ "tags": ["a", "c"] }), room));
        assert!(!passes(json!({ "tags": ["a"], "not_tags": ["b"] }), room));
        assert!(!passes(json!({ "is_invite": true }), room));
        assert!(passes(
            json!({ "is_invited": false, "is_encrypted": true }),
            room
        ));
    }
}
