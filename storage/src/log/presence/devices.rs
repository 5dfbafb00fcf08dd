//! What a user's devices say, merged: pure, with the time as an argument.

mod said;

use std::collections::BTreeMap;
use std::time::Duration;

use ruma::{DeviceId, OwnedDeviceId};

pub(super) use self::said::{Became, Here};
use super::status::PresenceState;
use crate::log::positions::ProcessId;

/// A device is still there for so long after its last request that waits.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Who does nothing for so long is told to be unavailable. Until then they are currently active.
pub(super) const IDLE: Duration = Duration::from_mins(5);
/// Devices of a user that are looked at: more than anybody uses at a time.
const MOST: usize = 50;

/// What a request that waits says of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPresence {
    /// What the device is from now on.
    pub state: PresenceState,
    /// Whether the client has said so: then the user has done something.
    pub said: bool,
}

/// The devices of a user that were heard of lately.
#[derive(Debug, Default)]
pub(super) struct Devices {
    known: BTreeMap<OwnedDeviceId, Device>,
    /// What other processes say of those that they see.
    elsewhere: BTreeMap<ProcessId, Here>,
    /// What other processes were told last, …
    said: Option<Here>,
    /// … and what they are to be told of a device.
    became: Option<Became>,
    /// When the user did something.
    pub(super) active: Option<Duration>,
}

#[derive(Debug)]
struct Device {
    state: PresenceState,
    /// It was said to be busy by itself, not by the way: only what is said by itself ends that.
    busy: bool,
    /// Requests that wait, and open sockets.
    open: usize,
    /// Until when it is there without any.
    until: Duration,
    /// When its user did something with it.
    active: Option<Duration>,
}

impl Device {
    fn state(&self, now: Duration) -> PresenceState {
        if self.open > 0 || self.until > now {
            self.state
        } else {
            PresenceState::Offline
        }
    }
}

impl Devices {
    fn device(&mut self, id: &DeviceId, now: Duration) -> Option<&mut Device> {
        if !self.known.contains_key(id) {
            self.known
                .retain(|_, device| device.state(now) > PresenceState::Offline || device.open > 0);
            if self.known.len() >= MOST {
                return None;
            }
            let new = Device {
                state: PresenceState::Offline,
                busy: false,
                open: 0,
                until: now,
                active: None,
            };
            self.known.insert(id.to_owned(), new);
        }
        self.known.get_mut(id)
    }

    /// A request of the device begins to wait. `false`: it isn't counted, and [`Devices::synced`] mustn't be called.
    pub(super) fn syncs(&mut self, id: &DeviceId, says: SyncPresence, now: Duration) -> bool {
        let Some(device) = self.device(id, now) else {
            return false;
        };
        let before = device.state(now);
        device.open += 1;
        // What it was before it went doesn't count any more.
        device.busy &= before == PresenceState::Busy;
        let becomes = !device.busy && device.state != says.state;
        if becomes {
            device.state = says.state;
        }
        let comes = before < PresenceState::Online && says.state == PresenceState::Online;
        if comes || (says.said && says.state >= PresenceState::Online) {
            device.active = says.said.then_some(now).or(device.active);
            self.active = Some(now);
        }
        if becomes {
            self.became = Some(Became::new(id, says.state, false));
        }
        true
    }

    /// A request of the device waits no longer.
    pub(super) fn synced(&mut self, id: &DeviceId, now: Duration) {
        if let Some(device) = self.known.get_mut(id) {
            device.open = device.open.saturating_sub(1);
            device.until = now + GRACE;
        }
    }

    /// The user says what the device is.
    pub(super) fn set(&mut self, id: &DeviceId, state: PresenceState, now: Duration) {
        if let Some(device) = self.device(id, now) {
            device.state = state;
            device.busy = state == PresenceState::Busy;
            device.until = now + GRACE;
            device.active = Some(now);
        }
        self.became = Some(Became::new(id, state, true));
        self.active = Some(now);
    }

    /// The user does something with the device, which makes it available again.
    pub(super) fn acts(&mut self, id: &DeviceId, now: Duration) {
        if let Some(device) = self.known.get_mut(id) {
            device.active = Some(now);
            if device.state == PresenceState::Unavailable {
                device.state = PresenceState::Online;
            }
        }
        self.active = Some(now);
    }

    /// When the user last did something with a device that is there, other than this one.
    pub(super) fn active_elsewhere(
        &self,
        than: Option<&DeviceId>,
        now: Duration,
    ) -> Option<Duration> {
        let others = self.known.iter().filter(|(id, _)| Some(&***id) != than);
        let there = others.filter(|(_, device)| device.state(now) >= PresenceState::Online);
        there.filter_map(|(_, device)| device.active).max()
    }

    /// The device's session ends.
    pub(super) fn end(&mut self, id: &DeviceId) {
        if self.known.remove(id).is_some() {
            self.became = Some(Became::new(id, PresenceState::Offline, true));
        }
    }

    /// All sessions end but that of `except`.
    pub(super) fn end_all(&mut self, except: Option<&DeviceId>) {
        self.known.retain(|id, _| Some(&**id) == except);
        if except.is_none() {
            self.elsewhere.clear();
        }
    }

    fn is_idle(&self, now: Duration) -> bool {
        self.active.is_none_or(|active| active + IDLE <= now)
    }

    /// What the devices come to that this process sees.
    fn here(&self, now: Duration) -> PresenceState {
        let states = self.known.values().map(|device| device.state(now));
        states.max().unwrap_or_default()
    }

    /// What the user is by all of them.
    pub(super) fn merged(&self, now: Duration) -> PresenceState {
        let elsewhere = self.elsewhere.values().filter(|there| there.until > now);
        let elsewhere = elsewhere.map(|there| there.state).max().unwrap_or_default();
        let highest = self.here(now).max(elsewhere);
        if highest == PresenceState::Online && self.is_idle(now) {
            return PresenceState::Unavailable;
        }
        highest
    }

    /// When what they are may change although nobody does anything.
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        let there =
            || (self.known.values()).filter(|device| device.state(now) > PresenceState::Offline);
        let ends = there()
            .filter(|device| device.open == 0)
            .map(|device| device.until);
        let elsewhere = || self.elsewhere.values().filter(|there| there.until > now);
        let ends = ends.chain(elsewhere().map(|there| there.until));
        let again = self.said.filter(|said| said.state > PresenceState::Offline);
        let again = again.map(|said| said.until.saturating_sub(said::RENEWED));
        let ends = ends.chain(again.filter(|at| *at > now));
        let is_online = there().any(|device| device.state == PresenceState::Online)
            || elsewhere().any(|there| there.state == PresenceState::Online);
        let idles = is_online
            .then(|| self.active.map(|active| active + IDLE))
            .flatten()
            .filter(|at| *at > now);
        ends.chain(idles).min()
    }
}

#[cfg(test)]
mod tests {
    use ruma::device_id;

    use super::PresenceState::{Busy, Offline, Online, Unavailable};
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn by_the_way(state: PresenceState) -> SyncPresence {
        SyncPresence { state, said: false }
    }

    fn said(state: PresenceState) -> SyncPresence {
        SyncPresence { state, said: true }
    }

    #[test]
    fn of_several_devices_the_highest_counts() {
        let mut devices = Devices::default();
        let (phone, desk) = (device_id!("PHONE"), device_id!("DESK"));
        assert_eq!(devices.merged(secs(0)), Offline);
        assert!(devices.syncs(phone, said(Unavailable), secs(0)));
        assert_eq!(devices.merged(secs(0)), Unavailable);
        assert!(devices.syncs(desk, by_the_way(Online), secs(0)));
        assert_eq!(devices.merged(secs(0)), Online);
        devices.set(phone, Busy, secs(1));
        assert_eq!(devices.merged(secs(1)), Busy);
        devices.set(phone, Offline, secs(2));
        assert_eq!(devices.merged(secs(2)), Online);
        devices.end(desk);
        assert_eq!(devices.merged(secs(2)), Offline);
    }

    #[test]
    fn a_device_is_there_while_it_waits_and_a_little_longer() {
        let mut devices = Devices::default();
        let phone = device_id!("PHONE");
        devices.syncs(phone, by_the_way(Unavailable), secs(0));
        devices.syncs(phone, by_the_way(Unavailable), secs(0));
        assert_eq!(devices.due(secs(0)), None);
        devices.synced(phone, secs(100));
        assert_eq!(devices.merged(secs(1_000)), Unavailable);
        devices.synced(phone, secs(1_000));
        assert_eq!(devices.due(secs(1_000)), Some(secs(1_030)));
        assert_eq!(devices.merged(secs(1_029)), Unavailable);
        assert_eq!(devices.merged(secs(1_030)), Offline);
    }

    #[test]
    fn who_does_nothing_becomes_unavailable_and_who_does_something_online() {
        let mut devices = Devices::default();
        let phone = device_id!("PHONE");
        devices.syncs(phone, by_the_way(Online), secs(0));
        assert_eq!(devices.due(secs(0)), Some(IDLE));
        assert_eq!(devices.merged(secs(299)), Online);
        assert_eq!(devices.merged(secs(300)), Unavailable);
        // That it goes on waiting says nothing of its user.
        devices.syncs(phone, by_the_way(Online), secs(300));
        assert_eq!(devices.merged(secs(300)), Unavailable);
        devices.acts(phone, secs(400));
        assert_eq!(devices.merged(secs(400)), Online);
        // But it does if the client says so.
        devices.syncs(phone, said(Online), secs(650));
        assert_eq!(devices.merged(secs(949)), Online);
        // What the client says to be unavailable its user makes available again.
        devices.syncs(phone, said(Unavailable), secs(700));
        assert_eq!(devices.merged(secs(700)), Unavailable);
        devices.acts(phone, secs(701));
        assert_eq!(devices.merged(secs(701)), Online);
    }

    #[test]
    fn nothing_but_the_user_ends_being_busy() {
        let mut devices = Devices::default();
        let phone = device_id!("PHONE");
        devices.set(phone, Busy, secs(0));
        devices.syncs(phone, said(Online), secs(1));
        devices.acts(phone, secs(2));
        assert_eq!(devices.merged(secs(1_000)), Busy);
        devices.set(phone, Online, secs(1_000));
        assert_eq!(devices.merged(secs(1_000)), Online);
        // What is said by the way is over with the next request that says something else.
        devices.syncs(phone, said(Busy), secs(1_001));
        assert_eq!(devices.merged(secs(1_001)), Busy);
        devices.syncs(phone, said(Online), secs(1_002));
        assert_eq!(devices.merged(secs(1_002)), Online);
        // And whoever was away for a while isn't busy any more.
        devices.set(phone, Busy, secs(1_003));
        (0..3).for_each(|_| devices.synced(phone, secs(1_003)));
        devices.syncs(phone, by_the_way(Online), secs(2_000));
        assert_eq!(devices.merged(secs(2_000)), Online);
    }

    #[test]
    fn the_devices_of_a_user_are_bounded() {
        let mut devices = Devices::default();
        let device = |n: usize| OwnedDeviceId::from(format!("D{n}"));
        for n in 0..MOST {
            assert!(devices.syncs(&device(n), by_the_way(Online), secs(0)));
        }
        assert!(!devices.syncs(&device(MOST), by_the_way(Online), secs(0)));
        devices.synced(&device(0), secs(0));
        assert!(devices.syncs(&device(MOST), by_the_way(Online), secs(31)));
    }
}
