//! Who is there: in memory, with the positions of the ephemeral stream; only what users say of it is on disk.
//!
//! - [`devices`]: what a user's devices say, merged.
//! - [`people`]: everybody of whom something is known. A user who comes online is looked up once, with their rooms; from
//!   then on the log's entries keep that true.
//! - [`rooms`]: for each room a list of those who are to be seen there, by the position of their last change. A change
//!   costs one place in each of the user's rooms; a reader asks the lists of its rooms for what is new, and pays for that
//!   alone. Nobody asks who shares rooms with whom.
//! - [`tasks`]: what the time brings; who is woken, so many in a second and no more.
//!
//! Nobody is to be seen in rooms that have more members than [`PresenceOptions::max_room_size`](crate::PresenceOptions).
//! What one process knows, others are told ([`elsewhere`]), and what users say, by the log; the positions are each
//! process's own.

mod devices;
mod elsewhere;
mod outgoing;
mod people;
mod person;
mod reading;
mod rooms;
mod status;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rhizome_protocol::Membership;
use ruma::{DeviceId, OwnedDeviceId};
use tokio::sync::Notify;

use self::devices::Devices;
pub use self::devices::SyncPresence;
pub(crate) use self::elsewhere::SaidPresence;
pub use self::outgoing::OutgoingPresence;
use self::people::{Bounds, Learned, People};
use self::person::{Whose, Words};
pub use self::status::{PresenceNews, PresenceState, PresenceStatus, PresenceUpdate};
pub(crate) use self::tasks::spawn;
use crate::engine::lock;
use crate::log::positions::Positions;
use crate::{Clock, Entry, EntryKind, Pos, Result, RoomNo, Store, UserNo};

const BOUNDS: Bounds = Bounds {
    people: 100_000,
    places: 1_000_000,
};
/// Rooms of a user in which they are to be seen.
const MOST_ROOMS: usize = 2_000;

/// The stream of presence.
#[derive(Debug)]
pub struct Presence {
    clock: Clock,
    people: Mutex<People>,
    /// Those who wait are to be told of rooms.
    untold: Notify,
    /// Somebody's rooms have to be asked for.
    moved: Notify,
    /// Other servers are to be told something.
    out: Notify,
    /// Somebody has changed, for who follows all.
    followed: Notify,
}

impl Presence {
    pub(crate) fn new(clock: Clock, positions: Positions) -> Self {
        Self {
            clock,
            people: Mutex::new(People::new(BOUNDS, positions)),
            untold: Notify::new(),
            moved: Notify::new(),
            out: Notify::new(),
            followed: Notify::new(),
        }
    }

    fn people(&self) -> MutexGuard<'_, People> {
        lock(&self.people)
    }

    /// Something may have changed: whoever has to do with it is told so.
    fn changed(&self, people: MutexGuard<'_, People>) {
        let (untold, moved) = (people.rooms.has_untold(), people.have_moved());
        let out = people.out.as_ref().is_some_and(|out| !out.is_empty());
        let followed = people.followed.as_ref();
        let followed = followed.is_some_and(|users| !users.is_empty());
        drop(people);
        for (any, notify) in [
            (untold, &self.untold),
            (moved, &self.moved),
            (out, &self.out),
            (followed, &self.followed),
        ] {
            if any {
                notify.notify_one();
            }
        }
    }

    /// What is known of somebody; nothing of who hasn't been heard of.
    pub fn of(&self, user: UserNo) -> Option<PresenceStatus> {
        self.people().status(user, self.clock.monotonic())
    }

    /// What a reader is to be told after a position, or (`None`) at first, of their rooms, of which some are new to them
    /// (`true`): at most so much, in the order of its positions.
    pub fn news(
        &self,
        reader: UserNo,
        rooms: &[(RoomNo, bool)],
        after: Option<i64>,
        most: usize,
    ) -> Vec<PresenceNews> {
        let now = self.clock.monotonic();
        self.people().news(reader, rooms, after, (most, now))
    }

    /// From now on somebody tells other servers what [`Presence::outgoing`] gives.
    pub fn tell_others(&self) {
        self.people().tell_others();
    }

    /// What other servers are to be told. Waits until there is something.
    pub async fn outgoing(&self) -> OutgoingPresence {
        loop {
            let out = self.people().out.as_mut().map(std::mem::take);
            if let Some(out) = out.filter(|out| !out.is_empty()) {
                return out;
            }
            self.out.notified().await;
        }
    }

    /// From now on, or no longer, somebody follows who changes by [`Presence::changed_users`].
    pub fn watch_all(&self, follows: bool) {
        self.people().followed = follows.then(BTreeSet::new);
    }

    /// Whose state or words have changed since this was asked last, of whichever server they are. Waits until there is
    /// somebody.
    pub async fn changed_users(&self) -> BTreeSet<UserNo> {
        loop {
            let users = self.people().followed.as_mut().map(std::mem::take);
            if let Some(users) = users.filter(|users| !users.is_empty()) {
                return users;
            }
            self.followed.notified().await;
        }
    }

    /// The rooms in which somebody is to be seen.
    pub fn rooms_of(&self, user: UserNo) -> Vec<RoomNo> {
        self.people().places_of(user)
    }

    /// Users here who are there, in a room.
    pub fn here_in(&self, room: RoomNo) -> Vec<UserNo> {
        self.people().ours_in(room)
    }

    /// A membership changes, with an entry of the log or without one.
    pub(crate) fn member(&self, room: RoomNo, user: UserNo, membership: Membership) {
        let mut people = self.people();
        people.member(room, user, membership, self.clock.monotonic());
        self.changed(people);
    }

    /// Entries come into the log.
    pub(super) fn follow(&self, entries: &[Arc<Entry>]) {
        for entry in entries {
            if let EntryKind::State(state) = &entry.kind
                && let Some((user, membership)) = state.member
            {
                self.member(state.room, user, membership);
            }
        }
    }

    /// Entries were left out.
    pub(crate) fn everybody_moved(&self) {
        let mut people = self.people();
        people.everybody_moved();
        self.changed(people);
    }
}

/// A request that waits, or an open socket: its device is there until this goes.
#[derive(Debug)]
pub struct Syncing(Option<(Store, UserNo, OwnedDeviceId)>);

impl Drop for Syncing {
    fn drop(&mut self) {
        if let Some((store, user, device)) = &self.0 {
            store.change_devices(*user, |devices, now| devices.synced(device, now));
        }
    }
}

impl Store {
    /// Who is there.
    pub fn presence(&self) -> &Presence {
        &self.core.presence
    }

    /// Whether it matters who is there.
    pub fn has_presence(&self) -> bool {
        self.core.options.presence.enabled
    }

    /// A request of a device begins to wait, or a socket opens.
    pub async fn syncs(
        &self,
        user: UserNo,
        device: &DeviceId,
        says: SyncPresence,
    ) -> Result<Syncing> {
        if !self.has_presence() || says.state == PresenceState::Offline {
            return Ok(Syncing(None));
        }
        self.know_ours(user).await?;
        let counted = self.change_devices(user, |devices, now| devices.syncs(device, says, now));
        let counted = counted.unwrap_or_default();
        Ok(Syncing(
            counted.then(|| (self.clone(), user, device.to_owned())),
        ))
    }

    /// A user does something with a device.
    pub fn acts(&self, user: UserNo, device: &DeviceId) {
        if self.has_presence() {
            self.change_devices(user, |devices, now| devices.acts(device, now));
        }
    }

    /// For how much longer a user counts as active on a device other than this one, if they do for so long after they
    /// have done something with it.
    pub fn active_elsewhere(
        &self,
        user: UserNo,
        than: Option<&DeviceId>,
        within: Duration,
    ) -> Option<Duration> {
        let presence = self.presence();
        let now = presence.clock.monotonic();
        let people = presence.people();
        let active = people.devices_of(user)?.active_elsewhere(than, now)?;
        let left = (active + within).checked_sub(now)?;
        (!left.is_zero()).then_some(left)
    }

    /// A user says what a device is, and something of it that has this place in the log.
    pub(crate) async fn say_presence(
        &self,
        user: UserNo,
        device: &DeviceId,
        state: PresenceState,
        said: Option<(Option<Arc<str>>, Pos)>,
    ) -> Result<()> {
        self.know_ours(user).await?;
        let presence = self.presence();
        let (mut people, now) = (presence.people(), presence.clock.monotonic());
        people.change_devices(user, now, |devices, words| {
            devices.set(device, state, now);
            if let Some((said, pos)) = said {
                words.take(Words { said, pos });
            }
        });
        presence.changed(people);
        Ok(())
    }

    /// Sessions of a user end: of this device, or all but one.
    pub(crate) fn sessions_end(&self, user: UserNo, which: Ended<'_>) {
        self.change_devices(user, |devices, _| match which {
            Ended::Device(device) => devices.end(device),
            Ended::AllBut(except) => devices.end_all(except),
        });
    }

    /// Another server says something of its user, who shares a room with somebody here.
    pub async fn hear_presence(&self, user: UserNo, update: PresenceUpdate) -> Result<()> {
        self.presence().say_theirs(user, &update);
        self.learn_presence(user, update).await
    }

    async fn learn_presence(&self, user: UserNo, update: PresenceUpdate) -> Result<()> {
        let presence = self.presence();
        if update.state == PresenceState::Offline && presence.of(user).is_none() {
            return Ok(());
        }
        let now = presence.clock.monotonic();
        self.know(user, || Some(Whose::theirs(update.clone(), now)))
            .await?;
        let mut people = presence.people();
        people.change(user, now, |whose| *whose = Whose::theirs(update, now));
        presence.changed(people);
        Ok(())
    }

    /// Another process remembers so much of another server's user, for so much longer: that counts for nothing where
    /// anything is known of them.
    async fn recall_presence(
        &self,
        user: UserNo,
        update: PresenceUpdate,
        left: Duration,
    ) -> Result<()> {
        let presence = self.presence();
        if update.state == PresenceState::Offline || presence.of(user).is_some() {
            return Ok(());
        }
        let until = presence.clock.monotonic() + left;
        self.know(user, || {
            let now = presence.clock.monotonic();
            Some(Whose::theirs_until(update.clone(), now, until))
        })
        .await?;
        let mut people = presence.people();
        people.settle(user, presence.clock.monotonic());
        presence.changed(people);
        Ok(())
    }

    fn change_devices<T>(
        &self,
        user: UserNo,
        change: impl FnOnce(&mut Devices, Duration) -> T,
    ) -> Option<T> {
        let presence = self.presence();
        let (mut people, now) = (presence.people(), presence.clock.monotonic());
        let done = people.change_devices(user, now, |devices, _| change(devices, now));
        presence.changed(people);
        done
    }

    async fn know_ours(&self, user: UserNo) -> Result<()> {
        if self.presence().of(user).is_some() {
            return self.know(user, || None).await;
        }
        let (said, pos) = self.status_message_at(user).await?;
        let words = Words { said, pos };
        self.know(user, || {
            Some(Whose::Ours(Devices::default(), words.clone()))
        })
        .await
    }

    /// Makes sure that somebody's rooms are known. Who hasn't been heard of is `new`.
    async fn know(&self, user: UserNo, new: impl Fn() -> Option<Whose>) -> Result<()> {
        loop {
            let Some(turn) = self.presence().people().unknown(user) else {
                return Ok(());
            };
            let learned = self.seen_in(user).await?;
            let mut people = self.presence().people();
            let taken = people.learn(user, turn, &learned, new());
            self.presence().changed(people);
            if taken {
                return Ok(());
            }
        }
    }

    /// In which rooms somebody is to be seen.
    async fn seen_in(&self, user: UserNo) -> Result<Learned> {
        let rows = self.memberships_of(user).await?;
        let joined = rows.iter().filter(|row| row.membership == Membership::Join);
        let rooms: Vec<RoomNo> = joined.map(|row| row.room).take(MOST_ROOMS).collect();
        self.load_rooms(&rooms).await?;
        let most = i64::try_from(self.core.options.presence.max_room_size).unwrap_or(i64::MAX);
        let mut learned = Learned::default();
        for room in rooms {
            let joined = self.member_counts(room).await?.joined;
            let list = if joined <= most {
                &mut learned.open
            } else {
                &mut learned.closed
            };
            list.push(room);
        }
        Ok(learned)
    }
}

/// Which sessions of a user end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended<'a> {
    /// That of this device.
    Device(&'a DeviceId),
    /// All, but for this device's.
    AllBut(Option<&'a DeviceId>),
}
