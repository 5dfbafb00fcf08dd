//! A room becomes complete: by one commit, for which nothing must have come that isn't decided again.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::StateKey;
use rhizome_storage::{
    CommitError, Completing, CurrentState, DecidedAgain, EventNo, Fact, KeyNo, MembersKnown,
    NewEvent, Partial, RoomHead, RoomWrite, SnapshotNo, StateChange, Status, WriteSet,
};
use ruma::UserId;

use super::{Again, Around, Replay, course::Fate};
use crate::{
    Error,
    error::Result,
    send::{commit_error, queue::Warm, tries::MAX_ATTEMPTS},
    state::{MEMBER, Resolved},
    sticky::with_sticky,
};

/// How many entries of the state are looked at at once.
const KEYS: usize = 1_000;

impl Replay {
    /// Decides all again, and makes the room complete, unless it is so by now, or partial by another join.
    ///
    /// # Errors
    ///
    /// [`Error::Contended`] if others kept changing the room; those of the database.
    pub async fn complete(mut self) -> Result<()> {
        let (rooms, room) = (self.rooms.clone(), self.head.room);
        // Most of it while others go on; what has come in the time that took, too, as it may change all the rest.
        self.decide().await?;
        self.read().await?;
        self.decide().await?;
        let queue = rooms.queues().of(room);
        let mut warm = queue.enter().await;
        // No turn is taken: snapshots are stored as they are made, by the same queue.
        for _ in 0..MAX_ATTEMPTS {
            let Some(head) = rooms.store().room_by_no(room).await? else {
                return Ok(());
            };
            if head.partial != Some(self.join) {
                return Ok(());
            }
            self.read().await?;
            self.decide().await?;
            let set = self.write(&head).await?;
            match rooms.store().commit(set).await {
                Ok(_) => {
                    *warm = Warm::default();
                    return Ok(());
                }
                Err(CommitError::StateMoved { .. } | CommitError::DuplicateEvent { .. }) => {}
                Err(error) => return Err(commit_error(error)),
            }
        }
        Err(Error::Contended)
    }

    async fn write(&self, head: &RoomHead) -> Result<WriteSet> {
        let course = self.course(head).await?;
        let (changes, given) = self.changes(head, course.current).await?;
        let mut events = Vec::new();
        let mut again = Vec::with_capacity(self.events.len());
        for at in self.in_order() {
            let (event, fate) = (&self.events[at], &course.fates[at]);
            let Some(now) = &event.now else { continue };
            if fate.status == Status::Accepted && event.was != Status::Accepted {
                events.push(self.accepted(event, now, fate).await?);
            }
            again.push(decided_again(event, now, fate));
        }
        let write = RoomWrite {
            room: head.room,
            expect: Some(head.state_version),
            events,
            current: Some(CurrentState {
                snapshot: course.current,
                changes,
            }),
            given,
            reset_extremities: course.ends,
            partial: Partial::Completes(Completing {
                join: self.join,
                again,
            }),
            ..RoomWrite::default()
        };
        let mut set = with_sticky(&self.rooms, write).await?;
        set.facts.push(MembersKnown { room: head.room }.into());
        set.facts.extend(self.devices().await?);
        Ok(set)
    }

    /// An event that gets its place only now.
    async fn accepted(&self, event: &Again, now: &Around, fate: &Fate) -> Result<NewEvent> {
        let stored = self.rooms.store().events_by_no(&[event.no]).await?;
        let pdu = stored.first().map(|stored| Arc::clone(&stored.pdu));
        let pdu = pdu.ok_or_else(|| Error::UnknownEvent(event.id.clone()))?;
        Ok(NewEvent {
            state_before: now.before,
            state_after: now.after,
            visibility: Some(now.visibility),
            placement: event.placement,
            depth: event.depth,
            redacts: fate.redacts.clone(),
            ..NewEvent::new(event.no, pdu)
        })
    }

    /// How the current state changes: what readers are told, and what they are given, members of other servers whom nobody
    /// has heard of.
    async fn changes(
        &self,
        head: &RoomHead,
        current: SnapshotNo,
    ) -> Result<(Vec<StateChange>, Vec<StateChange>)> {
        let again: HashSet<EventNo> = self.events.iter().map(|event| event.no).collect();
        let now = Resolved::stored_or_empty(Some(current));
        let differing = now.diff_from(self.rooms.store(), head.snapshot).await?;
        let (mut changes, mut given) = (Vec::new(), Vec::new());
        for part in differing.chunks(KEYS) {
            let keys: Vec<KeyNo> = part.iter().map(|(key, ..)| *key).collect();
            let names = self.rooms.store().keys(&keys).await?;
            for ((key, old, new), name) in part.iter().zip(names) {
                let change = StateChange {
                    key: *key,
                    old: *old,
                    new: *new,
                };
                let is_unheard = old.is_none() && new.is_some_and(|new| !again.contains(&new));
                if is_unheard && self.is_remote_member(&name) {
                    given.push(change);
                } else {
                    changes.push(change);
                }
            }
        }
        self.said_anew(current, &mut changes).await?;
        Ok((changes, given))
    }

    /// Those are made to leave once more who were, with all that they have sent: what is taken away doesn't come back, so that
    /// had to wait.
    async fn said_anew(&self, current: SnapshotNo, changes: &mut Vec<StateChange>) -> Result<()> {
        let store = self.rooms.store();
        for event in self
            .events
            .iter()
            .filter(|event| event.was == Status::Accepted)
        {
            let Some(user) = event.now.as_ref().and_then(|now| now.clears.as_deref()) else {
                continue;
            };
            let key = store.key_no(MEMBER, user).await?;
            let is_so = store.state_entry(current, MEMBER, user).await? == Some(event.no);
            if is_so && changes.iter().all(|change| change.key != key) {
                changes.push(StateChange {
                    key,
                    old: Some(event.no),
                    new: Some(event.no),
                });
            }
        }
        Ok(())
    }

    fn is_remote_member(&self, name: &StateKey) -> bool {
        let user = <&UserId>::try_from(name.key.as_str());
        name.kind == MEMBER && user.is_ok_and(|user| !self.rooms.is_local(user))
    }

    /// Devices of users here that changed since the join: servers that weren't known to be in the room haven't heard of it.
    async fn devices(&self) -> Result<Vec<Fact>> {
        let store = self.rooms.store();
        let join = store.event_by_no(self.join).await?;
        let Some(since) = join.and_then(|join| join.pos()) else {
            return Ok(Vec::new());
        };
        let changed = store.devices_changed_in(self.head.room, since).await?;
        let users: Vec<_> = changed.iter().map(|list| list.user).collect();
        let names = store.users(&users).await?;
        let local = changed.into_iter().zip(names);
        let local = local.filter(|(_, name)| self.rooms.is_local(name));
        Ok(local.map(|(list, _)| list.into()).collect())
    }
}

fn decided_again(event: &Again, now: &Around, fate: &Fate) -> DecidedAgain {
    DecidedAgain {
        no: event.no,
        status: fate.status,
        reason: fate.reason.clone(),
        state_before: now.before,
        state_after: now.after,
        visibility: Some(now.visibility),
        // One that is accepted only now says so itself.
        redacts: fate
            .redacts
            .clone()
            .filter(|_| event.was == Status::Accepted),
    }
}
