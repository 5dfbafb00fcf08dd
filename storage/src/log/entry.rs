//! What stands in the log, and stored events.

use std::sync::{Arc, OnceLock};

use rhizome_protocol::visibility::HistoryVisibility;
use rhizome_protocol::{Membership, Pdu};
use ruma::{OwnedDeviceId, OwnedEventId};

use crate::{EventNo, KeyNo, Placement, Pos, RoomNo, SnapshotNo, Status, UserNo};

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

/// What happened at a position.
#[derive(Debug, Clone)]
pub enum EntryKind {
    /// An accepted live event.
    Event {
        /// Its room.
        room: RoomNo,
        /// The event (its redacted form, if it has been redacted by now).
        event: Arc<StoredEvent>,
    },
    /// A change of a room's current state.
    State {
        /// The room.
        room: RoomNo,
        /// Which entry.
        key: KeyNo,
        /// What was there.
        old: Option<EventNo>,
        /// What is there now.
        new: Option<EventNo>,
        /// If the entry is a membership: whose, and which from now on.
        member: Option<(UserNo, Membership)>,
    },
    /// A receipt moved.
    Receipt(Arc<Receipt>),
    /// Account data changed.
    AccountData(Arc<AccountData>),
    /// An invite from outside came or went.
    Invite {
        /// Who is invited.
        user: UserNo,
        /// To which room.
        room: RoomNo,
        /// Whether it is gone again.
        gone: bool,
    },
    /// A user's devices or keys changed.
    DeviceList {
        /// Whose.
        user: UserNo,
    },
    /// An event got the content that it had come without.
    Restored {
        /// Its room.
        room: RoomNo,
        /// Which.
        event: EventNo,
    },
    /// Access tokens have ended.
    TokenRevoked {
        /// Whose.
        user: UserNo,
        /// Of which device; `None` is all.
        device: Option<OwnedDeviceId>,
    },
}

impl Entry {
    /// The room it belongs to, if it belongs to one.
    pub fn room(&self) -> Option<RoomNo> {
        match &self.kind {
            EntryKind::Event { room, .. }
            | EntryKind::State { room, .. }
            | EntryKind::Invite { room, .. } => Some(*room),
            EntryKind::Receipt(receipt) => Some(receipt.room),
            EntryKind::AccountData(data) => data.room,
            // Whom it concerns in the room, a change of its state tells.
            EntryKind::Restored { .. }
            | EntryKind::DeviceList { .. }
            | EntryKind::TokenRevoked { .. } => None,
        }
    }

    /// The user whom it concerns besides those in the room: the owner of account data or tokens,
    /// the invited, the member who changed.
    pub fn user(&self) -> Option<UserNo> {
        match &self.kind {
            EntryKind::State { member, .. } => member.map(|(user, _)| user),
            EntryKind::AccountData(data) => Some(data.user),
            EntryKind::Invite { user, .. }
            | EntryKind::DeviceList { user }
            | EntryKind::TokenRevoked { user, .. } => Some(*user),
            EntryKind::Event { .. } | EntryKind::Restored { .. } | EntryKind::Receipt(_) => None,
        }
    }
}

/// A read receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// When it moved here.
    pub pos: Pos,
    /// Where.
    pub room: RoomNo,
    /// Whose.
    pub user: UserNo,
    /// `m.read`, `m.read.private`.
    pub kind: String,
    /// The thread, if it has one.
    pub thread: Option<String>,
    /// Up to here.
    pub event_id: OwnedEventId,
    /// When, in milliseconds since 1970.
    pub ts: i64,
}

/// One type of a user's account data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountData {
    /// When it changed last.
    pub pos: Pos,
    /// Whose.
    pub user: UserNo,
    /// Of which room, or global.
    pub room: Option<RoomNo>,
    /// Its type.
    pub kind: String,
    /// The content's JSON text.
    pub content: Arc<str>,
}
