//! Completes rooms, each time a little later, until it is done.
//!
//! Of the processes on one database the one with the lease does so; that nothing is done twice doesn't hang on it, but on the
//! commit that completes a room. A few rooms at a time; where there are none, nothing asks the database anything (of
//! several processes, who has the lease says so every so often).

use std::{collections::HashMap, time::Duration};

use rhizome_storage::{Error, Lease, PartialRoom, RoomNo};
use tokio::task::{Id, JoinError, JoinSet};

use super::complete::attempt;
use crate::Federation;

const NAME: &str = "partial rooms";
/// How long the lease lasts without renewal, and how often it is renewed or asked for.
const LENGTH: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_secs(4);
/// So many rooms are completed at a time: whoever is slow to answer is not to hold up the others.
const ROOMS: usize = 16;
/// So many of these at most have been tried before: rooms that servers keep from being completed don't keep new ones.
const AGAIN: usize = ROOMS / 2;
/// The longest sleep, in case somebody sets the machine's clock.
const LONGEST: Duration = Duration::from_hours(1);

/// Works until it is dropped.
///
/// # Errors
/// The database's.
pub(crate) async fn run(fed: &Federation) -> Result<(), Error> {
    if !fed.config().partial_joins && fed.store().next_partial_rooms(1).await?.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let lease = leased(fed).await?;
        let mut turn = Turn {
            fed,
            lease: &lease,
            tasks: JoinSet::new(),
            busy: HashMap::new(),
        };
        let ended = turn.until_lost().await;
        lease.release().await?;
        ended?;
    }
}

/// Waits for the lease.
async fn leased(fed: &Federation) -> Result<Lease, Error> {
    let store = fed.store();
    let length = store.is_shared().then_some(LENGTH);
    loop {
        if let Some(lease) = Lease::take(store, NAME, length).await? {
            return Ok(lease);
        }
        store.clock().sleep(TICK).await;
    }
}

/// The time in which this process has the lease.
struct Turn<'a> {
    fed: &'a Federation,
    lease: &'a Lease,
    /// Each completes …
    tasks: JoinSet<Result<(), Error>>,
    /// … this room, which was tried before or wasn't. Those that are under way when the turn ends are dropped, between two
    /// commits.
    busy: HashMap<Id, (RoomNo, bool)>,
}

impl Turn<'_> {
    async fn until_lost(&mut self) -> Result<(), Error> {
        let store = self.fed.store();
        loop {
            let pause = self.look().await?;
            tokio::select! {
                Some(done) = self.tasks.join_next_with_id() => self.ended(done).await?,
                () = self.fed.partial().notified() => {}
                () = store.clock().sleep(pause) => {}
            }
            if !self.lease.renew().await? {
                tracing::info!("another process completes rooms");
                return Ok(());
            }
        }
    }

    /// Begins with what is due. Gives for how long nothing is.
    async fn look(&mut self) -> Result<Duration, Error> {
        let (store, now) = (self.fed.store(), self.fed.store().clock().now_ms());
        let mut pause = if store.is_shared() { TICK } else { LONGEST };
        let next = store.next_partial_rooms(ROOMS + self.busy.len()).await?;
        for room in next {
            if self.busy.values().any(|(busy, _)| *busy == room.room) {
                continue;
            }
            if room.retry_at > now {
                let wait = u64::try_from(room.retry_at.saturating_sub(now)).unwrap_or_default();
                pause = pause.min(Duration::from_millis(wait));
            } else if self.has_place(room.tries > 0) {
                self.begin(room);
            }
        }
        Ok(pause)
    }

    fn has_place(&self, again: bool) -> bool {
        let those = self.busy.values().filter(|(_, again)| *again).count();
        has_place(self.busy.len(), those, again)
    }

    fn begin(&mut self, room: PartialRoom) {
        let (fed, what) = (self.fed.clone(), (room.room, room.tries > 0));
        let task = Box::pin(async move { attempt(&fed, room).await });
        let id = self.tasks.spawn(task).id();
        self.busy.insert(id, what);
    }

    async fn ended(
        &mut self,
        done: Result<(Id, Result<(), Error>), JoinError>,
    ) -> Result<(), Error> {
        let error = match done {
            Ok((id, done)) => {
                self.busy.remove(&id);
                return done;
            }
            Err(error) => error,
        };
        tracing::error!(%error, "completing a room has failed");
        let Some((room, _)) = self.busy.remove(&error.id()) else {
            return Ok(());
        };
        // A bug that one room brings to light isn't to stop the others, nor to come again at once.
        let store = self.fed.store();
        if let Some(room) = store.partial_room(room).await? {
            let pause = i64::try_from(self.fed.config().retry_max.as_millis()).unwrap_or(i64::MAX);
            let until = store.clock().now_ms().saturating_add(pause);
            let tries = room.tries.saturating_add(1);
            store.put_off_partial(&room, tries, until).await?;
        }
        Ok(())
    }
}

/// Whether one more room may be completed where so many are, so many of which `again`.
fn has_place(busy: usize, those: usize, again: bool) -> bool {
    busy < ROOMS && !(again && those >= AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_that_were_tried_before_leave_places_to_new_ones() {
        assert!(has_place(AGAIN - 1, AGAIN - 1, true));
        assert!(!has_place(AGAIN, AGAIN, true));
        assert!(has_place(AGAIN, AGAIN, false));
        assert!(has_place(ROOMS - 1, 0, true));
        assert!(!has_place(ROOMS, 0, false));
    }
}
