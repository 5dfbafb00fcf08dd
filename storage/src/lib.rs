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

mod cache;
pub mod clock;
pub mod collect;
mod commit;
mod counters;
mod db;
mod dialect;
mod duty;
mod entry;
pub mod ephemeral;
mod epoch;
mod error;
mod ids;
mod intern;
mod leases;
mod log;
mod migrate;
mod options;
mod snapshot;
mod store;
mod tail;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod write;

mod account_data;
mod accounts;
mod aliases;
mod auth_graph;
mod destinations;
mod devices;
mod erasure;
mod events;
mod filters;
mod history;
mod inbox;
mod inspect;
mod invites;
mod keys;
mod members;
mod outbound;
mod plain;
mod profiles;
mod receipts;
mod rooms;
mod scratch;
mod sessions;
mod settings;
mod state;
mod texts;
mod tokens;
mod transactions;
mod uia;

pub use accounts::{Account, NewAccount};
pub use aliases::StoredAlias;
pub use clock::Clock;
pub use commit::Submitted;
pub use counters::{Counters, Counts};
pub use destinations::{DestinationState, OutboundReceipt};
pub use devices::StoredDevice;
pub use dialect::Dialect;
pub use duty::Duty;
pub use entry::{AccountData, Entry, EntryKind, Receipt, StoredEvent, TxnOwner};
pub use ephemeral::Ephemeral;
pub use erasure::Erasures;
pub use error::{Error, Result};
pub use history::{Direction, HistoryToken};
pub use ids::{EventNo, KeyNo, Pos, RoomNo, ServerNo, SetNo, SnapshotNo, UserNo};
pub use inbox::{InboxEvent, InboxLane};
pub use inspect::{EventCount, OutsideToken, SnapshotSizes};
pub use invites::{PendingInvites, RemoteInvite};
pub use keys::{KeyResponse, StoredKey};
pub use log::Log;
pub use members::{Member, MemberCounts, MembershipRow};
pub use options::{CrashAt, CrashPoint, LostAnswer, Options};
pub use outbound::{DestinationRoom, Outbound};
pub use plain::Plain;
pub use rooms::{Extremity, RoomHead};
pub use scratch::Scratch;
pub use sessions::Ends;
pub use snapshot::NewSnapshot;
pub use state::{StateDiff, StateEntry};
pub use store::{OpenError, Store};
pub use tail::Interest;
pub use tokens::{NewLogin, NewTokens, Token};
pub use write::{
    CommitError, Committed, CurrentState, Fact, NewEvent, NewRoom, Placement, Redacts, Restored,
    RoomWrite, StateChange, Status, TxnKey, WriteSet,
};
