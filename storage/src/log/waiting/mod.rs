//! Who waits for what.
//!
//! A connection waits for its user ([`Interest`]); which rooms the user is in is known apart from that, from
//! when somebody first waits for them until they are forgotten ([`Waiters`]), and the log keeps it true. So a
//! poll registers one thing, and joins and leaves need nothing of those who wait.
//!
//! # Why no wake-up is lost
//!
//! Who waits does three things in this order: makes the interest and lets it [`listen`](Interest::listen),
//! reads the log's head and what there is up to it, waits. Take an entry that concerns them:
//!
//! - It is not after the head that was read: then it is among what was read.
//! - It is after that head. The tail moves the head first and then, for the same entry, looks who waits. So
//!   it looks after the interest was made, finds it if it finds the user, and counts its signal up; and
//!   [`changed`](Interest::changed) compares that count with what it had seen before, whether the signal comes
//!   before it or while it waits.
//!
//! It finds the user if the entry names them, or if they are known to be in the room. What is known was the
//! database's answer and is changed by each entry that changes a membership, in the log's order and under one
//! lock with looking who waits. An answer that was asked for before such an entry came is not taken, but asked
//! for again ([`Waiters::learn`]). It may be newer than the log in this process: then the entry that tells of
//! the change is still to come, and it names the user. What changes without an entry (the state of a room that
//! we come into) is told by whoever writes it; where that was another process, the database is asked who of
//! the known users is in the room by now, and an answer from before that question doesn't count. A process that
//! falls too far behind the log forgets everything; whoever is forgotten is woken.

#[cfg(test)]
mod tests;
mod waiters;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rhizome_protocol::Membership;

use self::waiters::Signal;
pub(super) use self::waiters::{Sharing, Waiters};
use crate::engine::lock;
use crate::engine::sql::Columns as _;
use crate::{Audience, Counters, Entry, Result, RoomNo, Store, UserNo};

/// Wakes its holder for what concerns a user: entries of the log and typing in the rooms that they are in,
/// and entries for themselves (account data, invites, their own membership in any room, revoked tokens).
#[derive(Debug)]
pub struct Interest {
    store: Store,
    user: UserNo,
    id: u64,
    signal: Arc<Signal>,
    seen: AtomicU64,
}

impl Interest {
    pub(crate) fn new(store: &Store, user: UserNo) -> Self {
        let (id, signal) = lock(&store.core.tail.waiting).add(user);
        Self {
            store: store.clone(),
            user,
            id,
            signal,
            seen: AtomicU64::new(0),
        }
    }

    /// Makes sure that the user's rooms are known. To be called before the log is read, each time: what was
    /// known may have been forgotten. From here on nothing is missed.
    pub async fn listen(&self) -> Result<()> {
        loop {
            let Some(moment) = lock(&self.store.core.tail.waiting).unknown(self.user) else {
                return Ok(());
            };
            let rows = self.store.memberships_of(self.user).await?;
            let joined = rows.iter().filter(|row| row.membership == Membership::Join);
            let rooms = joined.map(|row| row.room).collect();
            lock(&self.store.core.tail.waiting).learn(self.user, moment, rooms);
        }
    }

    /// Wakes for profiles, too, that change of those with whom the user shares a room. To be called before the first
    /// [`listen`](Self::listen).
    pub fn follow_profiles(&self) {
        self.signal.follows.store(true, Ordering::Release);
    }

    /// Wakes for presence, too, of those with whom the user shares a room, though not for each change at once.
    pub fn follow_presence(&self, follows: bool) {
        self.signal.presence.store(follows, Ordering::Release);
    }

    /// Waits until something of interest happened since the interest was made or this last returned.
    /// It may wake once for nothing.
    pub async fn changed(&self) {
        self.signal.changed(&self.seen, self.store.counters()).await;
    }
}

impl Store {
    /// The memberships of those whose rooms' members these entries concern, as of the last of them at least.
    pub(super) async fn sharing(&self, entries: &[Arc<Entry>]) -> Result<Sharing> {
        let mut sharing = Sharing::new();
        for entry in entries {
            if let Audience::Sharing(user) | Audience::Following(user) = entry.kind.audience()
                && !sharing.contains_key(&user)
            {
                sharing.insert(user, self.memberships_of(user).await?);
            }
        }
        Ok(sharing)
    }

    /// Memberships have changed without entries that say so.
    pub(crate) fn members_given(&self, room: RoomNo, members: &[(UserNo, Membership)]) {
        if !members.is_empty() {
            let mut waiting = lock(&self.core.tail.waiting);
            for (user, membership) in members {
                waiting.member(room, *user, *membership);
            }
        }
        for (user, membership) in members {
            self.core.presence.member(room, *user, *membership);
        }
    }

    /// Another process has come into a room whose state was given to it, and no entries say who is there.
    pub(crate) async fn given_elsewhere(&self, room: RoomNo) -> Result<()> {
        let known = lock(&self.core.tail.waiting).known();
        if known.is_empty() {
            return Ok(());
        }
        let query = self
            .sql("SELECT user_no FROM membership WHERE room = $1 AND membership = 1")
            .bind(room);
        let known: HashSet<UserNo> = known.into_iter().collect();
        let mut joined = Vec::new();
        for row in self.rows(query).await? {
            let user = row.get("user_no")?;
            if known.contains(&user) {
                joined.push((user, Membership::Join));
            }
        }
        self.members_given(room, &joined);
        Ok(())
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        lock(&self.store.core.tail.waiting).remove(self.user, self.id);
    }
}

impl Signal {
    async fn changed(&self, seen: &AtomicU64, counters: &Counters) {
        // What came while nobody waited is no delivery: it may have been read already.
        self.committed.store(0, Ordering::Relaxed);
        let mut waited = false;
        loop {
            let count = self.count.load(Ordering::Acquire);
            if seen.swap(count, Ordering::AcqRel) != count {
                if waited {
                    let committed = self.committed.swap(0, Ordering::Relaxed);
                    counters.timings().delivered(committed);
                }
                return;
            }
            counters.waits(1);
            self.notify.notified().await;
            waited = true;
        }
    }
}
