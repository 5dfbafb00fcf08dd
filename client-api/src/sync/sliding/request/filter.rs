//! Which rooms a list has.

use std::collections::BTreeSet;

use super::{at_most, raw::RawFilter};
use crate::MatrixError;

/// The most elements of each part of a filter.
const MOST_ELEMENTS: usize = 100;

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

impl Filter {
    /// Reads what is asked for.
    pub(super) fn read(raw: RawFilter) -> Result<Self, MatrixError> {
        let named = |what, count: Option<usize>| at_most(what, count.unwrap_or(0), MOST_ELEMENTS);
        named("`spaces`", raw.spaces.as_ref().map(Vec::len))?;
        named("`room_types`", raw.room_types.as_ref().map(Vec::len))?;
        named("`not_room_types`", Some(raw.not_room_types.len()))?;
        named("`tags`", raw.tags.as_ref().map(Vec::len))?;
        named("`not_tags`", Some(raw.not_tags.len()))?;
        Ok(Self {
            is_dm: raw.is_dm,
            spaces: raw.spaces.map(|spaces| spaces.into_iter().collect()),
            is_encrypted: raw.is_encrypted,
            is_invited: raw.is_invited,
            room_types: raw.room_types.map(|types| types.into_iter().collect()),
            not_room_types: raw.not_room_types.into_iter().collect(),
            tags: raw.tags.map(|tags| tags.into_iter().collect()),
            not_tags: raw.not_tags.into_iter().collect(),
        })
    }

    /// How much memory it takes, counted in rooms.
    pub fn weight(&self) -> usize {
        let tags = self.tags.iter().flatten().chain(&self.not_tags);
        let texts = tags.chain(self.spaces.iter().flatten());
        let types = self.room_types.iter().flatten();
        let types = types.chain(&self.not_room_types).flatten();
        texts.chain(types).map(|text| 1 + text.len() / 48).sum()
    }

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
        Filter::read(raw).unwrap().passes(&room)
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
