//! Events that other servers made (server-server "Checks performed on receipt of a PDU", steps 4–7).
//!
//! Format, signatures and hashes (steps 1–3) have been checked: what comes in is a [`Pdu`]. Then:
//!
//! 1. what we lack is named ([`Received::Need`]): auth events, prevs whose state nobody told, and in the end the
//!    signature of the room's policy server;
//! 2. its auth events must allow it (step 4), or it is rejected;
//! 3. the state before it is the resolution of the states after its prevs (`state_at`); that must allow
//!    it (step 5), or it is rejected;
//! 4. the room's current state must allow it (step 6), and the policy server that this names have signed it (step 7),
//!    or it is soft-failed;
//! 5. an accepted event joins the forward extremities, and their resolution is the new current state
//!    (`ends`);
//! 6. all of it is one commit, conditional on the state version; if that moved, again from 4.
//!
//! A rejected or soft-failed event is stored with the reason, and later events may descend from it. One whose
//! content was not what its hash says came to us redacted; a whole copy takes its place (`restore`).

mod backfill;
mod checks;
mod decide;
mod ends;
mod gather;
mod late;
mod line;
mod outliers;
mod own;
pub mod packed;
mod place;
mod restore;
mod sticky;

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{
    Pdu, Rejection, StateKey, policy::PolicyServer, receive::sender_must_sign, resolve::StateMap,
};
use rhizome_storage::{
    CommitError, Partial, Placement, RoomHead, RoomNo, RoomWrite, StoredEvent, WriteSet,
};
use ruma::OwnedEventId;

use crate::{
    Error, Rooms,
    error::Result,
    policy_server::Asked,
    send::{
        commit_error, known_room,
        queue::Warm,
        tries::{MAX_ATTEMPTS, Tries},
    },
    sticky::with_sticky,
};
use gather::Gather;
use place::Placed;

pub use self::{
    backfill::{Backfilled, backfilled},
    line::{Line, line},
    outliers::{Outliers, outliers, packed_outliers},
    sticky::look_again_at_sticky,
};
pub(crate) use backfill::redacts_now;
pub(crate) use checks::{allowed_by_auth_events, auth_events_of, other_create, own_create};
pub(crate) use gather::given;
pub(crate) use outliers::{Outcome, store_outliers};
pub(crate) use own::own;
pub(crate) use place::{redacts, view_of};

/// What other servers told about an event.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The state after prevs that we don't have, by their ids. The events of these states must have been
    /// stored, e.g. by [`outliers`].
    pub states_after: HashMap<OwnedEventId, StateMap>,
    /// The state before events of whose prevs we don't have all, by the ids of the events. It stands for the states after
    /// those prevs of which nothing else is known, and is believed no more than they would be.
    pub states_before: HashMap<OwnedEventId, StateMap>,
    /// In a room of which not all is known, the state before our join stands for those after prevs of which nothing else is
    /// known. Elsewhere this says nothing.
    pub stands_in: bool,
    /// What the room's policy server says to the event.
    pub policy: Asked,
}

impl Gathered {
    /// Whether anybody has told a state.
    fn has_states(&self) -> bool {
        !self.states_after.is_empty() || !self.states_before.is_empty()
    }
}

/// What became of a received event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It is part of the room.
    Accepted,
    /// It is kept, but users don't see it: the room's current state doesn't allow it, or the room's policy server hasn't
    /// signed it.
    SoftFailed(Rejection),
    /// It is not allowed. Kept with the reason.
    Rejected(Rejection),
    /// We had it already, with whatever outcome then.
    Known,
    /// It can't be decided without these.
    Need(Need),
}

/// What a received event can't be decided without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// Prevs that we don't have (or have without knowing the state there): the events, or the states
    /// after them in [`Gathered::states_after`], or the one before the event itself in [`Gathered::states_before`].
    pub prev: Vec<OwnedEventId>,
    /// Auth events, or events of a gathered state, that we don't have: as [`outliers`].
    pub auth: Vec<OwnedEventId>,
    /// The room's policy server, if nothing is lacking but its signature, or [`Gathered::policy`].
    pub signature: Option<PolicyServer>,
}

/// Admits an event of another server's transaction.
///
/// # Errors
///
/// [`Error::UnknownRoom`] if none of our users is in the room; otherwise those of the database. What is
/// wrong with the event itself is no error, but [`Received`].
pub async fn receive(rooms: &Rooms, pdu: Arc<Pdu>, gathered: &Gathered) -> Result<Received> {
    admit(rooms, pdu, gathered, LIVE).await
}

/// [`receive`] for an event that a server gave us unasked: where the room doesn't allow it, it is kept only if its
/// sender's server is in the room. Others can't fill our disk. If anybody builds on it, it is fetched.
///
/// # Errors
///
/// The same.
pub async fn pushed(rooms: &Rooms, pdu: Arc<Pdu>, gathered: &Gathered) -> Result<Received> {
    let how = How {
        keep_refused: KeepRefused::OfMembers,
        ..LIVE
    };
    admit(rooms, pdu, gathered, how).await
}

const LIVE: How = How {
    placement: Placement::Live,
    counts: true,
    relay: false,
    depth: None,
    keep_refused: KeepRefused::Always,
};

/// Whether an event that isn't accepted is stored with the reason.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepRefused {
    Always,
    /// If its sender's server is in the room, and has signed it.
    OfMembers,
    Never,
}

/// How an event is admitted.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) placement: Placement,
    /// Whether the room's current state takes notice of it.
    pub(crate) counts: bool,
    /// Whether we send it to the room's other servers: it came to us as the room's door.
    pub(crate) relay: bool,
    /// How deep it stands in the history; else its prevs tell.
    pub(crate) depth: Option<i64>,
    pub(crate) keep_refused: KeepRefused,
}

impl How {
    async fn keeps(self, rooms: &Rooms, head: &RoomHead, refused: &Pdu) -> Result<bool> {
        match self.keep_refused {
            KeepRefused::Always => return Ok(true),
            KeepRefused::Never => return Ok(false),
            KeepRefused::OfMembers => {}
        }
        if !sender_must_sign(refused) {
            return Ok(false);
        }
        let servers = rooms.store().joined_servers(head.room).await?;
        let server = refused.sender().server_name();
        Ok(servers.iter().any(|other| other == server))
    }
}

pub(crate) async fn admit(
    rooms: &Rooms,
    pdu: Arc<Pdu>,
    gathered: &Gathered,
    how: How,
) -> Result<Received> {
    // Again only if the same event was stored as an outlier in the meantime.
    for _ in 0..MAX_ATTEMPTS {
        if let Some(outcome) = admit_once(rooms, &pdu, gathered, how).await? {
            return Ok(outcome);
        }
    }
    Err(Error::Contended)
}

async fn admit_once(
    rooms: &Rooms,
    pdu: &Arc<Pdu>,
    gathered: &Gathered,
    how: How,
) -> Result<Option<Received>> {
    let head = known_room(rooms, pdu.room_id()).await?;
    if head.rules != pdu.rules() {
        return Err(Error::Invalid(
            "The event is of another room version than its room".into(),
        ));
    }
    if how.placement == Placement::Live {
        require_resident(rooms, &head).await?;
    }
    let mut gather = gather::gather(rooms, &head, pdu, gathered, false).await?;
    if matches!(gather, Gather::Known) && how.placement == Placement::Live {
        if !late::is_rejected_as_told(rooms, &head, pdu).await? {
            return late::known(rooms, &head, pdu).await.map(Some);
        }
        gather = gather::gather(rooms, &head, pdu, gathered, true).await?;
    }
    let found = match gather {
        Gather::Known => return Ok(Some(Received::Known)),
        Gather::Mangled(stored) => {
            restore::restore(rooms, &stored, pdu).await?;
            return Ok(Some(Received::Known));
        }
        Gather::Need(need) => return Ok(Some(Received::Need(need))),
        Gather::Found(found) => found,
    };
    // The copy that came may be mangled where we have the whole one.
    let pdu = &found.pdu.clone();
    let mut placed = match place::place(rooms, &head, pdu, found, how).await? {
        Ok(placed) => placed,
        Err(refused) => {
            let outcome = Received::Rejected(refused.rejection);
            if !how.keeps(rooms, &head, pdu).await? {
                return Ok(Some(outcome));
            }
            let write = RoomWrite {
                room: head.room,
                events: vec![refused.event],
                snapshots: refused.snapshots,
                partial: Partial::upon(&head),
                ..RoomWrite::default()
            };
            return store_alone(rooms, write, outcome).await;
        }
    };
    if how.placement != Placement::Live
        && let Some(redacts) = placed.event.redacts.take()
    {
        placed.event.redacts = Some(redacts_now(rooms, &head, pdu, redacts).await?);
    }
    if !how.counts {
        let write = RoomWrite {
            room: head.room,
            events: vec![placed.event],
            snapshots: placed.after.new,
            partial: Partial::upon(&head),
            ..RoomWrite::default()
        };
        return store_alone(rooms, write, Received::Accepted).await;
    }
    change_room(rooms, head.room, pdu, &placed, (how, &gathered.policy)).await
}

/// Stores an event that counts for what the room is now.
async fn change_room(
    rooms: &Rooms,
    room: RoomNo,
    pdu: &Arc<Pdu>,
    placed: &Placed,
    (how, asked): (How, &Asked),
) -> Result<Option<Received>> {
    // From here on the room's current state matters: keep the rest of this process out of the way.
    let queue = rooms.queues().of(room);
    let mut warm = queue.enter().await;
    let mut tries = Tries::new(rooms, room);
    while tries.again().await? {
        let head = known_room(rooms, pdu.room_id()).await?;
        if head.partial != placed.partial {
            // What was found out about it isn't so any more.
            return Ok(None);
        }
        rooms.loose_ends().note(&head);
        let decided = decide::decide(rooms, &head, pdu, placed, (how, asked)).await?;
        if matches!(decided.outcome, Received::Need(_)) {
            return Ok(Some(decided.outcome));
        }
        let is_refused = matches!(decided.outcome, Received::SoftFailed(_));
        if is_refused && !how.keeps(rooms, &head, pdu).await? {
            return Ok(Some(decided.outcome));
        }
        let moves = decided.current.is_some();
        let write = RoomWrite {
            room: head.room,
            expect: Some(head.state_version),
            events: vec![decided.event],
            snapshots: decided.snapshots,
            current: decided.current,
            drop_extremities: decided.ends.drop,
            add_extremities: decided.ends.add,
            told: told(pdu, &placed.prevs),
            ..RoomWrite::default()
        };
        match tries.commit(with_sticky(rooms, write).await?).await {
            Ok(_) => {
                if moves {
                    *warm = Warm::default();
                }
                return Ok(Some(decided.outcome));
            }
            Err(CommitError::StateMoved { .. } | CommitError::TurnOver) => {}
            Err(CommitError::DuplicateEvent { done, .. }) => {
                return Ok(done.then_some(Received::Known));
            }
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

/// Events happen to us in rooms that we are in; of others we know neither extremities nor state, and
/// nobody else comes in through us.
pub(crate) async fn require_resident(rooms: &Rooms, head: &RoomHead) -> Result<()> {
    let servers = rooms.store().joined_servers(head.room).await?;
    if servers.iter().any(|server| server == rooms.server_name()) {
        return Ok(());
    }
    Err(Error::UnknownRoom(head.room_id.clone()))
}

fn only(write: RoomWrite) -> WriteSet {
    WriteSet::from(write)
}

/// The `prev_events` of an event whose states were told, as they weren't known.
fn told(pdu: &Pdu, known: &[Arc<StoredEvent>]) -> Vec<OwnedEventId> {
    if known.len() == pdu.prev_events().len() {
        return Vec::new();
    }
    let mut told = pdu.prev_events().to_vec();
    told.retain(|id| known.iter().all(|known| known.pdu.event_id() != id));
    told
}

/// Stores an event that doesn't change the room's current state.
async fn store_alone(
    rooms: &Rooms,
    write: RoomWrite,
    outcome: Received,
) -> Result<Option<Received>> {
    // Where all is decided again to complete the room, this would make it void: it waits for that. Else whoever sends what is
    // refused, again and again, could keep the room from being completed.
    let is_upon = matches!(write.partial, Partial::Upon(_));
    let queue = is_upon.then(|| rooms.queues().of(write.room));
    let _gate = match &queue {
        Some(queue) => Some(queue.enter().await),
        None => None,
    };
    match rooms.store().commit(with_sticky(rooms, write).await?).await {
        Ok(_) => Ok(Some(outcome)),
        Err(CommitError::DuplicateEvent { done, .. }) => Ok(done.then_some(Received::Known)),
        // It was decided upon a state that isn't partial any more.
        Err(CommitError::StateMoved { .. }) => Ok(None),
        Err(error) => Err(commit_error(error)),
    }
}

/// The state that these events make up, e.g. those of a `/state` answer.
pub fn state_map(state: &[Arc<Pdu>]) -> StateMap {
    let entry = |pdu: &Arc<Pdu>| {
        Some((
            StateKey::new(pdu.kind(), pdu.state_key()?),
            pdu.event_id().to_owned(),
        ))
    };
    state.iter().filter_map(entry).collect()
}
