//! What stands in the log, and stored events.

use std::sync::{Arc, OnceLock};

use rhizome_protocol::visibility::HistoryVisibility;
use rhizome_protocol::{Membership, Pdu};
use ruma::OwnedDeviceId;

use crate::{
    Audience, EntryKind, EventNo, KeyNo, Placement, Pos, RoomNo, SnapshotNo, Status, UserNo,
};

/// An event with everything that we know about it. Shared; immutable but for what is made once.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its number.
    pub no: EventNo,
    /// Its room.
    pub room: RoomNo,
    /// The event; its redacted form if it was redacted.
    pub pdu: Arc<Pdu>,
    /// Its place in the room's history: the log position (positive) or, backfilled, a negative number.
    /// `None` for outliers, rejected and soft-failed events.
    pub order: Option<i64>,
    /// Its depth for history tokens: the event's own, unless that was clamped.
    pub depth: i64,
    /// What became of it.
    pub status: Status,
    /// Why it is not accepted.
    pub reason: Option<String>,
    /// Where it belongs.
    pub placement: Placement,
    /// The state before it.
    pub state_before: Option<SnapshotNo>,
    /// The state after it.
    pub state_after: Option<SnapshotNo>,
    /// The history visibility at the event.
    pub visibility: Option<HistoryVisibility>,
    /// The redaction that was applied to it.
    pub redacted_by: Option<EventNo>,
    /// The client transaction that made it; shown to that device only.
    pub txn: Option<TxnOwner>,
    /// The client form, made once by whoever needs it first.
    pub client: OnceLock<Arc<str>>,
    /// The state event that it replaced, looked up once by whoever needs it first.
    pub replaces: OnceLock<Option<EventNo>>,
}

impl StoredEvent {
    /// Its log position, if it has one.
    pub fn pos(&self) -> Option<Pos> {
        self.order.filter(|order| *order > 0).map(Pos)
    }

    /// Accepted and part of the room's history.
    pub fn is_history(&self) -> bool {
        self.order.is_some()
    }

    /// The same event without its content, though nothing has redacted it: for who mustn't see that.
    #[must_use]
    pub fn without_content(&self) -> Self {
        Self {
            redacted_by: self.redacted_by,
            ..self.redacted(self.no)
        }
    }

    /// The same event, redacted by `by`.
    pub(crate) fn redacted(&self, by: EventNo) -> Self {
        Self {
            pdu: Arc::new(self.pdu.redacted()),
            redacted_by: Some(by),
            client: OnceLock::new(),
            replaces: self.replaces.clone(),
            reason: self.reason.clone(),
            txn: self.txn.clone(),
            ..*self
        }
    }
}

/// The device and transaction id that `unsigned.transaction_id` is for; the user is the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnOwner {
    /// The device.
    pub device: OwnedDeviceId,
    /// Its transaction id.
    pub txn_id: String,
}

/// One position of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The position.
    pub pos: Pos,
    /// What happened.
    pub kind: EntryKind,
}

/// An accepted live event.
#[derive(Debug, Clone)]
pub struct LiveEvent {
    /// Its room.
    pub room: RoomNo,
    /// The event (its redacted form, if it has been redacted by now).
    pub event: Arc<StoredEvent>,
}

/// A change of a room's current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChanged {
    /// The room.
    pub room: RoomNo,
    /// Which entry.
    pub key: KeyNo,
    /// What was there.
    pub old: Option<EventNo>,
    /// What is there now.
    pub new: Option<EventNo>,
    /// If the entry is a membership: whose, and which from now on.
    pub member: Option<(UserNo, Membership)>,
}

/// An event got the content that it had come without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRestored {
    /// Its room.
    pub room: RoomNo,
    /// Which.
    pub event: EventNo,
}

impl LiveEvent {
    pub(crate) fn audience(&self) -> Audience {
        Audience::Room(self.room)
    }

    /// Its JSON, the parsed content, and the client form.
    pub(crate) fn weight(&self) -> usize {
        500 + 3 * self.event.pdu.json().len()
    }
}

impl StateChanged {
    /// A member who has left isn't in the room any more.
    pub(crate) fn audience(&self) -> Audience {
        match self.member {
            Some((user, _)) => Audience::RoomAnd(self.room, user),
            None => Audience::Room(self.room),
        }
    }
}
