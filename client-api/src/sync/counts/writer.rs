//! Writing counts down, so that who comes back after long finds most of theirs counted.
//!
//! A reader of the log. It counts the events of each room; of a room that has had enough of them it writes a row
//! for each user of ours who hasn't read them, at most every so often. What it writes is what anybody would count,
//! as of a position: another process may write the same again. Rows save work and say nothing new, so a
//! stretch in which that fails again and again is passed over.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rhizome_storage::{
    EntryKind, Failure, Lease, LiveEvent, LogWork, Pos, RoomNo, Store, Stretch, UserNo,
};
use ruma::OwnedServerName;

use super::{
    alerts::Alerts,
    load::{LOOK, Wanted, load},
};
use crate::push::wishes::Compiled;

/// Events of a room after which its counts are written down, if that was long enough ago.
const STRIDE: usize = 32;
/// Of a room of many members so many rows at most are written for each of its events: who comes back there looks at
/// a few more events instead.
const ROWS_EACH: usize = 20;
/// After so many it is done in any case, or after as many as there are members who get a row.
const AT_LEAST_EVERY: usize = LOOK;
/// How long ago that must be.
const PAUSE: Duration = Duration::from_mins(1);
/// Rooms whose events are counted; beyond it all counts begin anew.
const MAX_ROOMS: usize = 100_000;
/// Users of a room who are looked at together.
const TOGETHER: usize = 500;
/// Attempts at one stretch.
const ATTEMPTS: u32 = 3;

/// Writes counts down, as the work of a [`rhizome_storage::LogReader`].
#[derive(Debug)]
pub struct WriteUnread {
    store: Store,
    server: OwnedServerName,
    compiled: Compiled,
    alerts: Alerts,
    reading: Mutex<Reading>,
    stride: usize,
    pause: Duration,
}

/// What is known while this process reads.
#[derive(Debug, Default)]
struct Reading {
    lease: Option<Lease>,
    rooms: HashMap<RoomNo, Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// Since its counts were written down.
    events: usize,
    /// When that was, by the monotonic clock.
    written: Option<Duration>,
    /// How many rows that were.
    rows: usize,
}

impl WriteUnread {
    /// For the users of `server`.
    pub fn new(store: &Store, server: OwnedServerName) -> Self {
        Self {
            store: store.clone(),
            server,
            compiled: Compiled::default(),
            alerts: Alerts::default(),
            reading: Mutex::default(),
            stride: STRIDE,
            pause: PAUSE,
        }
    }

    /// Writes down after so many events of a room already, and without a pause: for tests.
    #[must_use]
    pub fn after_every(self, stride: usize) -> Self {
        Self {
            stride,
            pause: Duration::ZERO,
            ..self
        }
    }

    fn reading<T>(&self, look: impl FnOnce(&mut Reading) -> T) -> T {
        look(&mut self.reading.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts the events; gives the rooms that are due.
    fn due(&self, stretch: &Stretch) -> Vec<RoomNo> {
        let now = self.store.clock().monotonic();
        self.reading(|reading| {
            if reading.rooms.len() > MAX_ROOMS {
                reading.rooms.clear();
            }
            let mut due = Vec::new();
            for entry in &stretch.entries {
                let EntryKind::Event(LiveEvent { room, .. }) = &entry.kind else {
                    continue;
                };
                let of = reading.rooms.entry(*room).or_default();
                of.events += 1;
                let rested = of.written.is_none_or(|written| now >= written + self.pause);
                let enough = (of.rows / ROWS_EACH).clamp(self.stride, LOOK.max(self.stride));
                let most = AT_LEAST_EVERY.max(of.rows);
                if (of.events >= enough && rested || of.events >= most) && !due.contains(room) {
                    due.push(*room);
                }
            }
            due
        })
    }

    /// Writes a room's counts down as of `upto`; gives how many rows these are.
    async fn write(&self, lease: &Lease, room: RoomNo, upto: Pos) -> Result<usize, Failure> {
        let mut after = UserNo(0);
        let mut written = 0;
        loop {
            let page = self.store.joined_here(room, &self.server, after, TOGETHER);
            let page = page.await?;
            let Some((last, _)) = page.last() else {
                return Ok(written);
            };
            after = *last;
            let wanted: Vec<_> = page
                .iter()
                .map(|(user, since)| Wanted {
                    user: *user,
                    room,
                    since: *since,
                })
                .collect();
            let loaded = load(&self.store, (&self.compiled, &self.alerts), &wanted, upto).await?;
            let news = wanted.iter().zip(loaded);
            let news = news.filter(|(_, loaded)| loaded.looked_at >= self.stride);
            let rows: Vec<_> = news.map(|(wanted, loaded)| loaded.row(wanted)).collect();
            if !self.store.write_unread(Some(lease), &rows).await? {
                return Ok(written);
            }
            written += rows.len();
        }
    }
}

impl LogWork for WriteUnread {
    /// What was there before anything was written down is counted by who asks for it.
    async fn begin(&self, lease: &Lease, done: Pos) -> Result<Pos, Failure> {
        let reading = Reading {
            lease: Some(lease.clone()),
            ..Reading::default()
        };
        self.reading(|known| *known = reading);
        let head = self.store.log().head();
        Ok(if done == Pos(0) { head } else { done })
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        if stretch.failures >= ATTEMPTS {
            tracing::warn!(after = %stretch.after, "unread counts aren't written down here");
            return Ok(());
        }
        let due = self.due(stretch);
        if due.is_empty() {
            return Ok(());
        }
        let Some(lease) = self.reading(|reading| reading.lease.clone()) else {
            return Ok(());
        };
        for room in due {
            let rows = self.write(&lease, room, stretch.upto).await?;
            let written = Some(self.store.clock().monotonic());
            let done = Room {
                events: 0,
                written,
                rows,
            };
            self.reading(|reading| reading.rooms.insert(room, done));
        }
        Ok(())
    }
}
