//! What [`Store::commit`](crate::Store::commit) takes and gives.

use std::sync::Arc;

use rhizome_protocol::visibility::HistoryVisibility;
use rhizome_protocol::{Pdu, RoomRules};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};

use crate::{
    EventNo, Fact, KeyNo, NewSnapshot, Placement, Pos, RoomHead, RoomNo, SnapshotNo, Status, TxnKey,
};

/// Everything that stands or falls together.
#[derive(Debug, Clone, Default)]
pub struct WriteSet {
    /// Changes of rooms, at most one [`RoomWrite`] per room.
    pub rooms: Vec<RoomWrite>,
    /// What else must be written in the same moment.
    pub facts: Vec<Fact>,
}

impl From<RoomWrite> for WriteSet {
    fn from(write: RoomWrite) -> Self {
        Self {
            rooms: vec![write],
            facts: Vec::new(),
        }
    }
}

impl From<Vec<Fact>> for WriteSet {
    fn from(facts: Vec<Fact>) -> Self {
        Self {
            rooms: Vec::new(),
            facts,
        }
    }
}

/// A change of one room.
#[derive(Debug, Clone, Default)]
pub struct RoomWrite {
    /// Which room.
    pub room: RoomNo,
    /// The first write of a room. The others are refused until it is there.
    pub create: Option<NewRoom>,
    /// The state version that this was decided on. `None` admits anything; then `current` must be `None`.
    pub expect: Option<i64>,
    /// An event that this was decided upon before it was stored. If it isn't stored by now, nor written
    /// by an earlier write set, the write set is refused ([`CommitError::Orphaned`](crate::CommitError::Orphaned)).
    pub follows: Option<OwnedEventId>,
    /// In the order in which they get their positions, parents first.
    pub events: Vec<NewEvent>,
    /// Stored events that get the content which they came without.
    pub restored: Vec<Restored>,
    /// Snapshots that `events` or `current` refer to.
    pub snapshots: Vec<NewSnapshot>,
    /// The new current state; bumps the state version.
    pub current: Option<CurrentState>,
    /// More that `current` changes, without positions of their own: the state of a room that we have just
    /// come into, which no reader has seen before and which everybody who has come in reads as a whole.
    /// They take effect at the write set's last position in this room; a live event must be there.
    pub given: Vec<StateChange>,
    /// Exactly these become the forward extremities. Otherwise they merge: each accepted live event
    /// takes the place of its `prev_events`.
    pub reset_extremities: Option<Vec<EventNo>>,
    /// Extremities to drop beside the merge (ancestors reached through events that are not accepted). The
    /// last one stays.
    pub drop_extremities: Vec<EventNo>,
    /// Events, of this write set or stored, that become extremities although they came late, after events
    /// that name them, or as history.
    pub add_extremities: Vec<EventNo>,
    /// `prev_events` of `events` that these take no place of: the state after them was told by another
    /// server. Should they be there by now, they are extremities as before.
    pub told: Vec<OwnedEventId>,
    /// What this has to do with a state that isn't known in full.
    pub partial: Partial,
}

impl RoomWrite {
    /// The snapshots that this refers to or builds on and doesn't bring itself.
    pub(crate) fn outer_snapshots(&self) -> impl Iterator<Item = SnapshotNo> {
        let of_events = self
            .events
            .iter()
            .flat_map(|event| [event.state_before, event.state_after]);
        let again = (self.completes().into_iter())
            .flat_map(|completing| &completing.again)
            .flat_map(|again| [again.state_before, again.state_after]);
        let current = self.current.as_ref().map(|current| current.snapshot);
        let parents = self.snapshots.iter().map(|new| new.parent);
        let all = of_events.chain(again).chain([current]).chain(parents);
        let all = all.flatten();
        all.filter(|no| self.snapshots.iter().all(|new| new.no != *no))
    }

    /// What this makes known, if it does.
    pub(crate) fn completes(&self) -> Option<&Completing> {
        match &self.partial {
            Partial::Completes(completing) => Some(completing),
            _ => None,
        }
    }
}

/// What a [`RoomWrite`] has to do with a room's partial state ([`RoomHead::partial`](crate::RoomHead::partial)). In a
/// partial room all its events with a place are noted as decided upon partial state, whatever it says here.
#[derive(Debug, Clone, Default)]
pub enum Partial {
    /// Nothing.
    #[default]
    Nothing,
    /// It was decided upon the partial state of this join. If the room isn't partial by that any more, it is refused
    /// ([`CommitError::StateMoved`](crate::CommitError::StateMoved)).
    Upon(EventNo),
    /// It begins with one. What was partial in the room before is over.
    Begins(PartialJoin),
    /// The state of the room is told anew, in full: what was partial in it before is over.
    Ends,
    /// The rest of the state has come.
    Completes(Completing),
}

impl Partial {
    /// Of what was decided upon the state of this room.
    pub fn upon(head: &RoomHead) -> Self {
        head.partial.map_or(Self::Nothing, Self::Upon)
    }
}

/// A join after which the room's state is partial.
#[derive(Debug, Clone)]
pub struct PartialJoin {
    /// The event, one of the write.
    pub join: EventNo,
    /// The servers that were said to be in the room, ours excluded: they count as being there.
    pub servers: Vec<OwnedServerName>,
    /// The servers that are to be asked for the state before the join, in this order.
    pub ask: Vec<OwnedServerName>,
}

/// What becomes of a partial room when all is known. `current` must say what its state is then, `given` who is there of
/// whom no reader has heard (at the position of a fact [`MembersKnown`](crate::MembersKnown) of the same write set).
#[derive(Debug, Clone)]
pub struct Completing {
    /// The join that the room is partial by.
    pub join: EventNo,
    /// What is so of each event that was decided upon partial state. If there are others by now, the write set is refused
    /// ([`CommitError::StateMoved`](crate::CommitError::StateMoved)).
    pub again: Vec<DecidedAgain>,
}

/// What is so of a stored event after all. One that isn't accepted any more loses its place; one that is now must be an
/// event of the write as well, which gives it one.
#[derive(Debug, Clone)]
pub struct DecidedAgain {
    /// Which.
    pub no: EventNo,
    /// As [`NewEvent::status`].
    pub status: Status,
    /// As [`NewEvent::reason`].
    pub reason: Option<String>,
    /// As [`NewEvent::state_before`].
    pub state_before: Option<SnapshotNo>,
    /// As [`NewEvent::state_after`].
    pub state_after: Option<SnapshotNo>,
    /// As [`NewEvent::visibility`].
    pub visibility: Option<HistoryVisibility>,
    /// As [`NewEvent::redacts`]. What was redacted stays so.
    pub redacts: Option<Redacts>,
}

/// A room that we take part in from now on.
#[derive(Debug, Clone)]
pub struct NewRoom {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// The rules of its version.
    pub rules: &'static RoomRules,
}

/// An event to store. If its id is stored already as an outlier or as rejected, with the same
/// number, it takes that row's place, its text too unless that is redacted; if with another number, or accepted, the write set is refused
/// ([`CommitError::DuplicateEvent`](crate::CommitError::DuplicateEvent)).
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// From [`Store::next_event_no`](crate::Store::next_event_no), or what the stored outlier has.
    pub no: EventNo,
    /// The event.
    pub pdu: Arc<Pdu>,
    /// What became of it.
    pub status: Status,
    /// Why it is not accepted.
    pub reason: Option<String>,
    /// The state before it; `None` for outliers.
    pub state_before: Option<SnapshotNo>,
    /// The state after it: another one than before only for accepted state events.
    pub state_after: Option<SnapshotNo>,
    /// The room's history visibility at the event; `None` for outliers.
    pub visibility: Option<HistoryVisibility>,
    /// Where it belongs.
    pub placement: Placement,
    /// Its place in history: the event's own depth, clamped where a stranger's is out of reason.
    pub depth: i64,
    /// If this is an accepted redaction that may be applied: to what. Its target is redacted in the
    /// same commit, or as soon as it is stored.
    pub redacts: Option<Redacts>,
    /// The client transaction that made it.
    pub txn: Option<TxnKey>,
    /// Made here: the servers that must get it, computed from the state before it (ours excluded).
    pub send_to: Option<Vec<OwnedServerName>>,
}

impl NewEvent {
    /// An accepted live event with nothing else known about it.
    pub fn new(no: EventNo, pdu: Arc<Pdu>) -> Self {
        Self {
            no,
            depth: pdu.depth(),
            pdu,
            status: Status::Accepted,
            reason: None,
            state_before: None,
            state_after: None,
            visibility: None,
            placement: Placement::Live,
            redacts: None,
            txn: None,
            send_to: None,
        }
    }

    /// An accepted outlier.
    pub fn outlier(no: EventNo, pdu: Arc<Pdu>) -> Self {
        Self {
            placement: Placement::Outlier,
            ..Self::new(no, pdu)
        }
    }

    /// Whether it joins the room's history and gets an order.
    pub(crate) fn is_history(&self) -> bool {
        self.status == Status::Accepted && self.placement != Placement::Outlier
    }

    /// Whether it gets a log position.
    pub(crate) fn is_live(&self) -> bool {
        self.status == Status::Accepted && self.placement == Placement::Live
    }
}

/// The whole form of an event that is stored without its content, because of that another came with it first. The
/// event keeps its number, its place and the states around it, and gets a position in the log from which on caches
/// of it are stale. If a redaction has been applied to it, it stays as it is.
///
/// If it is an entry of the current state, `current` must say so with a change from the event to itself: what was
/// decided upon its content is void, and readers are told.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The number that it has.
    pub no: EventNo,
    /// All of it.
    pub pdu: Arc<Pdu>,
    /// As [`NewEvent::redacts`]: its content may be what names the target. A ban may redact much that its user has sent
    /// (MSC4293): it is restored as it is, with what it redacts.
    pub redacts: Vec<Redacts>,
}

/// The target of a redaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacts {
    /// The event to redact.
    pub target: OwnedEventId,
    /// `None`: the sender has the power to redact anything. `Some`: applied only if the target was
    /// sent from this server.
    pub only_from: Option<OwnedServerName>,
}

/// The new current state of a room.
#[derive(Debug, Clone)]
pub struct CurrentState {
    /// The whole of it.
    pub snapshot: SnapshotNo,
    /// How it differs from the one before. Each change gets a position.
    pub changes: Vec<StateChange>,
}

/// One entry of a room's state that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// Which entry.
    pub key: KeyNo,
    /// The event that was there.
    pub old: Option<EventNo>,
    /// The event that is there from now on.
    pub new: Option<EventNo>,
}

/// What the log got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The first position of this write set, or the log's head if it had none.
    pub first: Pos,
    /// The last one.
    pub last: Pos,
}
