//! Who waits for what.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::engine::store::lock;
use crate::{Audience, Counters, Entry, RoomNo, UserNo};

#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: u64,
    waiters: HashMap<u64, Waiter>,
    rooms: HashMap<RoomNo, HashSet<u64>>,
    users: HashMap<UserNo, HashSet<u64>>,
}

#[derive(Debug, Clone)]
struct Waiter(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    notify: Notify,
    /// How often it was woken.
    count: AtomicU64,
}

impl Waiter {
    fn wake(&self) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.notify.notify_one();
    }
}

/// Wakes its holder for what concerns some rooms and one user. What happens between its making and
/// [`Interest::changed`] isn't lost: make it, then read the log, then wait.
#[derive(Debug)]
pub struct Interest {
    store: crate::Store,
    id: u64,
    user: Option<UserNo>,
    rooms: Vec<RoomNo>,
    signal: Arc<Signal>,
    seen: AtomicU64,
}

impl Interest {
    pub(crate) fn new(store: &crate::Store, rooms: &[RoomNo], user: Option<UserNo>) -> Self {
        let signal = Arc::<Signal>::default();
        let mut waiting = lock(&store.core.tail.waiting);
        waiting.next += 1;
        let id = waiting.next;
        waiting.waiters.insert(id, Waiter(signal.clone()));
        for room in rooms {
            waiting.rooms.entry(*room).or_default().insert(id);
        }
        if let Some(user) = user {
            waiting.users.entry(user).or_default().insert(id);
        }
        drop(waiting);
        Self {
            store: store.clone(),
            id,
            user,
            rooms: rooms.to_vec(),
            signal,
            seen: AtomicU64::new(0),
        }
    }

    /// Waits until something of interest happened since the interest was made or this last returned.
    /// It may wake once for nothing.
    pub async fn changed(&self) {
        loop {
            let count = self.signal.count.load(Ordering::Acquire);
            if self.seen.swap(count, Ordering::AcqRel) != count {
                return;
            }
            self.store.counters().waits(1);
            self.signal.notify.notified().await;
        }
    }

    /// From now on wakes for these rooms instead. Cheap where they are the same.
    pub fn set_rooms(&mut self, rooms: &[RoomNo]) {
        if self.rooms == rooms {
            return;
        }
        let mut waiting = lock(&self.store.core.tail.waiting);
        let before: HashSet<_> = self.rooms.iter().copied().collect();
        let after: HashSet<_> = rooms.iter().copied().collect();
        for room in before.difference(&after) {
            waiting.leave_room(*room, self.id);
        }
        for room in after.difference(&before) {
            waiting.rooms.entry(*room).or_default().insert(self.id);
        }
        drop(waiting);
        self.rooms = rooms.to_vec();
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut waiting = lock(&self.store.core.tail.waiting);
        waiting.waiters.remove(&self.id);
        for room in &self.rooms {
            waiting.leave_room(*room, self.id);
        }
        if let Some(user) = self.user
            && let Some(ids) = waiting.users.get_mut(&user)
        {
            ids.remove(&self.id);
            if ids.is_empty() {
                waiting.users.remove(&user);
            }
        }
    }
}

impl Waiting {
    fn leave_room(&mut self, room: RoomNo, id: u64) {
        if let Some(ids) = self.rooms.get_mut(&room) {
            ids.remove(&id);
            if ids.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }
}

impl Waiting {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn readers(&self) -> usize {
        self.waiters.len()
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        self.waiters.values().for_each(Waiter::wake);
    }

    /// Wakes whom the entries concern, each once.
    pub(super) fn wake_for(&self, entries: &[Arc<Entry>], counters: &Counters) {
        if self.waiters.is_empty() {
            return;
        }
        let (mut rooms, mut users) = (HashSet::new(), HashSet::new());
        for entry in entries {
            match entry.kind.audience() {
                Audience::Nobody => {}
                Audience::User(user) => drop(users.insert(user)),
                Audience::Room(room) => drop(rooms.insert(room)),
                Audience::RoomAnd(room, user) => {
                    rooms.insert(room);
                    users.insert(user);
                }
            }
        }
        let of_rooms = rooms.iter().filter_map(|room| self.rooms.get(room));
        let of_users = users.iter().filter_map(|user| self.users.get(user));
        self.wake(
            of_rooms.chain(of_users).flatten().copied().collect(),
            counters,
        );
    }

    pub(super) fn wake_rooms(&self, rooms: &[RoomNo], counters: &Counters) {
        let ids = rooms.iter().filter_map(|room| self.rooms.get(room));
        self.wake(ids.flatten().copied().collect(), counters);
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is made for this")]
    fn wake(&self, ids: HashSet<u64>, counters: &Counters) {
        for waiter in ids.iter().filter_map(|id| self.waiters.get(id)) {
            waiter.wake();
        }
        counters.wake_ups(ids.len());
    }
}
