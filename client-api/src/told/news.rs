//! What an entry of the log is to services.

use std::{collections::BTreeSet, sync::Arc};

use rhizome_protocol::Membership;
use rhizome_rooms::loose_ends::is_dummy;
use rhizome_storage::{
    Entry, EntryKind, ForDevice, InviteEntry, LiveEvent, Logged, Pos, Receipt, RoomNo,
    StateChanged, Store, StoredEvent, UserNo,
};
use ruma::{OwnedDeviceId, UserId};

use super::interest::{Interest, Moved, Places};
use crate::MatrixError;

/// Where a service comes into a room, or leaves it as the last: of so many members it is told at once. In larger rooms it
/// asks for the keys of those whom it writes to.
const MAX_MET: usize = 1_000;
/// So many members of a room that is left are looked at.
const MAX_PARTED: usize = 100;
/// So many of a user's rooms are looked at for who hears of their devices.
const MAX_ROOMS: usize = 5_000;

/// Something for a service.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it stands in the log; of one service's there is one at a position.
    pub pos: Pos,
    /// What it is.
    pub news: News,
}

/// What it is.
#[derive(Debug, Clone)]
pub enum News {
    /// An event of a room that interests it.
    Event(Arc<StoredEvent>),
    /// An invite of its user to a room that this server isn't in, a knock on one, or the end of either.
    Outside(InviteEntry),
    /// A receipt.
    Receipt(Arc<Logged<Receipt>>),
    /// A message for a device of its user.
    ToDevice(Arc<Logged<ForDevice>>),
    /// Devices that it must look at again, or may forget.
    Devices(Arc<Devices>),
    /// A device of its user has other keys to give out.
    Keys(UserNo, OwnedDeviceId),
}

/// Users whose devices concern a service in another way than before.
#[derive(Debug, Default)]
pub struct Devices {
    /// It must look at theirs again.
    pub changed: BTreeSet<UserNo>,
    /// It shares no room with them any more.
    pub left: BTreeSet<UserNo>,
}

impl Interest {
    /// What an entry is, and to whom. Entries are given in their order.
    pub async fn look(&mut self, entry: &Entry) -> Result<Vec<(usize, News)>, MatrixError> {
        let before = Pos(entry.pos.0 - 1);
        match &entry.kind {
            EntryKind::Event(live) => self.event(live, before).await,
            EntryKind::State(changed) => self.state(changed, before).await,
            EntryKind::Invite(invite) => {
                let to = self.of_number(invite.user).await?;
                Ok(tell(to.iter(), || News::Outside(invite.fact)))
            }
            EntryKind::Receipt(receipt) => self.receipt(receipt, before).await,
            EntryKind::ToDevice(message) => {
                let to = self.of_number(message.user).await?;
                Ok(tell(to.iter(), || News::ToDevice(message.clone())))
            }
            EntryKind::DeviceList(list) if self.hears_of_devices() => {
                self.devices(list.user, before).await
            }
            EntryKind::OneTimeKeys(count) if self.hears_of_devices() => {
                let to = self.of_number(count.user).await?;
                let to = to.iter().filter(|place| self.hears(**place));
                Ok(tell(to, || News::Keys(count.user, count.device.clone())))
            }
            EntryKind::MembersKnown(known) if self.hears_of_devices() => {
                self.known(known.room, before).await
            }
            EntryKind::AliasesChanged(changed) => {
                self.forget(changed.room);
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whose devices somebody has to look at who looks at the log from the database, where single changes are no longer.
    pub async fn devices(
        &mut self,
        user: UserNo,
        at: Pos,
    ) -> Result<Vec<(usize, News)>, MatrixError> {
        let own = self.of_number(user).await?;
        let sharing = self.sharing(user, at).await?;
        let to: BTreeSet<usize> = own.iter().copied().chain(sharing).collect();
        let to = to.iter().filter(|place| self.hears(**place));
        let devices = Arc::new(Devices {
            changed: BTreeSet::from([user]),
            left: BTreeSet::new(),
        });
        Ok(tell(to, || News::Devices(devices.clone())))
    }

    async fn event(
        &mut self,
        live: &LiveEvent,
        before: Pos,
    ) -> Result<Vec<(usize, News)>, MatrixError> {
        let pdu = &live.event.pdu;
        if is_dummy(pdu) {
            return Ok(Vec::new());
        }
        let of_room = self.of_room(live.room, before).await?;
        let sender = self.of_user(pdu.sender());
        let target = match pdu.state_key() {
            Some(key) if pdu.kind() == "m.room.member" => <&UserId>::try_from(key).ok(),
            _ => None,
        };
        let target = target.map(|target| self.of_user(target));
        let to = all_of(&[Some(&of_room), Some(&sender), target.as_ref()]);
        Ok(tell(to.iter(), || News::Event(live.event.clone())))
    }

    /// Private receipts are for services of their users alone; what has reached somebody's devices is for nobody else than
    /// who chats with them.
    async fn receipt(
        &mut self,
        receipt: &Arc<Logged<Receipt>>,
        before: Pos,
    ) -> Result<Vec<(usize, News)>, MatrixError> {
        let services = &self.hearers().services;
        if !services.iter().any(|service| service.receive_ephemeral) {
            return Ok(Vec::new());
        }
        let to = match receipt.kind.as_str() {
            "m.read" => self.of_room(receipt.room, before).await?,
            "m.read.private" => self.of_number(receipt.user).await?,
            _ => return Ok(Vec::new()),
        };
        let services = &self.hearers().services;
        let to = to
            .iter()
            .filter(|place| services[**place].receive_ephemeral);
        Ok(tell(to, || News::Receipt(receipt.clone())))
    }

    async fn state(
        &mut self,
        changed: &StateChanged,
        before: Pos,
    ) -> Result<Vec<(usize, News)>, MatrixError> {
        let Some((user, membership)) = changed.member else {
            return Ok(Vec::new());
        };
        let store = self.store().clone();
        let name = store.user(user).await?;
        let moved = self
            .member(changed.room, (user, &name), membership, before)
            .await?;
        if !self.hears_of_devices() {
            return Ok(Vec::new());
        }
        let was = match changed.old {
            Some(event) => store.event_by_no(event).await?,
            None => None,
        };
        let was = was.and_then(|event| event.pdu.membership());
        let joined = membership == Membership::Join;
        if joined == (was == Some(Membership::Join)) {
            return Ok(Vec::new());
        }
        let moved = if let Some(moved) = moved {
            moved
        } else {
            let all = self.of_room(changed.room, before).await?;
            let (before, after) = (all.clone(), all);
            Moved { before, after }
        };
        if joined {
            self.met(changed.room, user, &moved).await
        } else {
            self.parted(changed.room, user, &moved, before).await
        }
    }

    /// Somebody has come into a room: those whom it interests look at their devices; those whom it hasn't interested
    /// before, at everybody's.
    async fn met(
        &self,
        room: RoomNo,
        user: UserNo,
        moved: &Moved,
    ) -> Result<Vec<(usize, News)>, MatrixError> {
        let mut found = Vec::new();
        let mut everybody = None;
        for place in moved.after.iter().filter(|place| self.hears(**place)) {
            let mut changed = BTreeSet::from([user]);
            if !moved.before.contains(place) {
                if everybody.is_none() {
                    everybody = Some(members(self.store(), room, MAX_MET).await?);
                }
                changed.extend(everybody.iter().flatten());
            }
            let devices = Devices {
                changed,
                left: BTreeSet::new(),
            };
            found.push((*place, News::Devices(devices.into())));
        }
        Ok(found)
    }

    /// The members of a room that was joined before they were known are known: those whom it interests look at the devices of
    /// all of them. (Those of this server, who make it interesting, the log tells one by one.)
    async fn known(
        &mut self,
        room: RoomNo,
        before: Pos,
    ) -> Result<Vec<(usize, News)>, MatrixError> {
        let to = self.of_room(room, before).await?;
        let to: Vec<usize> = to.iter().copied().filter(|at| self.hears(*at)).collect();
        if to.is_empty() {
            return Ok(Vec::new());
        }
        let changed: BTreeSet<UserNo> = members(self.store(), room, MAX_MET)
            .await?
            .into_iter()
            .collect();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let left = BTreeSet::new();
        let devices = Arc::new(Devices { changed, left });
        Ok(tell(to.iter(), || News::Devices(devices.clone())))
    }

    /// Somebody has left a room: those whom it interested may share no room with them any more; those whom it interests no
    /// longer, with nobody there.
    async fn parted(
        &mut self,
        room: RoomNo,
        user: UserNo,
        moved: &Moved,
        before: Pos,
    ) -> Result<Vec<(usize, News)>, MatrixError> {
        let store = self.store().clone();
        let mut found = Vec::new();
        let heard = moved.before.iter().copied();
        let heard: Vec<usize> = heard.filter(|place| self.hears(*place)).collect();
        for place in heard {
            let mut gone = BTreeSet::from([user]);
            if !moved.after.contains(&place) {
                gone.extend(members(&store, room, MAX_PARTED).await?);
            }
            let mut left = BTreeSet::new();
            for user in gone {
                let own = self.of_number(user).await?;
                if !own.contains(&place) && !self.sharing(user, before).await?.contains(&place) {
                    left.insert(user);
                }
            }
            if !left.is_empty() {
                let devices = Devices {
                    changed: BTreeSet::new(),
                    left,
                };
                found.push((place, News::Devices(devices.into())));
            }
        }
        Ok(found)
    }

    /// Whom rooms interest that somebody is in.
    async fn sharing(&mut self, user: UserNo, at: Pos) -> Result<Vec<usize>, MatrixError> {
        let rows = self.store().memberships_of(user).await?;
        let joined = rows.iter().filter(|row| row.membership == Membership::Join);
        let rooms: Vec<RoomNo> = joined.map(|row| row.room).take(MAX_ROOMS).collect();
        self.of_rooms(&rooms, at).await
    }

    async fn of_number(&mut self, user: UserNo) -> Result<Places, MatrixError> {
        let name = self.store().user(user).await?;
        Ok(self.of_user(&name))
    }

    /// Whether a service hears of devices and their keys (MSC3202).
    fn hears(&self, place: usize) -> bool {
        self.hearers().services[place].msc3202
    }

    fn hears_of_devices(&self) -> bool {
        let services = &self.hearers().services;
        services.iter().any(|service| service.msc3202)
    }
}

/// The members of a room; nobody if they are more than so many.
async fn members(store: &Store, room: RoomNo, most: usize) -> Result<Vec<UserNo>, MatrixError> {
    let many = i64::try_from(most).unwrap_or(i64::MAX);
    if store.member_counts(room).await?.joined > many {
        return Ok(Vec::new());
    }
    let members = store.members(room, Some(Membership::Join)).await?;
    Ok(members.into_iter().map(|member| member.user).collect())
}

/// All of these, each once. Mostly one of them is all that there is.
fn all_of(places: &[Option<&Places>]) -> Places {
    let mut some = places.iter().flatten().filter(|places| !places.is_empty());
    match (some.next(), some.next()) {
        (None, _) => Arc::default(),
        (Some(only), None) => Arc::clone(only),
        _ => {
            let all: BTreeSet<usize> = (places.iter().flatten())
                .flat_map(|places| places.iter().copied())
                .collect();
            all.into_iter().collect()
        }
    }
}

fn tell<'a>(to: impl Iterator<Item = &'a usize>, news: impl Fn() -> News) -> Vec<(usize, News)> {
    to.map(|place| (*place, news())).collect()
}
