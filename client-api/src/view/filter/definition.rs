//! Filters as clients write them, with what `ruma` has not: labels and relations.

use std::{collections::HashSet, ops::Deref};

use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::filter::{EventFormat, Filter, RoomEventFilter},
};
use serde::Deserialize;

/// A filter for `/sync`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct FilterDefinition {
    /// The fields of events to tell.
    pub event_fields: Option<Vec<String>>,
    /// In which form events are told.
    #[serde(default)]
    pub event_format: EventFormat,
    /// Global account data.
    #[serde(default)]
    pub account_data: Filter,
    /// Presence.
    #[serde(default)]
    pub presence: Filter,
    /// Rooms.
    #[serde(default)]
    pub room: RoomFilter,
}

/// Which rooms are wanted, and what of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RoomFilter {
    /// Whether rooms that the reader has left are.
    pub include_leave: bool,
    /// The reader's account data.
    pub account_data: RoomEventFilter,
    /// What happened.
    pub timeline: EventFilter,
    /// Receipts and who is typing.
    pub ephemeral: RoomEventFilter,
    /// State.
    pub state: EventFilter,
    /// Not these rooms.
    pub not_rooms: Vec<OwnedRoomId>,
    /// Only these rooms.
    pub rooms: Option<Vec<OwnedRoomId>>,
}

/// A filter of events.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct EventFilter {
    #[serde(flatten)]
    named: RoomEventFilter,
    /// What an event must say of itself.
    #[serde(flatten)]
    pub said: Said,
    /// What others must say of it.
    #[serde(flatten)]
    pub related: RelatedBy,
}

impl Deref for EventFilter {
    type Target = RoomEventFilter;

    fn deref(&self) -> &RoomEventFilter {
        &self.named
    }
}

/// Labels of events (MSC2326) and how they relate to others (MSC3874).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Said {
    /// Only events with one of these labels.
    #[serde(rename = "org.matrix.labels")]
    pub labels: Option<Texts>,
    /// No events with one of these labels.
    #[serde(rename = "org.matrix.not_labels")]
    pub not_labels: Option<Texts>,
    rel_types: Option<Texts>,
    not_rel_types: Option<Texts>,
    #[serde(rename = "org.matrix.msc3874.rel_types")]
    early_rel_types: Option<Texts>,
    #[serde(rename = "org.matrix.msc3874.not_rel_types")]
    early_not_rel_types: Option<Texts>,
}

/// Texts that are looked up: there may be very many.
pub type Texts = HashSet<String>;

impl Said {
    /// Whether anything is said of labels.
    pub fn asks_labels(&self) -> bool {
        self.labels.is_some() || self.not_labels.is_some()
    }

    /// Whether anything is said of how events relate to others.
    pub fn asks_relation(&self) -> bool {
        let only = [&self.rel_types, &self.early_rel_types];
        let not = [&self.not_rel_types, &self.early_not_rel_types];
        only.into_iter().chain(not).any(Option::is_some)
    }

    /// Whether events are let through that relate to another in this way, or to none.
    pub fn wants_rel_type(&self, rel_type: Option<&str>) -> bool {
        let named = |texts: &Texts| rel_type.is_some_and(|rel_type| texts.contains(rel_type));
        let not = [&self.not_rel_types, &self.early_not_rel_types];
        let only = self.rel_types.as_ref().or(self.early_rel_types.as_ref());
        !not.into_iter().flatten().any(named) && only.is_none_or(named)
    }
}

/// What others relate to (MSC3440): with both, one event must do for both.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RelatedBy {
    /// Only events to which events of these users relate.
    #[serde(rename = "related_by_senders")]
    pub senders: Option<Vec<OwnedUserId>>,
    /// Only events to which others relate in one of these ways.
    #[serde(rename = "related_by_rel_types")]
    pub rel_types: Option<Vec<String>>,
}

impl RelatedBy {
    /// Whether anything is said.
    pub fn is_asked(&self) -> bool {
        self.senders.is_some() || self.rel_types.is_some()
    }
}
