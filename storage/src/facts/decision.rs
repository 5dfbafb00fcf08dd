//! What becomes of a write set.

use ruma::{OwnedEventId, OwnedRoomAliasId};

use super::delay_id::DelayId;
use crate::{Error, EventNo, RoomNo, SnapshotNo, TxnKey, UserNo};

#[derive(Debug)]
pub(crate) enum Decision {
    Accept,
    Refuse(CommitError),
    /// A COMMIT with an unknown outcome had written it, its last event at this order.
    Done(Option<i64>),
    /// It changes rows that this group writes: it goes into the next.
    Defer,
}

/// Why nothing of a write set was written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The room's current state isn't what this was decided on: decide again.
    #[error("the state of room {room} has moved on to version {now}")]
    StateMoved {
        /// The room.
        room: RoomNo,
        /// Its state version now.
        now: i64,
    },
    /// The event that this was decided upon ([`RoomWrite::follows`](crate::RoomWrite::follows)) was not stored: decide again.
    #[error("the event that this follows in room {0} was not stored")]
    Orphaned(RoomNo),
    /// The room's turn was over before anything was decided: decide again, without one.
    #[error("the room's turn was over before anything was decided")]
    TurnOver,
    /// A snapshot that this refers to, or builds on, is not stored, nor written by this or an earlier write
    /// set. It was collected because nothing referred to it for long: decide again, from what is there now.
    #[error("the state snapshot {snapshot} of room {room}, which this builds on, is gone")]
    SnapshotGone {
        /// The room.
        room: RoomNo,
        /// The snapshot.
        snapshot: SnapshotNo,
    },
    /// The client transaction has its event already.
    #[error("the transaction was done before, as {event_id}")]
    DuplicateTxn {
        /// Which transaction.
        key: TxnKey,
        /// What it made.
        event_id: OwnedEventId,
    },
    /// The event is stored already: accepted, or with another number.
    #[error("{event_id} is stored already")]
    DuplicateEvent {
        /// The event.
        event_id: OwnedEventId,
        /// Its number.
        no: EventNo,
        /// Whether it is done: accepted and no outlier. Otherwise it can be written with that number.
        done: bool,
    },
    /// The room to create exists, or the room to write to doesn't.
    #[error("room {0} exists already, or doesn't exist yet")]
    RoomExists(RoomNo),
    /// The account data isn't what this was decided on: decide again.
    #[error("the account data {kind} of user {user} has moved on")]
    DataMoved {
        /// Whose.
        user: UserNo,
        /// Of which type.
        kind: String,
    },
    /// The account isn't what its change was decided on: decide again.
    #[error("the account of user {0} has moved on")]
    AccountMoved(UserNo),
    /// The device has other device keys than those on which an upload was decided: decide again.
    #[error("the keys of a device of user {0} have moved on")]
    KeysMoved(UserNo),
    /// The device has another one-time key of that name, which nobody has got yet.
    #[error("There is another one-time key {key} already")]
    KeyTaken {
        /// Whose device.
        user: UserNo,
        /// Algorithm and id.
        key: String,
    },
    /// The device would have more keys to give out than a server keeps for one.
    #[error("The device of user {0} has as many one-time or fallback keys as are kept for one")]
    TooManyKeys(UserNo),
    /// The user has said that they don't want to follow the thread, after what is a reason to do so.
    #[error("User {0} has unsubscribed from the thread since")]
    Unsubscribed(UserNo),
    /// The user has said of as many threads as are remembered whether they follow them.
    #[error("User {0} follows, or followed, as many threads as a server remembers for one")]
    TooManyThreads(UserNo),
    /// The user's profile would become longer than a profile may be.
    #[error("A profile must not be longer than 65,536 bytes")]
    ProfileTooLarge(UserNo),
    /// The user gets notices of this server in a room already.
    #[error("User {0} has a room for notices of this server already")]
    NoticesElsewhere(UserNo),
    /// Another user has the third-party identifier.
    #[error("Another account has this address")]
    ThirdPartyTaken(UserNo),
    /// The alias names a room already.
    #[error("The alias {0} is taken")]
    AliasTaken(OwnedRoomAliasId),
    /// The client's transaction has scheduled a delayed event already.
    #[error("the transaction has scheduled an event before")]
    DelayedTwice(DelayId),
    /// The user has as many delayed events scheduled as they may.
    #[error("The maximum number of delayed events has been reached")]
    TooManyDelayed {
        /// Who.
        user: UserNo,
        /// When the first of them is due, in milliseconds since 1970.
        first_ms: Option<i64>,
    },
    /// The delayed event isn't scheduled any more, or is due at another time by now.
    #[error("The delayed event isn't scheduled any more, or for another time")]
    DelayedMoved(DelayId),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}
