//! Stored events, and what became of them.

use std::sync::{Arc, OnceLock};

use rhizome_protocol::Pdu;
use rhizome_protocol::visibility::HistoryVisibility;
use ruma::OwnedDeviceId;

use crate::{EventNo, Pos, RoomNo, SnapshotNo};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Allowed.
    Accepted,
    /// Allowed by the state before it, not by the room's current state: kept, but nobody sees it.
    SoftFailed,
    /// Not allowed.
    Rejected,
}

/// Where an event belongs in its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Happened while we were there: gets a log position if accepted.
    Live,
    /// History from before we were there: gets a falling negative order if accepted.
    Backfilled,
    /// Known, but not placed: state and auth events of other servers.
    Outlier,
}

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
    /// How many bytes it takes, about: its JSON, the parsed content, and the client form.
    pub(crate) fn weight(&self) -> usize {
        500 + 3 * self.pdu.json().len()
    }

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
