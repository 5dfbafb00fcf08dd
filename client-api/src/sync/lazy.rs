//! Which members a device has been told of: lazy loading without redundant members.
//!
//! Only a saving: forgetting an entry costs one membership event sent again. An entry counts only
//! for requests that prove, by their `since`, that the answer which carried the member arrived.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use rhizome_storage::{Pos, RoomNo, UserNo};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

/// Members remembered of all devices together; beyond it all are forgotten, which keeps memory
/// bounded and the code short.
const MAX_MEMBERS: usize = 500_000;

/// Members remembered of one device.
const MAX_OF_DEVICE: usize = 5_000;

/// What one device was told: members by room, each with the position where the answer ended.
#[derive(Default, Debug)]
struct Sent {
    rooms: HashMap<RoomNo, HashMap<OwnedUserId, Pos>>,
    count: usize,
    /// Where the last of these answers ended.
    latest: Option<Pos>,
}

/// What devices have been told.
#[derive(Default, Debug)]
pub struct LazyMembers(Mutex<Devices>);

#[derive(Default, Debug)]
struct Devices {
    sent: HashMap<(UserNo, OwnedDeviceId), Sent>,
    count: usize,
}

impl LazyMembers {
    /// Whether a device that has seen everything up to `since` was told of this member.
    pub fn knows(
        &self,
        device: &(UserNo, OwnedDeviceId),
        room: RoomNo,
        member: &UserId,
        since: Pos,
    ) -> bool {
        let devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        devices
            .sent
            .get(device)
            .and_then(|sent| sent.rooms.get(&room)?.get(member))
            .is_some_and(|told| *told <= since)
    }

    /// Remembers that the answer which ends at `upto` tells the device of these members.
    pub fn tell<'a>(
        &self,
        device: &(UserNo, OwnedDeviceId),
        room: RoomNo,
        members: impl Iterator<Item = &'a UserId>,
        upto: Pos,
    ) {
        let mut members = members.peekable();
        if members.peek().is_none() {
            return;
        }
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if devices.count >= MAX_MEMBERS {
            *devices = Devices::default();
        }
        let devices = &mut *devices;
        let sent = devices.sent.entry(device.clone()).or_default();
        if sent.count >= MAX_OF_DEVICE {
            devices.count -= sent.count;
            *sent = Sent::default();
        }
        sent.latest = sent.latest.max(Some(upto));
        let room = sent.rooms.entry(room).or_default();
        for member in members {
            if room.insert(member.to_owned(), upto).is_none() {
                sent.count += 1;
                devices.count += 1;
            }
        }
    }

    /// Forgets what answers told that end after `since`: a device that goes on from there may never have got them.
    pub fn forget_after(&self, device: &(UserNo, OwnedDeviceId), since: Pos) {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let devices = &mut *devices;
        let Some(sent) = devices.sent.get_mut(device) else {
            return;
        };
        if sent.latest <= Some(since) {
            return;
        }
        sent.rooms.retain(|_, members| {
            members.retain(|_, told| *told <= since);
            !members.is_empty()
        });
        let left = sent.rooms.values().map(HashMap::len).sum();
        devices.count -= sent.count - left;
        sent.count = left;
        sent.latest = Some(since);
    }

    /// A device goes on from an answer. What was told after it is forgotten, and everything if others gave the device
    /// answers since that we know of.
    pub fn go_on(&self, device: &(UserNo, OwnedDeviceId), from: Pos) {
        self.forget_after(device, from);
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = |sent: &Sent| sent.latest == Some(from);
        let stands = devices.sent.get(device);
        if stands.is_some_and(|sent| !ours(sent))
            && let Some(sent) = devices.sent.remove(device)
        {
            devices.count -= sent.count;
        }
    }

    /// This answer is the last that we gave to a device, whoever it told of.
    pub fn stands_at(&self, device: &(UserNo, OwnedDeviceId), answer: Pos) {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = devices.sent.get_mut(device) {
            sent.latest = sent.latest.max(Some(answer));
        }
    }

    /// Forgets that a device was told of a member.
    pub fn forget_member(&self, device: &(UserNo, OwnedDeviceId), room: RoomNo, member: &UserId) {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let devices = &mut *devices;
        let sent = devices.sent.get_mut(device);
        if let Some(sent) = sent
            && let Some(members) = sent.rooms.get_mut(&room)
            && members.remove(member).is_some()
        {
            sent.count -= 1;
            devices.count -= 1;
        }
    }

    /// Forgets a device: it starts again from nothing.
    pub fn forget(&self, device: &(UserNo, OwnedDeviceId)) {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = devices.sent.remove(device) {
            devices.count -= sent.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{device_id, user_id};

    use super::*;

    #[test]
    fn a_member_counts_as_known_only_once_the_answer_is_known_to_have_arrived() {
        let lazy = LazyMembers::default();
        let device = (UserNo(1), device_id!("A").to_owned());
        let (room, bob) = (RoomNo(7), user_id!("@bob:here"));
        assert!(!lazy.knows(&device, room, bob, Pos(9)));
        lazy.tell(&device, room, [bob].into_iter(), Pos(5));
        assert!(lazy.knows(&device, room, bob, Pos(5)));
        assert!(
            !lazy.knows(&device, room, bob, Pos(4)),
            "the answer may have been lost"
        );
        assert!(!lazy.knows(&(UserNo(1), device_id!("B").to_owned()), room, bob, Pos(5)));
        lazy.forget(&device);
        assert!(!lazy.knows(&device, room, bob, Pos(5)));
    }

    #[test]
    fn what_a_lost_answer_told_does_not_count_later_on() {
        let lazy = LazyMembers::default();
        let device = (UserNo(1), device_id!("A").to_owned());
        let (room, bob, eve) = (RoomNo(7), user_id!("@bob:here"), user_id!("@eve:here"));
        lazy.tell(&device, room, [bob].into_iter(), Pos(5));
        lazy.tell(&device, room, [eve].into_iter(), Pos(8));
        lazy.forget_after(&device, Pos(8));
        assert!(lazy.knows(&device, room, eve, Pos(9)));
        lazy.forget_after(&device, Pos(6));
        assert!(lazy.knows(&device, room, bob, Pos(9)));
        assert!(!lazy.knows(&device, room, eve, Pos(9)));
        lazy.tell(&device, room, [eve].into_iter(), Pos(7));
        lazy.forget_after(&device, Pos(4));
        assert!(!lazy.knows(&device, room, bob, Pos(9)));
        assert_eq!(lazy.0.lock().unwrap().count, 0);
    }
}
