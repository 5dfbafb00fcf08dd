//! The states around events that were decided upon partial state, and whether these allow them: steps 4 and 5 of the checks
//! on receipt of an event, once more.

use rhizome_protocol::{Pdu, Rejection, auth};
use rhizome_storage::Status;

use super::{Around, Replay, keep};
use crate::{
    error::Result,
    receive::{allowed_by_auth_events, auth_events_of, other_create, own_create, redacts, view_of},
    redact_banned,
    send::view::View,
    state::{self, Fork, Resolved},
};

/// What an event follows.
struct Followed {
    forks: Vec<Fork>,
    /// The state after some of it isn't known: the one before the join stands for that.
    gap: bool,
    /// Some of it is of another room.
    foreign: bool,
}

impl Replay {
    /// Decides all that isn't decided yet.
    pub(super) async fn decide(&mut self) -> Result<()> {
        for at in self.in_order() {
            if self.events[at].now.is_none() {
                self.decide_one(at).await?;
            }
        }
        Ok(())
    }

    async fn decide_one(&mut self, at: usize) -> Result<()> {
        let (rooms, store, head) = (&self.rooms, self.rooms.store(), &self.head);
        let no = self.events[at].no;
        let Some(event) = store.event_by_no(no).await? else {
            return Ok(());
        };
        let pdu = &event.pdu;
        let followed = self.followed(at, pdu).await?;
        let known = if no == self.join {
            Resolved::stored_or_empty(Some(self.full))
        } else {
            state::resolve_with(rooms, head, followed.forks, (None, &self.allowed)).await?
        };
        let learnt = if followed.gap {
            let mut learnt = state::learnt(rooms, head, &known, pdu).await?;
            learnt.retain(|member| !self.is_refused(&member.pdu));
            learnt
        } else {
            Vec::new()
        };
        let learned = state::with_learnt(rooms, head.room, &known, &learnt).await?;
        let view = view_of(rooms, &learned, pdu).await?;
        let refused = self.refused(pdu, &view, followed.foreign).await?.err();
        let before = if refused.is_none() { learned } else { known };
        let after = match pdu.state_key() {
            Some(key) if refused.is_none() => {
                let key = store.key_no(pdu.kind(), key).await?;
                before.with(store, head.room, key, no).await?
            }
            _ => before.clone(),
        };
        keep(rooms, head.room, after.new).await?;
        let around = Around {
            before: before.snapshot,
            after: after.snapshot,
            visibility: view.visibility(),
            redacts: redacts(pdu, &view).filter(|_| refused.is_none()),
            refused,
            learnt,
            clears: (redact_banned::asks(pdu) && !rooms.is_local(pdu.sender()))
                .then(|| pdu.state_key().map(str::to_owned))
                .flatten(),
        };
        if event.status == Status::Rejected && around.refused.is_none() {
            self.allowed.push((no, pdu.clone()));
        }
        self.events[at].now = Some(around);
        Ok(())
    }

    async fn followed(&self, at: usize, pdu: &Pdu) -> Result<Followed> {
        let mut followed = Followed {
            forks: Vec::new(),
            gap: false,
            foreign: false,
        };
        for prev in pdu.prev_events() {
            let again = self.index.get(prev).filter(|prev| **prev != at);
            let state = match again {
                Some(prev) => self.events[*prev].after(),
                None => match self.rooms.store().event(prev).await? {
                    Some(event) if event.pdu.room_id() != pdu.room_id() => {
                        followed.foreign = true;
                        continue;
                    }
                    // From before the join, when somebody here was in the room already.
                    Some(event) if event.state_after.is_some() => event.state_after,
                    _ => self.told.get(prev).copied(),
                },
            };
            followed.gap |= state.is_none();
            let state = state.unwrap_or(self.full);
            followed.forks.push(Fork::Snapshot(state));
        }
        Ok(followed)
    }

    async fn refused(
        &self,
        pdu: &Pdu,
        view: &View,
        foreign: bool,
    ) -> Result<std::result::Result<(), Rejection>> {
        if foreign {
            let reason = "a prev event is of another room";
            return Ok(Err(Rejection::new(Rejection::FORMAT, reason)));
        }
        // 4. Passes authorisation rules based on the event's auth events, otherwise it is rejected.
        let Ok(mut auth_events) = auth_events_of(&self.rooms, pdu).await? else {
            return Ok(Err(Rejection::new(
                "auth 3",
                "auth events are unknown here",
            )));
        };
        for (event, rejected) in &mut auth_events {
            if self.index.contains_key(event.event_id()) {
                *rejected = self.is_refused(event);
            }
        }
        if let Err(rejection) = allowed_by_auth_events(pdu, &auth_events) {
            return Ok(Err(rejection));
        }
        if pdu.kind() == "m.room.create" {
            let own = own_create(&self.rooms, self.head.snapshot).await?;
            if let Some(rejection) = other_create(pdu, own.as_deref()) {
                return Ok(Err(rejection));
            }
        }
        // 5. Passes authorisation rules based on the state before the event, otherwise it is rejected.
        Ok(auth::authorize(pdu, view))
    }

    /// Whether it is one of the events that are decided again, and not allowed, or not decided yet.
    fn is_refused(&self, pdu: &Pdu) -> bool {
        let again = self.index.get(pdu.event_id());
        again.is_some_and(|at| {
            let now = self.events[*at].now.as_ref();
            now.is_none_or(|now| now.refused.is_some())
        })
    }
}
