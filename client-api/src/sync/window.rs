//! Gathering: what the log says between two positions, sorted by room.
//!
//! Inside the log's tail this is one pass over memory. A position below the tail is answered from
//! SQL, for the rooms that changed, many at a time.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::Membership;
use rhizome_storage::{
    AccountData, Entry, EntryKind, EventNo, ForDevice, LiveEvent, Logged, MembershipRow, Pos,
    ProfileField, Receipt, RoomNo, Sticky, Store, StoredEvent, ThreadSubscription, UserNo,
    WaitingMessage,
};

use ruma::DeviceId;

use crate::{MatrixError, push::wishes, view::moment::EntryChange};

/// A membership that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// When.
    pub pos: Pos,
    /// Whose.
    pub user: UserNo,
    /// The member event that was there before.
    pub old: Option<EventNo>,
    /// The one that is there since, if there is one.
    pub new: Option<EventNo>,
    /// What it is since.
    pub membership: Membership,
}

/// What happened in one room.
#[derive(Default, Debug)]
pub struct RoomWindow {
    /// Accepted events, ascending. With `whole` unset only the newest of them.
    pub events: Vec<Arc<StoredEvent>>,
    /// Whether `events` is all there is in the window.
    pub whole: bool,
    /// Changes of current state, ascending.
    pub changes: Vec<EntryChange>,
    /// Whose memberships changed, ascending.
    pub members: Vec<MemberChange>,
    /// Receipts that moved.
    pub receipts: Vec<Arc<Logged<Receipt>>>,
    /// The reader's account data of this room.
    pub account_data: Vec<Arc<Logged<AccountData>>>,
    /// Events that readers are told to be sticky.
    pub sticky: Vec<Arc<Logged<Sticky>>>,
    /// All members of the room came to be known here: there are some of whom no change tells.
    pub completed: Option<Pos>,
}

/// What the log says has come for devices of a user.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// What has come, ascending.
    pub known: Vec<Arc<Logged<ForDevice>>>,
    /// The log was not asked: something may have come for any.
    pub unknown: bool,
    /// A session of the user ended, and what waited for its device went: the device may be there again.
    pub ended: bool,
}

impl Arrivals {
    /// At most `limit` of the messages for a device that came after a position, where the log has them all.
    pub fn messages(
        &self,
        device: &DeviceId,
        after: Pos,
        limit: usize,
    ) -> Option<Vec<WaitingMessage>> {
        if self.unknown || self.ended {
            return None;
        }
        let known = self.known.iter();
        let new = known.filter(|arrival| arrival.pos > after && arrival.device == device);
        new.take(limit).map(|arrival| arrival.message()).collect()
    }
}

/// What happened between two positions, as far as one user is concerned.
#[derive(Default, Debug)]
pub struct Window {
    /// By room, for the user's rooms.
    pub rooms: HashMap<RoomNo, RoomWindow>,
    /// The user's global account data.
    pub account_data: Vec<Arc<Logged<AccountData>>>,
    /// Users whose devices or keys changed.
    pub device_lists: Vec<UserNo>,
    /// Fields of profiles that changed, of whomever, ascending.
    pub profiles: Vec<Arc<Logged<ProfileField>>>,
    /// What has come for devices of the user.
    pub to_device: Arrivals,
    /// Which threads the user follows, or doesn't any more: what changed, each time that it did, ascending.
    pub threads: Vec<Arc<Logged<ThreadSubscription>>>,
    /// The log wasn't read entry by entry: what is in [`Window::threads`], [`Window::profiles`] and
    /// [`RoomWindow::sticky`] is to be asked for.
    pub unlisted: bool,
}

impl Window {
    /// Whether the user wants to be notified of something else by now, so that any of their counts may be another.
    pub fn changes_counts(&self) -> bool {
        self.account_data.iter().any(|data| wishes::are_in(data))
    }

    /// Whether messages for this device of the user may have come.
    pub fn may_hold_for(&self, device: &DeviceId) -> bool {
        let mut arrivals = self.to_device.known.iter();
        self.to_device.unknown || arrivals.any(|arrival| arrival.device == device)
    }

    /// Reads `after < position <= upto` for a user with these rooms.
    pub async fn read(
        store: &Store,
        user: UserNo,
        rows: &[MembershipRow],
        after: Pos,
        upto: Pos,
    ) -> Result<Window, MatrixError> {
        if after >= upto {
            return Ok(Window::default());
        }
        match store.log().tail(after, upto) {
            Some(entries) => Ok(from_tail(&entries, user, rows, after)),
            None => Window::read_by_room(store, user, rows, after, upto).await,
        }
    }
}

fn from_tail(entries: &[Arc<Entry>], user: UserNo, rows: &[MembershipRow], after: Pos) -> Window {
    let concerns = |room: RoomNo| {
        // They come by room.
        let found = rows.binary_search_by_key(&room, |row| row.room);
        found.is_ok_and(|at| rows[at].membership == Membership::Join || rows[at].since > after)
    };
    // Whether a room is the reader's, asked once: `None` is no.
    let mut rooms: HashMap<RoomNo, Option<RoomWindow>> = HashMap::new();
    let mut window = Window::default();
    for entry in entries {
        match &entry.kind {
            EntryKind::DeviceList(list) => window.device_lists.push(list.user),
            EntryKind::Profile(field) => window.profiles.push(field.clone()),
            EntryKind::UserSigned(signed) if signed.signer == user => {
                window.device_lists.push(signed.user);
            }
            EntryKind::ToDevice(to) if to.user == user => window.to_device.known.push(to.clone()),
            EntryKind::TokenRevoked(ended) if ended.user == user => window.to_device.ended = true,
            EntryKind::ToDevice(_) | EntryKind::ToDeviceOut(_) => {}
            EntryKind::ThreadSubscription(one) if one.user == user => {
                window.threads.push(one.clone());
            }
            EntryKind::AccountData(data) if data.user == user && data.room.is_none() => {
                replace(&mut window.account_data, data);
            }
            EntryKind::AccountData(data) if data.user != user => {}
            EntryKind::Receipt(receipt) if !receipt.is_for(user) => {}
            _ => {
                let Some(room) = entry.kind.room() else {
                    continue;
                };
                let slot = rooms.entry(room).or_insert_with(|| {
                    concerns(room).then(|| RoomWindow {
                        whole: true,
                        ..RoomWindow::default()
                    })
                });
                if let Some(room) = slot {
                    room.add(entry);
                }
            }
        }
    }
    window.rooms = rooms
        .into_iter()
        .filter_map(|(room, slot)| Some((room, slot?)))
        .collect();
    window
}

/// Keeps only the newest of each type.
fn replace(list: &mut Vec<Arc<Logged<AccountData>>>, data: &Arc<Logged<AccountData>>) {
    list.retain(|older| older.kind != data.kind);
    list.push(data.clone());
}

impl RoomWindow {
    fn add(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::Event(LiveEvent { event, .. }) => self.events.push(event.clone()),
            EntryKind::State(state) => {
                self.changes.push(EntryChange {
                    pos: entry.pos,
                    key: state.key,
                    old: state.old,
                    new: state.new,
                });
                let member = state.member.map(|(user, membership)| MemberChange {
                    pos: entry.pos,
                    user,
                    old: state.old,
                    new: state.new,
                    membership,
                });
                self.members.extend(member);
            }
            EntryKind::Receipt(receipt) => self.receipts.push(receipt.clone()),
            EntryKind::AccountData(data) => replace(&mut self.account_data, data),
            EntryKind::Sticky(sticky) => self.sticky.push(sticky.clone()),
            EntryKind::MembersKnown(_) => self.completed = Some(entry.pos),
            _ => {}
        }
    }
}

/// Rooms per query.
const ROOMS: usize = 200;

/// Events of each room that are read beforehand, where many rooms are: whoever wants more asks for them.
pub const FIRST: usize = 21;

impl Window {
    /// The same for a position that the log has left behind in memory: those rooms are asked in which something has happened, many at a time.
    pub async fn read_by_room(
        store: &Store,
        user: UserNo,
        rows: &[MembershipRow],
        after: Pos,
        upto: Pos,
    ) -> Result<Window, MatrixError> {
        let mut window = Window::default();
        for data in store.account_data_since(user, after, upto).await? {
            match data.room {
                None => window.account_data.push(data),
                Some(room) => window.room(room).account_data.push(data),
            }
        }
        let concerned = rows
            .iter()
            .filter(|row| row.membership == Membership::Join || row.since > after);
        let rooms: Vec<RoomNo> = concerned.map(|row| row.room).collect();
        for receipt in store.receipts_in_rooms_after(&rooms, after, upto).await? {
            if receipt.is_for(user) {
                window.room(receipt.room).receipts.push(receipt);
            }
        }
        let changed = store.rooms_changed(&rooms, after).await?;
        let known = changed
            .iter()
            .filter_map(|(room, known)| Some((*room, (*known)?)));
        window.complete(known, (after, upto));
        let changed: Vec<RoomNo> = changed.into_iter().map(|(room, _)| room).collect();
        for rooms in changed.chunks(ROOMS) {
            window.load(store, rooms, after, upto).await?;
        }
        window.device_lists = store.device_lists_since(user, after).await?;
        window.to_device.unknown = true;
        window.unlisted = true;
        Ok(window)
    }

    /// What happened in some rooms between two positions.
    pub async fn of_rooms(
        store: &Store,
        rooms: &[RoomNo],
        after: Pos,
        upto: Pos,
    ) -> Result<HashMap<RoomNo, RoomWindow>, MatrixError> {
        let mut window = Window::default();
        for receipt in store.receipts_in_rooms_after(rooms, after, upto).await? {
            window.room(receipt.room).receipts.push(receipt);
        }
        let known = store.members_known(rooms).await?;
        window.complete(known.into_iter(), (after, upto));
        window.load(store, rooms, after, upto).await?;
        Ok(window.rooms)
    }

    /// Notes of which of these rooms all members came to be known within a span.
    fn complete(&mut self, known: impl Iterator<Item = (RoomNo, Pos)>, (after, upto): (Pos, Pos)) {
        for (room, pos) in known.filter(|(_, pos)| *pos > after && *pos <= upto) {
            self.room(room).completed = Some(pos);
        }
    }

    /// Loads the events of some rooms and the changes of their state.
    async fn load(
        &mut self,
        store: &Store,
        rooms: &[RoomNo],
        after: Pos,
        upto: Pos,
    ) -> Result<(), MatrixError> {
        let span = (after, upto);
        for event in store.room_timelines_after(rooms, span, FIRST).await? {
            self.room(event.room).events.push(event);
        }
        let since: Vec<(RoomNo, Pos)> = rooms.iter().map(|room| (*room, after)).collect();
        for entry in store.state_changes_in(&since, upto).await? {
            if let Some(room) = entry.kind.room() {
                self.room(room).add(&entry);
            }
        }
        for room in rooms {
            if let Some(room) = self.rooms.get_mut(room) {
                room.whole = room.events.len() < FIRST;
            }
        }
        Ok(())
    }

    fn room(&mut self, room: RoomNo) -> &mut RoomWindow {
        self.rooms.entry(room).or_insert_with(|| RoomWindow {
            whole: true,
            ..RoomWindow::default()
        })
    }
}
