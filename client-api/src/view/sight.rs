//! What a reader may see in one room, and of which moments they may know.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{
    Membership,
    visibility::{HistoryVisibility, Moment, can_see},
};
use rhizome_storage::{SnapshotNo, Store, StoredEvent};

use crate::{
    MatrixError,
    view::{
        client_event, redactions,
        seen::{Seen, Standing, Viewer},
    },
};

/// Decides, event by event, what a reader may see in one room.
pub struct Sight<'a> {
    store: &'a Store,
    viewer: &'a Viewer,
    standing: Standing,
    /// The reader's membership in each state that was looked at.
    known: HashMap<SnapshotNo, Option<Membership>>,
}

impl<'a> Sight<'a> {
    /// For one room, in which the reader stands like this.
    pub fn new(store: &'a Store, viewer: &'a Viewer, standing: Standing) -> Sight<'a> {
        Sight {
            store,
            viewer,
            standing,
            known: HashMap::new(),
        }
    }

    async fn membership_before(
        &mut self,
        event: &StoredEvent,
    ) -> Result<Option<Membership>, MatrixError> {
        let Some(before) = event.state_before else {
            return Ok(None);
        };
        if let Some(known) = self.known.get(&before) {
            return Ok(*known);
        }
        let member = self
            .store
            .state_event(before, "m.room.member", self.viewer.user_id.as_str())
            .await?;
        let found = member.and_then(|event| event.pdu.membership());
        self.known.insert(before, found);
        Ok(found)
    }

    /// The event if the reader is to see it, not [dressed](crate::view::seen::dress) yet.
    pub async fn see(&mut self, event: Arc<StoredEvent>) -> Result<Option<Seen>, MatrixError> {
        if redactions::withheld(self.store, &event).await? {
            return Ok(None);
        }
        self.look(event).await
    }

    /// The event if the history's visibility lets the reader see it, be it a redaction without effect.
    ///
    /// Events within an unbroken stay need no look-up: the warm path of `/sync`.
    pub async fn look(&mut self, event: Arc<StoredEvent>) -> Result<Option<Seen>, MatrixError> {
        let own = client_event::is_own_membership(&event, &self.viewer.user_id);
        if self.standing.covers(&event) {
            let after = if own {
                event.pdu.membership()
            } else {
                Some(Membership::Join)
            };
            return Ok(Some(Seen::new(event, after.or(Some(Membership::Leave)))));
        }
        let before = self.membership_before(&event).await?;
        let after = if own { event.pdu.membership() } else { before };
        // What happened to the reader themselves is always theirs to know.
        if !own && !may_see(&event, before, self.standing.was_in_since(&event)) {
            return Ok(None);
        }
        let event = self.unless_erased(event, before).await?;
        Ok(Some(Seen::new(event, after.or(Some(Membership::Leave)))))
    }

    /// The event, without its content if its sender's are erased and the reader couldn't see it before that.
    /// State keeps what makes the room.
    async fn unless_erased(
        &self,
        event: Arc<StoredEvent>,
        before: Option<Membership>,
    ) -> Result<Arc<StoredEvent>, MatrixError> {
        let sender = event.pdu.sender();
        let is_state = event.pdu.state_key().is_some_and(|key| key != sender);
        let erased = self.store.erasures().await?.of(sender);
        let Some(upto) = erased.filter(|_| !is_state) else {
            return Ok(event);
        };
        let Standing {
            joined_from,
            left_at,
            ..
        } = self.standing;
        let was_there = before == Some(Membership::Join)
            || joined_from.is_some_and(|from| from <= upto)
            || left_at.is_some_and(|left| left <= upto);
        Ok(if was_there {
            event
        } else {
            Arc::new(event.without_content())
        })
    }

    /// Whether the reader might see what lies right before an event, as far as that tells.
    pub async fn sees_before(&mut self, event: &StoredEvent) -> Result<bool, MatrixError> {
        let moment = Moment {
            visibility: event.visibility.unwrap_or(HistoryVisibility::Shared),
            membership: self.membership_before(event).await?,
        };
        let joined_since = self.standing.was_in_since(event);
        Ok(can_see(moment, moment, joined_since))
    }

    /// Whether the reader may know of the room as it was right after an event. What happened to themselves
    /// is theirs to know, but not what else was so then.
    pub async fn sees_after(&mut self, event: &StoredEvent) -> Result<bool, MatrixError> {
        let own = client_event::is_own_membership(event, &self.viewer.user_id);
        let membership = if own {
            event.pdu.membership()
        } else if self.standing.covers(event) {
            return Ok(true);
        } else {
            self.membership_before(event).await?
        };
        let moment = Moment {
            visibility: visibility_after(event),
            membership,
        };
        let joined_since = self.standing.was_in_since(event);
        Ok(can_see(moment, moment, joined_since))
    }
}

fn visibility_after(event: &StoredEvent) -> HistoryVisibility {
    if event.pdu.is_state("m.room.history_visibility", "") {
        HistoryVisibility::of(Some(event.pdu.content()))
    } else {
        event.visibility.unwrap_or(HistoryVisibility::Shared)
    }
}

fn may_see(event: &StoredEvent, membership: Option<Membership>, joined_since: bool) -> bool {
    let visibility = event.visibility.unwrap_or(HistoryVisibility::Shared);
    let visibility_after = visibility_after(event);
    can_see(
        Moment {
            visibility,
            membership,
        },
        Moment {
            visibility: visibility_after,
            membership,
        },
        joined_since,
    )
}
