//! What processes tell each other of a user's devices.

use std::time::Duration;

use ruma::{DeviceId, OwnedDeviceId};
use serde::{Deserialize, Serialize};

use super::{Devices, GRACE};
use crate::PresenceState;
use crate::log::positions::ProcessId;

/// What other processes are told of devices that are there holds for so long, …
const HOLDS: Duration = Duration::from_secs(90);
/// … and is said again when no more than this of it is left.
pub(super) const RENEWED: Duration = Duration::from_secs(45);
/// Who does something is told to others again after so long: from there it is counted when they are idle.
const ACTIVE: Duration = Duration::from_mins(1);

/// What the devices of a user at one process come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log::presence) struct Here {
    pub(in crate::log::presence) state: PresenceState,
    /// Until when that is so.
    pub(in crate::log::presence) until: Duration,
    /// When the user did something.
    pub(in crate::log::presence) active: Option<Duration>,
}

/// What a device has become, as other processes have to know that have seen it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Became {
    device: OwnedDeviceId,
    state: PresenceState,
    /// It was said by itself, not by the way.
    by_itself: bool,
}

impl Became {
    pub(super) fn new(device: &DeviceId, state: PresenceState, by_itself: bool) -> Self {
        Self {
            device: device.to_owned(),
            state,
            by_itself,
        }
    }
}

impl Devices {
    /// What other processes are to be told, if they haven't been, or not lately.
    pub(in crate::log::presence) fn say(
        &mut self,
        now: Duration,
    ) -> Option<(Here, Option<Became>)> {
        let state = self.here(now);
        let there =
            (self.known.values()).filter(|device| device.state(now) > PresenceState::Offline);
        let ends = there.map(|device| {
            if device.open > 0 {
                now + HOLDS
            } else {
                device.until
            }
        });
        let here = Here {
            state,
            until: ends.max().unwrap_or(now),
            active: self.active,
        };
        let became = self.became.take();
        let said = match self.said {
            None => state == PresenceState::Offline,
            Some(said) => {
                let is_active = here.active > said.active.map(|active| active + ACTIVE);
                let ends = said.until < here.until.min(now + RENEWED);
                said.state == state && !(state > PresenceState::Offline && (is_active || ends))
            }
        };
        if said && became.is_none() {
            return None;
        }
        self.said = Some(here);
        Some((here, became))
    }

    /// Whether this process has seen the devices, and no other since.
    pub(in crate::log::presence) fn were_seen_here(&self) -> bool {
        self.said.is_some()
    }

    /// Whether what another process has said of them ran out, rather than that it was taken back.
    pub(in crate::log::presence) fn were_left(&self, now: Duration) -> bool {
        self.elsewhere.values().any(|there| there.until <= now)
    }

    /// Other processes have forgotten, or never heard, what they were told.
    pub(in crate::log::presence) fn say_again(&mut self) {
        self.said = None;
    }

    /// Another process says what it sees.
    pub(in crate::log::presence) fn hear(
        &mut self,
        process: ProcessId,
        there: Here,
        became: Option<&Became>,
        now: Duration,
    ) {
        self.elsewhere.remove(&process);
        if there.state > PresenceState::Offline {
            // Who was left before has come back.
            self.elsewhere.retain(|_, there| there.until > now);
        }
        if there.state > PresenceState::Offline && there.until > now {
            self.elsewhere.insert(process, there);
        }
        self.active = self.active.max(there.active);
        if there.state > PresenceState::Offline && self.here(now) == PresenceState::Offline {
            // They are that one's now.
            self.said = None;
        }
        let Some(became) = became else { return };
        if !became.by_itself {
            if let Some(device) = self.known.get_mut(&became.device)
                && !device.busy
            {
                device.state = became.state;
            }
        } else if let Some(device) = self.device(&became.device, now) {
            device.state = became.state;
            device.busy = became.state == PresenceState::Busy;
            device.until = now + GRACE;
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::device_id;

    use super::PresenceState::{Busy, Offline, Online};
    use super::*;
    use crate::SyncPresence;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const ONLINE: SyncPresence = SyncPresence {
        state: Online,
        said: false,
    };

    /// One process hears what the other has to say.
    fn tell(from: &mut Devices, by: u32, to: &mut Devices, now: Duration) -> bool {
        let said = from.say(now);
        if let Some((here, became)) = &said {
            to.hear(ProcessId(by), *here, became.as_ref(), now);
        }
        said.is_some()
    }

    #[test]
    fn a_device_that_goes_from_process_to_process_stays_there() {
        let (mut one, mut two) = (Devices::default(), Devices::default());
        let phone = device_id!("PHONE");
        assert!(one.say(secs(0)).is_none());
        for round in 0..20 {
            let now = secs(round * 60);
            one.syncs(phone, ONLINE, now);
            tell(&mut one, 1, &mut two, now);
            assert_eq!(two.merged(now), Online);
            let now = now + secs(30);
            one.synced(phone, now);
            tell(&mut one, 1, &mut two, now);
            two.syncs(
                phone,
                SyncPresence {
                    said: true,
                    ..ONLINE
                },
                now,
            );
            tell(&mut two, 2, &mut one, now);
            assert_eq!((one.merged(now), two.merged(now)), (Online, Online));
            two.synced(phone, now + secs(29));
            tell(&mut two, 2, &mut one, now + secs(29));
        }
        // It goes, and the last of the two says so.
        let gone = secs(20 * 60 + 60);
        tell(&mut one, 1, &mut two, gone);
        tell(&mut two, 2, &mut one, gone);
        assert_eq!((one.merged(gone), two.merged(gone)), (Offline, Offline));
    }

    #[test]
    fn what_is_so_is_said_again_before_it_is_over_and_ends_if_nobody_does() {
        let (mut one, mut two) = (Devices::default(), Devices::default());
        let phone = device_id!("PHONE");
        one.syncs(phone, ONLINE, secs(0));
        assert!(tell(&mut one, 1, &mut two, secs(0)));
        assert!(!tell(&mut one, 1, &mut two, secs(1)));
        assert!(one.due(secs(1)).is_some_and(|due| due <= HOLDS));
        assert!(tell(
            &mut one,
            1,
            &mut two,
            (HOLDS + secs(1)).saturating_sub(RENEWED)
        ));
        assert_eq!(two.merged(HOLDS + secs(1)), Online);
        // The first process ends without a word.
        assert!(two.due(HOLDS).is_some());
        assert_eq!(two.merged(HOLDS * 2), Offline);
    }

    #[test]
    fn what_is_said_of_a_device_holds_at_every_process() {
        let (mut one, mut two) = (Devices::default(), Devices::default());
        let phone = device_id!("PHONE");
        one.syncs(phone, ONLINE, secs(0));
        tell(&mut one, 1, &mut two, secs(0));
        two.set(phone, Busy, secs(1));
        tell(&mut two, 2, &mut one, secs(1));
        assert_eq!(one.merged(secs(1)), Busy);
        // By the way nothing ends that.
        two.syncs(phone, ONLINE, secs(2));
        tell(&mut two, 2, &mut one, secs(2));
        assert_eq!((one.merged(secs(2)), two.merged(secs(2))), (Busy, Busy));
        two.set(phone, Offline, secs(3));
        tell(&mut two, 2, &mut one, secs(3));
        tell(&mut one, 1, &mut two, secs(3));
        assert_eq!(
            (one.merged(secs(3)), two.merged(secs(3))),
            (Offline, Offline)
        );
    }
}
