//! Facts: what is written beside the events and the state of rooms, a module per kind.
//!
//! A kind is a slice through the whole store. Its module says what a write set carries, on what it is
//! decided, which rows it becomes, how these are read back, whom it concerns, and which caches it makes
//! stale, here and in other processes. This file is the only one that lists the kinds; [`Kind`] is what
//! each has to say. A kind whose facts change what anybody has in a cache, or must be told, has positions
//! in the log (`logged`); the rows of the others stand by themselves (`plain`).

pub(crate) mod account;
pub(crate) mod account_data;
pub(crate) mod alias;
pub(crate) mod aliases_changed;
pub(crate) mod appservice_pause;
pub(crate) mod appservice_reload;
pub(crate) mod block;
pub(crate) mod decision;
pub(crate) mod delay_id;
pub(crate) mod delayed;
pub(crate) mod device_list;
pub(crate) mod directive;
pub(crate) mod entry;
pub(crate) mod forgotten;
pub(crate) mod inbound_answer;
pub(crate) mod invite;
pub(crate) mod keys;
mod kinds;
pub(crate) mod listing;
pub(crate) mod members_known;
pub(crate) mod network_listing;
pub(crate) mod notice_room;
pub(crate) mod profile;
pub(crate) mod profile_spread;
pub(crate) mod purge;
pub(crate) mod pusher;
pub(crate) mod receipt;
pub(crate) mod remote_devices;
pub(crate) mod revocation;
pub(crate) mod sliding;
pub(crate) mod status_message;
pub(crate) mod sticky;
mod table;
pub(crate) mod task_room;
#[cfg(test)]
mod tests;
pub(crate) mod third_party;
pub(crate) mod thread_subscription;
pub(crate) mod to_device;
pub(crate) mod user_limit;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use rhizome_protocol::Membership;

use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::engine::trouble::Trouble;
use crate::rooms::heads::RoomHead;
use crate::{Pos, Result, RoomNo, Store, UserNo};
use decision::Decision;
use kinds::kinds;

kinds! {
    logged {
        /// A read receipt moves.
        Receipt = receipt: receipt::Receipt as receipt::Receipt,
        /// Account data changes.
        AccountData = account_data: account_data::DataChange as account_data::AccountData,
        /// A user's devices or their keys change.
        DeviceList = device_list: device_list::DeviceList as device_list::DeviceList,
        /// An invite to, or a knock on, a room that this server isn't in comes or goes.
        Invite = invite: invite::Invite as invite::InviteEntry,
        /// Access tokens end.
        TokenRevoked = revocation: revocation::TokenRevoked as revocation::TokenRevoked,
        /// A user forgets a room that they have left.
        Forgotten = forgotten: forgotten::Forgotten as forgotten::Forgotten,
        /// A room goes into this server's directory, or out of it.
        Listing = listing: listing::Listing as listing::Listing,
        /// All members of a room that was joined before they were known are known.
        MembersKnown = members_known: members_known::MembersKnown as members_known::MembersKnown,
        /// A field of a user's profile is set or removed.
        Profile = profile: profile::ProfileChange as profile::ProfileField,
        /// Rooms are to be told of a user's profile.
        ProfileSpread = profile_spread: profile_spread::SpreadChange as profile_spread::ProfileSpread,
        /// A pusher is set.
        Pusher = pusher: pusher::PusherChange as pusher::Pusher,
        /// One-time keys come, or are given out.
        OneTimeKeys = one_time_keys: keys::one_time::OneTimeKeys as keys::one_time::KeyCount,
        /// A user signs another's key, which that one isn't told of.
        UserSigned = user_signed: keys::signature::UserSigned as keys::signature::UserSigned,
        /// An event is sticky.
        Sticky = sticky: sticky::Sticky as sticky::Sticky,
        /// A user follows a thread, or doesn't any more.
        ThreadSubscription = thread_subscription: thread_subscription::SubscriptionChange as thread_subscription::ThreadSubscription,
        /// An event is to be sent later, or something becomes of one.
        Delayed = delayed: delayed::DelayedChange as delayed::DelayedDue,
        /// The operator keeps something out, or lets it in again.
        Block = block: block::Block as block::Block,
        /// The operator sets a limit of a user's.
        UserLimit = user_limit: user_limit::UserLimit as user_limit::UserLimit,
        /// The operator pauses an application service, or lets it go on.
        AppservicePause = appservice_pause: appservice_pause::AppservicePause as appservice_pause::AppservicePause,
        /// A room's aliases are others.
        AliasesChanged = aliases_changed: aliases_changed::AliasesChanged as aliases_changed::AliasesChanged,
        /// The operator wants a server to be tried again, or what waits for it to be let go.
        Directive = directive: directive::Directive as directive::Directive,
        /// The operator wants the registrations of application services to be read again.
        AppserviceReload = appservice_reload: appservice_reload::AppserviceReload as appservice_reload::AppserviceReload,
        /// What a user says of their presence.
        StatusMessage = status_message: status_message::StatusMessage as status_message::StatusMessage,
        /// A message for a device of ours.
        ToDevice = to_device: to_device::ToDevice as to_device::ForDevice,
        /// A message for devices of another server.
        ToDeviceOut = to_device_out: to_device::out::ToDeviceOut as to_device::out::ForServer,
    }
    plain {
        /// Device keys change.
        DeviceKeys = device_keys: keys::device::DeviceKeys,
        /// Cross-signing keys change.
        CrossSigningKeys = cross_signing_keys: keys::cross_signing::CrossSigningKeys,
        /// A signature is added to a key.
        KeySignature = key_signature: keys::signature::KeySignature,
        /// A list of devices of another server's user is remembered, or forgotten.
        RemoteDevices = remote_devices: remote_devices::RemoteDevices,
        /// An account gets a third-party identifier, or loses it. An account that ends in the same group loses all.
        ThirdParty = third_party: third_party::ThirdPartyChange,
        /// Devices, tokens, passwords of an account.
        Account = account: account::AccountChange,
        /// A new alias.
        Alias = alias: alias::NewAlias,
        /// A room's aliases lead to the one that replaces it.
        AliasesMoved = aliases_moved: alias::AliasesMoved,
        /// A room comes into the directory of another network, or goes.
        NetworkListing = network_listing: network_listing::NetworkListing,
        /// A user gets notices of this server in a room.
        NoticeRoom = notice_room: notice_room::NoticeRoom,
        /// A task has made a room.
        TaskRoom = task_room: task_room::TaskRoom,
        /// A pusher has said that it is there.
        PusherActivated = pusher_activated: pusher::PusherActivated,
        /// A pusher goes.
        PusherGone = pusher_gone: pusher::PusherGone,
        /// The answer that another server's transaction got.
        InboundAnswer = inbound_answer: inbound_answer::InboundAnswer,
        /// A connection of sliding sync is told more.
        SlidingStep = sliding_step: sliding::SlidingStep,
        /// A client's transaction that sends to devices.
        ToDeviceTxn = to_device_txn: to_device::txn::ToDeviceTxn,
        /// A device has its messages up to somewhere.
        ToDeviceTaken = to_device_taken: to_device::taken::ToDeviceTaken,
    }
}

/// What a kind of fact has to say for itself.
///
/// In the order of a commit: [`Kind::locks`] and [`Kind::look_up`] under the locks, [`Kind::check`] and
/// [`Kind::apply`] write set by write set, [`Kind::write`] once for the group; after COMMIT
/// [`LoggedKind::forget`], also in other processes.
pub(crate) trait Kind: Sized {
    /// What a group of write sets is decided on: what the database says, and what the group changes of it.
    type Basis: Default;

    /// The user whose row keeps other processes from changing the same meanwhile.
    fn locks(&self) -> Option<UserNo> {
        None
    }

    /// Reads what the group's facts of this kind are decided on.
    async fn look_up(
        _held: &mut Self::Basis,
        _tx: &mut Tx,
        _facts: &[&Self],
    ) -> Result<(), Trouble> {
        Ok(())
    }

    /// `None` if it can be written. `retried`: an attempt with an unknown outcome may have written it.
    fn check(&self, _held: &Self::Basis, _retried: bool) -> Option<Decision> {
        None
    }

    /// Its write set was accepted: later ones of the group are decided on what is so now. `false`: it says
    /// nothing new, gets no position, and nobody is told.
    fn apply(&self, _held: &mut Self::Basis) -> bool {
        true
    }

    /// The room whose row it changes, with [`Kind::change_room`].
    fn room_row(&self) -> Option<RoomNo> {
        None
    }

    /// The room without which it can't be decided, and the state version that it was decided on; `None`: nothing was known
    /// of the room.
    fn decided_on(&self) -> Option<(RoomNo, Option<i64>)> {
        None
    }

    /// What it changes of a room's row.
    fn change_room(&self, _head: &mut RoomHead) {}

    /// Whose membership of a room that this server isn't in becomes what; `None`: it ends.
    fn outside_membership(&self) -> Option<(UserNo, RoomNo, Option<Membership>)> {
        None
    }

    /// The rows of the group's facts, each with its offset from the group's first position (`$2`; 0 of a kind
    /// without positions), in order: a later one takes the place of an earlier one with the same key.
    fn write(facts: &[(i64, &Self)], held: &Self::Basis, statements: &mut Statements)
    -> Result<()>;
}

/// What a kind with positions has to say in addition.
pub(crate) trait LoggedKind: Kind {
    /// What readers of the log get.
    type Entry: Stored;
    /// Its rows only tell what has happened, and go when everybody has had the time to hear of it. Otherwise
    /// a row says what is so, and stays as long as that.
    const TELLS: bool = false;

    /// What readers get of it.
    fn entry(&self) -> Self::Entry;

    /// Whom it concerns.
    fn audience(entry: &Self::Entry) -> Audience;

    /// The room that it belongs to.
    fn room(_entry: &Self::Entry) -> Option<RoomNo> {
        None
    }

    /// Forgets what it makes stale of the caches, in the process that wrote it and in those that read of it.
    fn forget(_entry: &Self::Entry, _store: &Store) {}

    /// About how many bytes it holds in memory beside its own size.
    fn weight(_entry: &Self::Entry) -> usize {
        0
    }

    /// One for the contract that all kinds keep (`tests.rs`).
    #[cfg(test)]
    fn sample(world: &tests::World) -> Self;

    /// What readers of this store see of what the sample changes, from caches where there are any.
    #[cfg(test)]
    async fn view(world: &tests::World, store: &Store) -> Result<String>;
}

/// What stands in a table, a row at each of its positions (`pos`).
pub(crate) trait Stored: Sized {
    const TABLE: &'static str;
    /// The columns that [`Stored::read`] reads, and `pos`.
    const COLUMNS: &'static str;
    fn read(row: &ReadRow) -> Result<Self>;
}

/// A fact at its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged<T> {
    /// Where it stands.
    pub pos: Pos,
    /// What it says.
    pub fact: T,
}

impl<T> Logged<T> {
    pub(crate) fn new(pos: Pos, fact: T) -> Arc<Self> {
        Arc::new(Self { pos, fact })
    }

    /// From a row with the columns of its table.
    pub(crate) fn read(row: &ReadRow) -> Result<Arc<Self>>
    where
        T: Stored,
    {
        Ok(Self::new(row.get("pos")?, T::read(row)?))
    }
}

impl<T> Deref for Logged<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.fact
    }
}

/// Whom an entry of the log concerns, and so whom it wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Nobody waits for it; who reads on for another reason comes across it.
    Nobody,
    /// One user.
    User(UserNo),
    /// Everybody here who is in the room.
    Room(RoomNo),
    /// Everybody here who is in the room, and a user who may not be.
    RoomAnd(RoomNo, UserNo),
    /// A user, and everybody here who shares a room with them.
    Sharing(UserNo),
    /// The same, but only connections that follow profiles ([`Interest::follow_profiles`](crate::Interest)).
    Following(UserNo),
}

/// The rows of facts of which the last of each key stays, at its offset.
pub(crate) fn last_of_each<'a, F, K: Ord, R>(
    facts: &[(i64, &'a F)],
    key: impl Fn(&F) -> K,
    row: impl Fn(i64, &'a F) -> R,
) -> Vec<R> {
    let last: BTreeMap<K, (i64, &F)> = (facts.iter())
        .map(|(offset, fact)| (key(fact), (*offset, *fact)))
        .collect();
    last.into_values()
        .map(|(offset, fact)| row(offset, fact))
        .collect()
}
