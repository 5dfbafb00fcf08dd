//! Collecting snapshots of state that nothing refers to: those of merges that the room has moved on from,
//! of decisions that were taken again, of rooms that are gone. And deleting what goes by its age ([`purge`]): how
//! long the rows of each table live, [`lifetimes`] says.
//!
//! A snapshot is *needed* if an event has it before or after itself, if it is a room's current one, or if
//! nodes of a needed snapshot refer to nodes of its. A pass goes through one room after the other:
//!
//! 1. It reads which snapshots are on the list (`snapshot_candidate`), then which there are, then which
//!    are needed ([`mark`]).
//! 2. It deletes what has been on the list for the grace period, is not needed, and shares no nodes with
//!    anything that stays ([`sweep`]).
//! 3. It puts on the list what else is not needed, and takes off it what is.
//!
//! # Why nothing is deleted that somebody refers to
//!
//! What a pass reads is not of one moment: commits go on meanwhile. But a commit that refers to a snapshot
//! on the list, or builds a new one on it, takes *all* of its room's snapshots off the list, in its own
//! transaction; and deleting and listing happen under the lock of the room's row, which every commit to the
//! room takes first, and only of what is still on the list as it was when the pass began. So whatever is
//! deleted was on the list all through the pass, and no commit in that time referred to anything on the
//! list. Commits from before the pass are seen by it. Commits during the pass referred to what was not on
//! the list: that is needed or keeps what it shares all the same, since a pass deletes nothing that shares
//! nodes with a snapshot that isn't on the list yet, or not for long enough; or it is new itself, and the
//! same holds for what it was built on. Snapshots that share nodes are deleted before those whose nodes
//! they are, so a pass may end anywhere.
//!
//! A snapshot that was derived and isn't committed builds on one that may be collected meanwhile. The grace
//! period makes that a matter of theory: its parent must have been without use for all of that time, and
//! no request or task holds on to a decision for as long (requests end with `http` and federation
//! time-outs of minutes). Should it happen, the commit finds the parent gone and is refused
//! ([`CommitError::SnapshotGone`](crate::CommitError::SnapshotGone)); nothing is written. Whoever still
//! reads such a snapshot gets an error, never another state: numbers are not given twice.
//!
//! Several processes may run this: the one with the lease ([`Lease`]) works, and every
//! transaction that writes checks the lease first, so that one that slept and lost it writes nothing.

pub mod lifetimes;
mod mark;
pub(crate) mod purge;
mod sweep;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::{Error, Lease, Result, RoomNo, Store};

/// How to collect.
#[derive(Debug, Clone, Copy)]
pub struct Collecting {
    /// How long nothing must have referred to a snapshot before it is deleted. Longer than anything holds
    /// a decision that isn't committed, or reads a state that it has got the number of.
    pub grace: Duration,
    /// Between one pass over all rooms and the next.
    pub interval: Duration,
    /// Between two steps of a pass, so that it takes little from what matters more.
    pub pause: Duration,
    /// Devices that weren't seen for so long are deleted. `None`: never.
    pub expire_devices_after: Option<Duration>,
}

impl Default for Collecting {
    fn default() -> Self {
        Self {
            grace: Duration::from_hours(24),
            interval: Duration::from_hours(6),
            pause: Duration::from_millis(5),
            expire_devices_after: None,
        }
    }
}

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Rooms that it went through.
    pub rooms: u64,
    /// Snapshots that came onto the list.
    pub listed: u64,
    /// Snapshots that were deleted.
    pub deleted: u64,
    /// Rooms that were left alone: damaged, too large, or in use at the wrong moment.
    pub skipped: u64,
}

/// The lease, and how long it lasts; it is renewed with every step that writes, and every so many that read.
const LEASE: (&str, Duration) = ("snapshot collector", Duration::from_mins(10));

/// Collects now and then, until `stop`. What goes wrong is logged, and tried again with the next pass.
pub async fn run(store: Store, how: Collecting, stop: CancellationToken) -> Result<()> {
    loop {
        // First a while in peace: a server that has just started has other things to do.
        let waited = stop.run_until_cancelled(next_pass(&store, how));
        if waited.await.is_none() {
            return Ok(());
        }
        match collect(&store, how, &stop).await {
            Ok(None) => {}
            Ok(Some(done)) if done.deleted > 0 || done.skipped > 0 => {
                tracing::info!(?done, "snapshots of state were collected");
            }
            Ok(Some(done)) => tracing::debug!(?done, "no snapshots of state to collect"),
            Err(error) => tracing::warn!(%error, "snapshots of state can't be collected"),
        }
    }
}

/// Waits until the next pass is due. Backups that users delete go meanwhile: they don't expect them to stay for hours.
async fn next_pass(store: &Store, how: Collecting) {
    let due = store.clock().sleep(how.interval);
    tokio::pin!(due);
    loop {
        tokio::select! {
            () = &mut due => return,
            () = store.to_be_purged() => {}
        }
        match store.purge_backups(how.pause).await {
            Ok(sessions) => tracing::debug!(sessions, "backups that are gone were purged"),
            Err(error) => tracing::warn!(%error, "backups that are gone can't be purged"),
        }
    }
}

/// One pass with the lease. `None` if it wasn't finished: another process has the lease, or takes it on the
/// way, or it is to stop.
async fn collect(
    store: &Store,
    how: Collecting,
    stop: &CancellationToken,
) -> Result<Option<Collected>> {
    let (name, length) = LEASE;
    let Some(lease) = Lease::take(store, name, Some(length)).await? else {
        return Ok(None);
    };
    let pass = Pass {
        store,
        lease: &lease,
        how,
    };
    let done = stop.run_until_cancelled(pass.all_rooms()).await;
    // The same process takes away what has been told to everybody, and what nobody comes for.
    let others = async {
        let devices = async {
            match how.expire_devices_after {
                Some(age) => store.expire_devices(age, how.pause).await.map(drop),
                None => Ok(()),
            }
        };
        // One that fails keeps none of the others from their turn.
        let all = [
            store.purge_told(how.pause).await.map(drop),
            store.purge_sticky(how.pause).await.map(drop),
            store.purge_delayed(how.pause).await.map(drop),
            store.purge_backups(how.pause).await.map(drop),
            store.purge_sliding(how.pause).await.map(drop),
            devices.await,
            store.purge_to_device(how.pause).await.map(drop),
            pass.purge().await.map(drop),
        ];
        all.into_iter().collect::<Result<()>>()
    };
    let others = stop.run_until_cancelled(others).await;
    lease.release().await?;
    others.transpose()?;
    done.unwrap_or(Ok(None))
}

impl Store {
    /// One pass over all rooms. `None` if another process has the lease, or takes it on the way.
    pub async fn collect_snapshots(&self, how: Collecting) -> Result<Option<Collected>> {
        collect(self, how, &CancellationToken::new()).await
    }

    /// The next room, by number, that has snapshots or some on the list.
    async fn room_with_snapshots(&self, after: RoomNo) -> Result<Option<RoomNo>> {
        let query = self
            .sql("SELECT MIN(room) AS lowest FROM state_snapshot WHERE room > $1")
            .bind(after);
        let row = self.row(query).await?;
        Ok(match row {
            Some(row) => row.get("lowest")?,
            None => None,
        })
    }
}

/// How the end of a room's part went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swept {
    /// Everything was done.
    All,
    /// The list isn't what it was: a commit has referred to something on it.
    Moved,
    /// Another process works now.
    LeaseLost,
}

struct Pass<'a> {
    store: &'a Store,
    lease: &'a Lease,
    how: Collecting,
}

impl Pass<'_> {
    async fn all_rooms(&self) -> Result<Option<Collected>> {
        let mut done = Collected::default();
        let mut after = RoomNo(i64::MIN);
        while let Some(room) = self.store.room_with_snapshots(after).await? {
            if !self.lease.renew().await? {
                return Ok(None);
            }
            match self.room(room, &mut done).await {
                Ok(Swept::All) => {}
                Ok(Swept::Moved) => done.skipped += 1,
                Ok(Swept::LeaseLost) => return Ok(None),
                Err(Error::Failed(why)) => {
                    done.skipped += 1;
                    tracing::warn!(
                        room = room.0,
                        why,
                        "a room's snapshots can't be looked through"
                    );
                }
                Err(busy) => return Err(busy),
            }
            done.rooms += 1;
            after = room;
            self.pause().await;
        }
        Ok(Some(done))
    }

    async fn pause(&self) {
        if !self.how.pause.is_zero() {
            tokio::time::sleep(self.how.pause).await;
        }
    }

    /// The time before which something must have been listed to be deleted now.
    fn cutoff(&self) -> i64 {
        let now = self.store.clock().now_ms();
        now.saturating_sub(millis(self.how.grace))
    }

    async fn room(&self, room: RoomNo, done: &mut Collected) -> Result<Swept> {
        let cutoff = self.cutoff();
        let Some(marks) = self.marks(room, cutoff).await? else {
            return Err(Error::broken("the room has too many snapshots"));
        };
        // Looking through a large room takes a while.
        if !self.lease.renew().await? {
            return Ok(Swept::LeaseLost);
        }
        let swept = self.sweep(room, &marks, done).await?;
        if swept != Swept::All {
            return Ok(swept);
        }
        self.list(room, &marks, done).await
    }
}
