//! The database, the commit queue and the log.
//!
//! # How anything is written
//!
//! What has a position in the log or belongs to a room goes through [`Store::commit`], as a
//! [`WriteSet`] that stands or falls whole. One task takes whatever write sets are waiting and makes
//! one transaction (one fsync) of them:
//!
//! 1. lock the rooms' rows by ascending number and check their state versions; look for client
//!    transactions and events that are there already; hand back what is refused;
//! 2. insert the rows without positions;
//! 3. take the counter (in PostgreSQL its row lock puts the processes in order);
//! 4. insert the rows with positions, bring rooms, members and counts up to date; COMMIT;
//! 5. append to the log's tail in memory, wake those whom it concerns, answer.
//!
//! Rows without positions that belong to it (devices and tokens: [`Plain`]) are part of the write set.
//! Everything else (keys, filters, …) is a plain statement of its own module.
//!
//! # How it is read
//!
//! One module per kind of data, each an `impl Store` block; absence is `Ok(None)`. Caches are
//! bounded, and true as of [`Log::head`]; [`Log::refresh`] first asks what other processes have
//! committed.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod accounts;
pub mod collect;
mod commit;
mod engine;
mod facts;
mod federation;
mod log;
mod names;
mod rooms;

pub use engine::random;
#[cfg(any(test, feature = "testing"))]
pub use engine::testing;

pub use accounts::devices::StoredDevice;
pub use accounts::erasure::Erasures;
pub use accounts::sessions::Ends;
pub use accounts::tokens::{NewLogin, NewTokens, Token};
pub use accounts::{Account, FirstLogin, NewAccount};
pub use commit::Submitted;
pub use commit::write_set::{
    CommitError, Committed, CurrentState, NewEvent, NewRoom, Placement, Redacts, Restored,
    RoomWrite, StateChange, Status, TxnKey, WriteSet,
};
pub use engine::cache::Cache;
pub use engine::clock::{Clock, millis};
pub use engine::counters::{Counters, Counts};
pub use engine::dialect::Dialect;
pub use engine::error::{Error, Result};
pub use engine::lease::Lease;
pub use engine::options::{CrashAt, CrashPoint, LostAnswer, Options};
pub use engine::scratch::Scratch;
pub use engine::store::{OpenError, Store};
pub use facts::account::AccountChange;
pub use facts::account_data::{AccountData, DataChange};
pub use facts::alias::NewAlias;
pub use facts::device_list::DeviceList;
pub use facts::forgotten::Forgotten;
pub use facts::inbound_answer::InboundAnswer;
pub use facts::invite::{Invite, InviteChange, InviteEntry};
pub use facts::listing::Listing;
pub use facts::receipt::Receipt;
pub use facts::revocation::TokenRevoked;
pub use facts::{Audience, EntryKind, Fact, Logged};
pub use federation::destinations::{DestinationState, OutboundReceipt};
pub use federation::inbox::{InboxEvent, InboxLane};
pub use federation::keys::{KeyResponse, StoredKey};
pub use federation::outbound::{DestinationRoom, Outbound};
pub use log::Log;
pub use log::entry::{Entry, EventRestored, LiveEvent, StateChanged, StoredEvent, TxnOwner};
pub use log::ephemeral::Ephemeral;
pub use log::reader::{Failure, LogReader, LogWork, Stretch};
pub use log::waiting::Interest;
pub use names::numbers::{EventNo, KeyNo, Pos, RoomNo, ServerNo, SetNo, SnapshotNo, UserNo};
pub use rooms::aliases::StoredAlias;
pub use rooms::heads::{Extremity, RoomHead};
pub use rooms::history::{Direction, HistoryToken};
pub use rooms::inspect::{EventCount, OutsideToken, SnapshotSizes};
pub use rooms::invites::{PendingInvites, RemoteInvite};
pub use rooms::members::{Member, MemberCounts, MembershipRow};
pub use rooms::snapshot::NewSnapshot;
pub use rooms::state::{StateDiff, StateEntry};
