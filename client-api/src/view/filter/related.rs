//! What a filter asks of an event that only others tell: whether they relate to it.

use std::{collections::HashSet, sync::Arc};

use rhizome_storage::{EventNo, Pos, Relating, Store, StoredEvent, UserNo};
use ruma::{EventId, OwnedUserId};

use super::definition::RelatedBy;
use crate::MatrixError;

/// Who asks.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The database.
    pub store: &'a Store,
    /// Users who don't count, for the reader doesn't hear them.
    pub ignored: &'a HashSet<OwnedUserId>,
    /// The last position of which the reader may hear.
    pub upto: Pos,
}

impl Asking<'_> {
    /// Those of a room's events that nothing relates to as is wanted: by one question for all of them, and by none where
    /// nothing is wanted.
    pub async fn unrelated<'e>(
        &self,
        wanted: &RelatedBy,
        events: impl Iterator<Item = &'e Arc<StoredEvent>>,
    ) -> Result<HashSet<EventNo>, MatrixError> {
        if !wanted.is_asked() {
            return Ok(HashSet::new());
        }
        let events: Vec<&StoredEvent> = events.map(|event| &**event).collect();
        let Some(room) = events.first().map(|event| event.room) else {
            return Ok(HashSet::new());
        };
        let senders = match &wanted.senders {
            Some(senders) => Some(self.numbers(senders.iter().cloned()).await?),
            None => None,
        };
        let ignored = self.numbers(self.ignored.iter().cloned()).await?;
        let ways = Relating {
            senders: senders.as_deref(),
            rel_types: wanted.rel_types.as_deref(),
            ignored: &ignored,
            upto: self.upto,
        };
        let ids: Vec<&EventId> = events.iter().map(|event| event.pdu.event_id()).collect();
        let related = self.store.related(room, &ids, ways).await?;
        let unrelated = (events.iter()).filter(|event| !related.contains(event.pdu.event_id()));
        Ok(unrelated.map(|event| event.no).collect())
    }

    /// The users' numbers; who has none has sent nothing.
    async fn numbers(
        &self,
        users: impl Iterator<Item = OwnedUserId>,
    ) -> Result<Vec<UserNo>, MatrixError> {
        let users: Vec<OwnedUserId> = users.collect();
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.store.known_users(&users).await?;
        Ok(known.into_values().collect())
    }
}
