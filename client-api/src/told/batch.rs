//! A transaction: what of the news goes into it, and how it is written
//! (<https://spec.matrix.org/v1.19/application-service-api/#pushing-events>; MSC4203, MSC3202).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rhizome_storage::{
    ForDevice, InviteEntry, Logged, Pos, Receipt, RoomNo, StoredEvent, UserNo, WaitingMessage,
};
use ruma::OwnedDeviceId;

use super::{
    news::{Found, News},
    queue::Ephemeral,
};

/// The most events of a transaction, …
const EVENTS: usize = 100;
/// … receipts, …
const RECEIPTS: usize = 100;
/// … messages to devices, …
const TO_DEVICE: usize = 100;
/// … users whose devices are to be looked at, or forgotten, …
const USERS: usize = 2_000;
/// … and devices whose keys are counted.
const COUNTS: usize = 500;
/// Rooms in which somebody types, and as many users whose presence is told.
pub const EPHEMERAL: usize = 50;
/// About how many bytes it has; one thing is always told.
const BYTES: usize = 1 << 20;

/// What goes into the next transaction.
#[derive(Default)]
pub struct Batch {
    /// Events, in the order of the log.
    pub(super) events: Vec<Event>,
    pub(super) receipts: BTreeMap<RoomNo, Vec<Arc<Logged<Receipt>>>>,
    pub(super) to_device: Vec<(Arc<Logged<ForDevice>>, WaitingMessage)>,
    pub(super) changed: BTreeSet<UserNo>,
    pub(super) left: BTreeSet<UserNo>,
    /// Devices whose keys are counted.
    pub(super) counts: BTreeSet<(UserNo, OwnedDeviceId)>,
    pub(super) ephemeral: Ephemeral,
    receipts_in_all: usize,
    bytes: usize,
}

/// An event of a transaction.
pub enum Event {
    /// Of a room that this server is in.
    Stored(Arc<StoredEvent>),
    /// An invite to another, or a knock on it.
    Outside(InviteEntry),
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.ephemeral.is_empty()
    }

    /// Takes something up; `false` if there is no room for it: then it comes first in the next one. `message`: of one to a
    /// device. `counts`: whether keys are counted.
    pub fn add(&mut self, found: &Found, message: Option<WaitingMessage>, counts: bool) -> bool {
        let size = size(&found.news, message.as_ref());
        let fits = match &found.news {
            News::Event(_) | News::Outside(_) => self.events.len() < EVENTS,
            News::Receipt(_) => self.receipts_in_all < RECEIPTS,
            News::ToDevice(_) => self.to_device.len() < TO_DEVICE && self.counts.len() < COUNTS,
            News::Devices(_) => self.changed.len() + self.left.len() < USERS,
            News::Keys(..) => self.counts.len() < COUNTS,
        };
        if self.bytes > 0 && (!fits || self.bytes + size > BYTES) {
            return false;
        }
        self.bytes += size;
        match &found.news {
            News::Event(event) => self.events.push(Event::Stored(event.clone())),
            News::Outside(invite) => self.events.push(Event::Outside(*invite)),
            News::Receipt(receipt) => {
                let of_room = self.receipts.entry(receipt.room).or_default();
                of_room.push(receipt.clone());
                self.receipts_in_all += 1;
            }
            News::ToDevice(to) => {
                if let Some(message) = message {
                    self.to_device.push((to.clone(), message));
                    if counts {
                        self.counts.insert((to.user, to.device.clone()));
                    }
                }
            }
            News::Devices(devices) => {
                // What is said later of somebody stands.
                for user in &devices.changed {
                    self.left.remove(user);
                    self.changed.insert(*user);
                }
                for user in &devices.left {
                    self.changed.remove(user);
                    self.left.insert(*user);
                }
            }
            News::Keys(user, device) => drop(self.counts.insert((*user, device.clone()))),
        }
        true
    }

    /// The messages to devices in it, by their positions.
    pub fn messages(&self) -> impl Iterator<Item = (Pos, UserNo)> {
        let messages = self.to_device.iter();
        messages.map(|(to, message)| (message.pos, to.user))
    }
}

/// About how many bytes it becomes, at least one.
fn size(news: &News, message: Option<&WaitingMessage>) -> usize {
    match news {
        News::Event(event) => event.pdu.json().len() + 200,
        News::Outside(_) => 20_000,
        News::ToDevice(_) => message.map_or(1, |message| 2 * message.content.len() + 400),
        News::Receipt(_) => 400,
        News::Devices(devices) => 100 * (devices.changed.len() + devices.left.len()).max(1),
        News::Keys(..) => 300,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::news::Devices;

    fn keys(n: usize) -> Found {
        let device: OwnedDeviceId = format!("D{n}").into();
        Found {
            pos: Pos(1),
            news: News::Keys(UserNo(1), device),
        }
    }

    fn devices(changed: &[i64], left: &[i64]) -> Found {
        let users = |users: &[i64]| users.iter().map(|no| UserNo(*no)).collect();
        let (changed, left) = (users(changed), users(left));
        Found {
            pos: Pos(1),
            news: News::Devices(Devices { changed, left }.into()),
        }
    }

    #[test]
    fn a_transaction_is_bounded_in_everything() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        let taken = (0..9_999).take_while(|n| batch.add(&keys(*n), None, true));
        assert_eq!(taken.count(), COUNTS);
        // Other things may go on.
        let many: Vec<i64> = (0..2_000).collect();
        assert!(batch.add(&devices(&many, &[]), None, true));
        assert!(!batch.add(&devices(&[1], &[]), None, true));
        // One that is larger than all together is told alone.
        let mut batch = Batch::default();
        let huge: Vec<i64> = (0..20_000).collect();
        assert!(batch.add(&devices(&huge, &[]), None, true));
        assert!(!batch.add(&keys(1), None, true));
    }

    #[test]
    fn of_somebody_the_last_stands() {
        let mut batch = Batch::default();
        batch.add(&devices(&[1, 2], &[3]), None, true);
        batch.add(&devices(&[3], &[1]), None, true);
        assert_eq!(batch.changed, BTreeSet::from([UserNo(2), UserNo(3)]));
        assert_eq!(batch.left, BTreeSet::from([UserNo(1)]));
    }
}
