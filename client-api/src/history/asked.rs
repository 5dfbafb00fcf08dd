//! Of which rooms other servers were asked for history in vain a moment ago.
//!
//! A page that ends where nobody helps says that there may be more, so a client may ask again at once, and
//! again. It has to wait then: neither it nor other servers are to be kept busy by that.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rhizome_storage::RoomNo;

/// How long they are left alone.
const PAUSE: Duration = Duration::from_secs(10);

/// Rooms remembered; beyond it all are forgotten.
const MAX_ROOMS: usize = 10_000;

/// The rooms, each with the time of the monotonic clock.
#[derive(Default, Debug)]
pub struct InVain(Mutex<HashMap<RoomNo, Duration>>);

impl InVain {
    /// If others were asked of the room in vain a moment ago: when they may be asked again.
    pub fn pause(&self, room: RoomNo, now: Duration) -> Option<Duration> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = PAUSE.saturating_sub(now.saturating_sub(*rooms.get(&room)?));
        (!left.is_zero()).then_some(left)
    }

    /// Remembers whether somebody helped.
    pub fn note(&self, room: RoomNo, now: Duration, helped: bool) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if helped {
            rooms.remove(&room);
            return;
        }
        if rooms.len() >= MAX_ROOMS {
            rooms.clear();
        }
        rooms.insert(room, now);
    }
}
