//! Which events of one room a user may see.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::Membership;
use rhizome_storage::{Erasures, EventNo, SnapshotNo, Store, StoredEvent};
use ruma::UserId;

use super::{
    Standing, Verdict, redactions,
    rule::{self, Facts},
};
use crate::{error::Result, loose_ends::is_dummy};

/// A reader's membership in a state, if that has one.
#[derive(Clone, Copy)]
struct Before(Option<Membership>);

/// Decides, event by event, what a user may see in one room.
///
/// What was not [loaded](EventAccess::load) is hidden, unless it lies within the reader's present stay. Events
/// within that need no look-up: the warm path of `/sync`.
pub struct EventAccess<'a> {
    store: &'a Store,
    user: &'a UserId,
    standing: Standing,
    /// The reader's membership in each state that was looked at.
    memberships: HashMap<SnapshotNo, Before>,
    /// Redactions that aren't applied.
    unapplied: HashSet<EventNo>,
    erasures: Option<Arc<Erasures>>,
}

impl<'a> EventAccess<'a> {
    /// For one room, in which the user stands like this.
    pub fn new(store: &'a Store, user: &'a UserId, standing: Standing) -> EventAccess<'a> {
        EventAccess {
            store,
            user,
            standing,
            memberships: HashMap::new(),
            unapplied: HashSet::new(),
            erasures: None,
        }
    }

    /// Loads what deciding on some events needs, in a few queries however many they are.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn load<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e Arc<StoredEvent>>,
    ) -> Result<()> {
        let (mut states, mut redactions) = (Vec::new(), Vec::new());
        let mut outside = false;
        for event in events {
            if redactions::is_redaction(event) {
                redactions.push(event);
            }
            if self.standing.is_operator() {
                outside = true;
                continue;
            }
            if self.standing.covers(event) {
                continue;
            }
            outside = true;
            states.extend(
                event
                    .state_before
                    .filter(|at| !self.memberships.contains_key(at)),
            );
        }
        if outside && self.erasures.is_none() {
            self.erasures = Some(self.store.erasures().await?);
        }
        if !states.is_empty() {
            self.load_memberships(states).await?;
        }
        if !redactions.is_empty() {
            let found = redactions::unapplied(self.store, redactions).await?;
            self.unapplied.extend(found);
        }
        Ok(())
    }

    async fn load_memberships(&mut self, mut states: Vec<SnapshotNo>) -> Result<()> {
        states.sort_unstable();
        states.dedup();
        let user = self.user.as_str();
        let entries: Vec<_> = states
            .iter()
            .map(|at| (*at, "m.room.member", user))
            .collect();
        let found = self.store.state_entries_at(&entries).await?;
        let mut nos: Vec<EventNo> = found.iter().flatten().copied().collect();
        nos.sort_unstable();
        nos.dedup();
        let members: HashMap<EventNo, Option<Membership>> = self
            .store
            .events_by_no(&nos)
            .await?
            .iter()
            .map(|event| (event.no, event.pdu.membership()))
            .collect();
        for (at, no) in states.into_iter().zip(found) {
            let membership = no.and_then(|no| members.get(&no).copied().flatten());
            self.memberships.insert(at, Before(membership));
        }
        Ok(())
    }

    /// What the reader may see of an event of the room's history.
    pub fn judge(&self, event: &StoredEvent) -> Verdict {
        if is_dummy(&event.pdu) {
            return Verdict::Hidden;
        }
        let unapplied = self.unapplied.contains(&event.no);
        if self.standing.is_operator() {
            let erased = |all: &Arc<Erasures>| all.of(event.pdu.sender()).is_some();
            // Not loaded: as if it were erased.
            let erased = self.erasures.as_ref().is_none_or(erased);
            return rule::for_operator(event, erased, unapplied);
        }
        if self.standing.covers(event) {
            return rule::within_stay(event, self.user, unapplied);
        }
        let (Some(Before(before)), Some(erasures)) =
            (self.membership_before(event), &self.erasures)
        else {
            return Verdict::Hidden;
        };
        let facts = Facts {
            before,
            erased: erasures.of(event.pdu.sender()),
            unapplied,
        };
        rule::for_user(event, self.user, &self.standing, &facts)
    }

    /// Whether the reader might see what lies right before an event, as far as that tells.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sees_before(&mut self, event: &StoredEvent) -> Result<bool> {
        if self.standing.is_operator() {
            return Ok(true);
        }
        let before = self.load_membership_before(event).await?;
        Ok(rule::sees_before(event, &self.standing, before))
    }

    /// Whether the reader may know of the room as it was right after an event. What happened to themselves
    /// is theirs to know, but not what else was so then.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sees_after(&mut self, event: &StoredEvent) -> Result<bool> {
        if self.standing.is_operator() {
            return Ok(true);
        }
        let after = if rule::is_membership_of(event, self.user) {
            event.pdu.membership()
        } else if self.standing.covers(event) {
            return Ok(true);
        } else {
            self.load_membership_before(event).await?
        };
        Ok(rule::sees_after(event, &self.standing, after))
    }

    async fn load_membership_before(&mut self, event: &StoredEvent) -> Result<Option<Membership>> {
        if self.membership_before(event).is_none() {
            self.load_memberships(event.state_before.into_iter().collect())
                .await?;
        }
        Ok(self
            .membership_before(event)
            .and_then(|Before(known)| known))
    }

    /// The reader's membership before an event; `None`: that wasn't loaded.
    fn membership_before(&self, event: &StoredEvent) -> Option<Before> {
        match event.state_before {
            None => Some(Before(None)),
            Some(at) => self.memberships.get(&at).copied(),
        }
    }
}
