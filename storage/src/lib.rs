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
mod check;
pub mod collect;
mod commit;
mod engine;
mod facts;
mod federation;
mod figures;
mod keys;
mod log;
mod media;
mod names;
mod open;
mod people;
mod refusal;
mod rooms;
mod saving;
mod search;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transfer;
mod vacuum;

pub use engine::random;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, Weak};

use rhizome_protocol::StateKey;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use commit::Job;
use engine::blocks::Blocks;
use engine::database::Database;
use engine::epoch::Epoch;
use log::positions::Positions;
use log::reader::progress::Progress;
use log::tail::Tail;
use rooms::snapshot::Nodes;

pub use accounts::acting::Actor;
pub use accounts::backup::{
    Backup, BackupError, BackupPage, BackupSession, BackupState, StoredSession,
};
pub use accounts::blocks::{Blocked, Way};
pub use accounts::dehydrated::{DehydratedDevice, Dehydration, NewDehydrated};
pub use accounts::delivery::DELIVERY;
pub use accounts::devices::StoredDevice;
pub use accounts::erasure::Erasures;
pub use accounts::listing::ListedAccount;
pub use accounts::login_as::LoginAs;
pub use accounts::overview::{AccountOrder, AccountOverview, AccountQuery};
pub use accounts::pushes::{About, Mails, NewPush, Push, Told, Waiting};
pub use accounts::registration::AwaitingApproval;
pub use accounts::registration_tokens::{RegistrationToken, TokenLimit};
pub use accounts::report_pages::{ReportQuery, Reported};
pub use accounts::reports::{NewReport, Report, ReportState};
pub use accounts::services::{
    Acknowledged, NewServiceTransaction, ServiceFailure, ServicePlace, ServiceState, ServiceStep,
    ServiceTransaction,
};
pub use accounts::sessions::Ends;
pub use accounts::tasks::{Task, TaskQuery, TaskState};
pub use accounts::third_parties::OwnThirdParty;
pub use accounts::tokens::Token;
pub use accounts::uia::{NewUiaSession, UiaSession};
pub use accounts::untold::Untold;
pub use accounts::user_limits::{OwnLimit, UserLimits};
pub use accounts::validation::{NewValidation, Tried, Validation};
pub use accounts::{Account, FirstLogin};
pub use check::{Check, CheckOptions, CheckProgress, DatabaseFacts, Finding, Findings, Step};
pub use commit::Submitted;
pub use commit::turn::Turn;
pub use commit::write_set::{
    Committed, Completing, CurrentState, DecidedAgain, NewEvent, NewRoom, Partial, PartialJoin,
    Redacts, Restored, RoomWrite, StateChange, WriteSet,
};
pub use engine::cache::{Cache, CacheFigures};
pub use engine::clock::{Clock, millis};
pub use engine::counters::{Counters, Counts};
pub use engine::dialect::Dialect;
pub use engine::error::{Error, OpenError, Result};
pub use engine::lease::Lease;
pub use engine::numbers::{EventNo, KeyNo, Pos, RoomNo, ServerNo, SetNo, SnapshotNo, UserNo};
pub use engine::options::{CrashAt, CrashPoint, LostAnswer, Options, PresenceOptions};
pub use engine::pool::Pool;
pub use engine::scratch::Scratch;
pub use engine::timings::{Histogram, Observed, Timings};
pub use facts::account::admission::{Admission, TokenUse, password_mark};
pub use facts::account::dehydrated::Dehydrated;
pub use facts::account::new::{NewAccount, NewLogin, NewTokens};
pub use facts::account::{AccountChange, AccountFlag, NewTask};
pub use facts::account_data::{AccountData, DataChange, DataSize, INVITE_RULES, Notifying};
pub use facts::alias::{AliasesMoved, NewAlias};
pub use facts::aliases_changed::AliasesChanged;
pub use facts::appservice_pause::AppservicePause;
pub use facts::block::Block;
pub use facts::decision::CommitError;
pub use facts::delay_id::DelayId;
pub use facts::delayed::{
    DelayedChange, DelayedDue, DelayedEnd, DelayedEvent, DelayedStep, NewDelayed,
};
pub use facts::device_list::DeviceList;
pub use facts::directive::Directive;
pub use facts::entry::{Entry, EventRestored, LiveEvent, StateChanged};
pub use facts::forgotten::Forgotten;
pub use facts::inbound_answer::InboundAnswer;
pub use facts::invite::{Invite, InviteChange, InviteEntry};
pub use facts::keys::cross_signing::CrossSigningKeys;
pub use facts::keys::device::DeviceKeys;
pub use facts::keys::one_time::{
    DecidedOn, KeyClaim, KeyCount, KeyUpload, OneTimeKey, OneTimeKeys,
};
pub use facts::keys::signature::{KeySignature, UserSigned};
pub use facts::listing::Listing;
pub use facts::members_known::MembersKnown;
pub use facts::network_listing::NetworkListing;
pub use facts::notice_room::NoticeRoom;
pub use facts::profile::{ProfileChange, ProfileField};
pub use facts::profile_spread::{PROFILES_READER, ProfileSpread, Spread, SpreadChange, SpreadTo};
pub use facts::pusher::{Pusher, PusherActivated, PusherChange, PusherGone, PusherKey};
pub use facts::receipt::{DELIVERED, PlacedReceipt, Receipt, is_public as is_public_receipt};
pub use facts::remote_devices::{RemoteBasis, RemoteDevices, RemoteList};
pub use facts::revocation::TokenRevoked;
pub use facts::sliding::{SlidingConnection, SlidingRoom, SlidingStep, ToldProfiles};
pub use facts::status_message::StatusMessage;
pub use facts::sticky::Sticky;
pub use facts::task_room::TaskRoom;
pub use facts::third_party::{Medium, ThirdParty, ThirdPartyChange};
pub use facts::thread_subscription::{Following, SubscriptionChange, ThreadSubscription};
pub use facts::to_device::out::{ForServer, ToDeviceOut};
pub use facts::to_device::taken::ToDeviceTaken;
pub use facts::to_device::txn::ToDeviceTxn;
pub use facts::to_device::{ForDevice, Once, Sending, ToDevice, WaitingMessage};
pub use facts::user_limit::UserLimit;
pub use facts::{Audience, EntryKind, Fact, Logged};
pub use federation::destination::DestinationState;
pub use federation::destination_pages::DestinationOrder;
pub use federation::destinations::{Behind, OutboundReceipt};
pub use federation::devices::remote::RemoteUser;
pub use federation::devices::{NewSharer, OutboundDevice};
pub use federation::inbound::{InboundCounts, InboundReason, InboundSeen};
pub use federation::inbox::{InboxEvent, InboxLane};
pub use federation::joins::SentJoin;
pub use federation::keys::{KeyResponse, StoredKey};
pub use federation::known_destinations::KnownDestination;
pub use federation::outbound::{NewestOutbound, Outbound, Walked};
pub use federation::partial::PartialRoom;
pub use figures::{MOST_COUNTED, Queues};
pub use keys::change::{CrossSigningChange, DeviceUpload};
pub use keys::claim::KeyWanted;
pub use keys::counts::KeyCounts;
pub use keys::query::KeysOf;
pub use keys::read::{StoredDeviceKeys, StoredSignature};
pub use log::Log;
pub use log::ephemeral::Ephemeral;
pub use log::positions::{Heard, ProcessId};
pub use log::presence::{
    OutgoingPresence, Presence, PresenceNews, PresenceState, PresenceStatus, PresenceUpdate,
    SyncPresence, Syncing,
};
pub use log::reader::{Failure, LogReader, LogWork, Stretch};
pub use log::waiting::Interest;
pub use media::{
    AppendedPart, Begun, Blob, Filled, FinishedUpload, Keep, MediaOrder, MediaQuery, MediaRow,
    MediaSize, NewMedia, NewPart, NewUpload, Seal, StoreUsage, StoredThumbnail, ThumbnailKind,
    UploadRow, Uploader, UploaderOrder, UploaderQuery, UserUsage,
};
pub use people::{
    FillPeople, FoundPeople, PEOPLE_READER, PeopleQuery, PeopleScope, Person, TooLong,
};
pub use rooms::aliases::StoredAlias;
pub use rooms::heads::{Extremity, RoomHead};
pub use rooms::history::{Direction, HistoryToken};
pub use rooms::inspect::{EventCount, OutsideToken, SnapshotSizes};
pub use rooms::invites::{PendingInvites, RemoteInvite};
pub use rooms::members::{Member, MemberCounts, MembershipRow};
pub use rooms::overview::{RoomOrder, RoomOverview, RoomQuery};
pub use rooms::relation::annotation::Annotation;
pub use rooms::relation::bundle::{Edited, HasChildren, Parent, SurelySeen, ThreadSummary};
pub use rooms::relation::children::{Along, Children};
pub use rooms::relation::redaction::RelatedRedaction;
pub use rooms::relation::threads::{ThreadRow, ThreadsOf};
pub use rooms::relation::{Relating, fill as relations};
pub use rooms::relationship::{RelatedChild, ToldChildren};
pub use rooms::snapshot::NewSnapshot;
pub use rooms::state::{StateDiff, StateEntry};
pub use rooms::stored_event::{Placement, Status, StoredEvent, TxnOwner};
pub use rooms::summary::{RoomSummary, is_activity};
pub use rooms::times::TimeToken;
pub use rooms::transactions::TxnKey;
pub use rooms::unread::UnreadRow;
pub use saving::{copy_database, database_file};
pub use search::{
    FillSearch, Hit, Hits, Match, Part, Place, SearchQuery, SearchScope, TooMuch, index_history,
};
pub use transfer::{Transfer, TransferError, Transferred};
pub use vacuum::{DatabaseSize, Vacuum};

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) core: Arc<Core>,
    /// `None` in the store's own tasks, so that they end when the last outside handle is dropped.
    queue: Option<mpsc::Sender<Job>>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) dialect: Dialect,
    pub(crate) database: Database,
    pub(crate) options: Options,
    pub(crate) epoch: Mutex<Epoch>,
    pub(crate) counters: Counters,
    pub(crate) blocks: Blocks,
    pub(crate) tail: Tail,
    /// Of typing and presence.
    pub(crate) positions: Positions,
    pub(crate) ephemeral: Ephemeral,
    pub(crate) presence: Arc<Presence>,
    pub(crate) caches: Caches,
    /// Where this process's readers of the log stand.
    pub(crate) readers: Progress,
    pub(crate) groups_done: AtomicU64,
    /// The last group that had something to write couldn't be written.
    pub(crate) unwritable: AtomicBool,
    pub(crate) haste: commit::Haste,
    /// What was a backup's has to go.
    pub(crate) backups_gone: Notify,
    pub(crate) tasks_added: Notify,
    /// How often registrations of application services were to be read again.
    pub(crate) appservice_reloads: watch::Sender<u64>,
    pub(crate) user_limits: UserLimits,
    /// Until when who sends delayed events waits.
    pub(crate) delayed: facts::delayed::wake::DelayedWake,
    /// How far this process has come with what people are called, if it is the one that writes it down.
    pub(crate) people: watch::Sender<Option<people::PeopleReader>>,
    /// Of those who change backups one does so at a time.
    pub(crate) backup_turn: accounts::backup::Turn,
    closing: CancellationToken,
    /// Ends tasks that wait for what only this can bring.
    _alive: DropGuard,
    queue_ended: CancellationToken,
}

/// What is remembered; all bounded.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) events: Cache<EventNo, Arc<StoredEvent>>,
    pub(crate) event_ids: Cache<OwnedEventId, EventNo>,
    pub(crate) rooms: Cache<RoomNo, Arc<RoomHead>>,
    pub(crate) room_ids: Cache<OwnedRoomId, RoomNo>,
    pub(crate) room_names: Cache<RoomNo, OwnedRoomId>,
    pub(crate) users: Cache<OwnedUserId, UserNo>,
    pub(crate) user_names: Cache<UserNo, OwnedUserId>,
    pub(crate) servers: Cache<OwnedServerName, ServerNo>,
    pub(crate) server_names: Cache<ServerNo, OwnedServerName>,
    pub(crate) keys: Cache<StateKey, KeyNo>,
    pub(crate) key_names: Cache<KeyNo, Arc<StateKey>>,
    pub(crate) snapshots: Cache<SnapshotNo, Arc<Nodes>>,
    /// Snapshots that were derived and may not be committed yet.
    pub(crate) pending: Mutex<HashMap<SnapshotNo, Weak<Nodes>>>,
    pub(crate) memberships: Cache<UserNo, Arc<[MembershipRow]>>,
    pub(crate) joined_servers: Cache<RoomNo, Arc<[OwnedServerName]>>,
    /// Sets of destinations, by their names in the order that they were given; and when they were looked up, ms.
    pub(crate) sets: Cache<Arc<[OwnedServerName]>, (SetNo, i64)>,
    pub(crate) auth: Cache<EventNo, Arc<[EventNo]>>,
    /// Events all of whose `prev_events` are part of the history.
    pub(crate) gapless: Cache<EventNo, ()>,
    pub(crate) summaries: Cache<RoomNo, Arc<RoomSummary>>,
    /// The entries of states that summaries are made of.
    pub(crate) summary_keys: OnceCell<Vec<KeyNo>>,
    pub(crate) erasures: Mutex<accounts::erasure::KnownErasures>,
    pub(crate) blocks: Mutex<accounts::blocks::KnownBlocks>,
    pub(crate) delivery: Mutex<accounts::delivery::KnownDelivery>,
    pub(crate) key_counts: Cache<UserNo, keys::counts::OfDevices>,
    pub(crate) notifying: Cache<UserNo, Arc<Notifying>>,
    /// Who follows a thread.
    pub(crate) followers: Cache<(RoomNo, OwnedEventId), Arc<HashSet<UserNo>>>,
}
