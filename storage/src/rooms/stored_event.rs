//! Stored events, and what became of them.

use std::sync::{Arc, OnceLock};

use rhizome_protocol::Pdu;
use rhizome_protocol::visibility::HistoryVisibility;
use ruma::OwnedDeviceId;

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Error, EventNo, Pos, Result, RoomNo, SnapshotNo};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Allowed.
    Accepted,
    /// Allowed by the state before it, not by the room's current state, or not signed by the policy server that this names:
    /// kept, but nobody sees it.
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
    /// How many bytes it takes, about: its JSON, the parsed content, and the client form. The latter two may come later,
    /// when nobody weighs it again.
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

/// The event of a row that holds everything of it (`events.rs`).
pub(crate) fn event_of(row: &ReadRow) -> Result<StoredEvent> {
    let rules = row.get("version")?;
    let pdu = Pdu::from_stored(rules, row.get("event_id")?, row.get("json")?).map_err(|error| {
        Error::broken(format!(
            "event {} is damaged: {error}",
            row.get::<i64>("no").unwrap_or(0)
        ))
    })?;
    let redacted_by: Option<EventNo> = row.get("redacted_by")?;
    let pdu = if redacted_by.is_some() {
        pdu.redacted()
    } else {
        pdu
    };
    let txn = match row.get::<Option<String>>("txn")? {
        Some(text) => {
            let (device, txn_id): (String, String) = serde_json::from_str(&text)?;
            Some(TxnOwner {
                device: device.into(),
                txn_id,
            })
        }
        None => None,
    };
    Ok(StoredEvent {
        no: row.get("no")?,
        room: row.get("room")?,
        pdu: Arc::new(pdu),
        order: row.get("ord")?,
        depth: row.get("depth")?,
        status: row.get("status")?,
        reason: row.get("reason")?,
        placement: row.get("placement")?,
        state_before: row.get("state_before")?,
        state_after: row.get("state_after")?,
        visibility: row.get("visibility")?,
        redacted_by,
        txn,
        client: OnceLock::new(),
        replaces: OnceLock::new(),
    })
}
