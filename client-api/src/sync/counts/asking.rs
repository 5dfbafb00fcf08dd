//! What rules ask for beside the event.

use std::sync::Arc;

use rhizome_protocol::power::Power;
use rhizome_storage::{RoomNo, Store, StoredEvent, UserNo};
use ruma::EventId;

use crate::{
    MatrixError,
    push::{
        evaluate::{Asked, Related, related_to},
        wishes::Wishes,
    },
};

/// What is known of who is asked.
#[derive(Debug, Default)]
pub struct Person {
    /// What they are called in the room.
    pub name: Option<String>,
    /// Whether they follow the event's thread.
    pub follows: bool,
    /// Since when they are in the room.
    pub since: i64,
}

impl Person {
    /// The same as rules take it.
    pub fn asked<'a>(&'a self, wishes: &'a Wishes) -> Asked<'a> {
        Asked {
            id: Some(&wishes.user_id),
            name: self.name.as_deref(),
            follows: self.follows,
            since: self.since,
        }
    }
}

/// The events of the room that an event relates to.
pub async fn related_of(
    store: &Store,
    event: &StoredEvent,
) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
    let mut found = Vec::new();
    for id in related_to(&event.pdu) {
        let Ok(id) = <&EventId>::try_from(id) else {
            continue;
        };
        let related = store.event(id).await?;
        found.extend(related.filter(|one| one.room == event.room && one.is_history()));
    }
    Ok(found)
}

/// The same as rules take it.
pub fn to_be_seen(related: &[Arc<StoredEvent>]) -> Vec<Related<'_>> {
    let related = related.iter().map(|one| Related {
        event: &one.pdu,
        pos: one.pos().map(|pos| pos.0),
    });
    related.collect()
}

/// The events that say who has which power.
pub struct Levels {
    create: Option<Arc<StoredEvent>>,
    levels: Option<Arc<StoredEvent>>,
}

impl Levels {
    /// Those before an event.
    pub async fn at(store: &Store, event: &StoredEvent) -> Result<Self, MatrixError> {
        let keys = [("m.room.create", ""), ("m.room.power_levels", "")];
        let found = match event.state_before {
            Some(at) => store.state_entries(at, &keys).await?,
            None => Vec::new(),
        };
        let mut events = [None, None];
        for (slot, no) in events.iter_mut().zip(found) {
            if let Some(no) = no {
                *slot = store.event_by_no(no).await?;
            }
        }
        let [create, levels] = events;
        Ok(Self { create, levels })
    }

    /// Who has which power.
    pub fn power<'a>(&'a self, event: &'a StoredEvent) -> Power<'a> {
        let create = self.create.as_ref().map(|event| &*event.pdu);
        let levels = self.levels.as_ref().map(|event| event.pdu.content());
        Power::new(event.pdu.rules(), create, levels)
    }
}

/// What a user is called in a room.
pub async fn name_of(
    store: &Store,
    room: RoomNo,
    user: UserNo,
) -> Result<Option<String>, MatrixError> {
    let row = store.membership(user, room).await?;
    let Some(event) = row.and_then(|row| row.event) else {
        return Ok(None);
    };
    let event = store.event_by_no(event).await?;
    let name = event.and_then(|event| {
        let name = event.pdu.content().get("displayname")?;
        name.as_str().map(str::to_owned)
    });
    Ok(name)
}
