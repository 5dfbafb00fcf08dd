//! Asking other servers for history that we lack, and of which rooms they were asked in vain a moment ago.
//!
//! A page that ends where nobody helps says that there may be more, so a client may ask again at once, and
//! again. It has to wait then: neither it nor other servers are to be kept busy by that.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rhizome_federation::fetch::backfill;
use rhizome_storage::{RoomHead, RoomNo};
use ruma::OwnedEventId;
use tokio::time::Instant;

use crate::{App, MatrixError};

/// Events asked of other servers where the history that we have has a gap, however few a page holds: each
/// time costs about the same.
const BACKFILL: usize = 100;

/// How often other servers are asked for one page, and for how long a first answer may have taken. Each
/// page asks once, so that paging gets on.
const MAX_ASKED: usize = 3;
const ASKING: Duration = Duration::from_secs(10);

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

/// How much was asked of other servers for one page.
#[derive(Default)]
pub struct Asking {
    times: usize,
    begun: Option<Instant>,
}

impl Asking {
    /// Whether they may be asked once more; if not, the next page does it.
    pub fn may_go_on(&mut self) -> bool {
        self.times += 1;
        let begun = *self.begun.get_or_insert_with(Instant::now);
        self.times == 1 || (self.times <= MAX_ASKED && begun.elapsed() < ASKING)
    }

    /// Asks them for what belongs into a gap. If it is in vain, the page goes on without it. Where that was so a
    /// moment ago, a page waits that has nothing else to tell.
    pub async fn ask(
        &self,
        app: &App,
        head: &RoomHead,
        missing: &[OwnedEventId],
        nothing_yet: bool,
    ) -> Result<(), MatrixError> {
        let (in_vain, clock) = (&app.in_vain, app.store.clock());
        if let Some(pause) = in_vain.pause(head.room, clock.monotonic()) {
            if nothing_yet {
                tokio::select! {
                    () = clock.sleep(pause) => {}
                    () = app.shutdown.cancelled() => {}
                }
            }
            // Somebody else may have asked in the meantime.
            if in_vain.pause(head.room, clock.monotonic()).is_some() {
                return Ok(());
            }
        }
        // Boxed: most pages are all here.
        let fed = &app.federation;
        let helped = Box::pin(backfill::before(fed, &head.room_id, missing, BACKFILL)).await?;
        in_vain.note(head.room, clock.monotonic(), helped);
        Ok(())
    }
}
