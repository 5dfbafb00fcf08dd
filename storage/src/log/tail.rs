//! The log's recent end in memory, shared by all readers, and who waits for what.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Notify, watch};

use crate::engine::store::lock;
use crate::{Counters, Entry, EntryKind, EventNo, Pos, RoomNo, StoredEvent, UserNo};

/// The log's end: complete after `floor`, up to `head`.
#[derive(Debug)]
pub(crate) struct Tail {
    most_entries: usize,
    most_bytes: usize,
    ring: RwLock<Ring>,
    head: watch::Sender<Pos>,
    waiting: Mutex<Waiting>,
    /// Held while entries are added, so that they are added in order.
    pub(crate) filling: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Ring {
    floor: Pos,
    head: Pos,
    entries: VecDeque<(Arc<Entry>, usize)>,
    bytes: usize,
    /// Where in the log an event in the ring stands, to replace it when it is redacted.
    events: HashMap<EventNo, Pos>,
    /// Where in the ring each room's current state changed.
    changes: HashMap<RoomNo, VecDeque<Pos>>,
}

impl Tail {
    pub(crate) fn new(head: Pos, most_entries: usize, most_bytes: usize) -> Self {
        Self {
            most_entries,
            most_bytes,
            ring: RwLock::new(Ring {
                floor: head,
                head,
                entries: VecDeque::new(),
                bytes: 0,
                events: HashMap::new(),
                changes: HashMap::new(),
            }),
            head: watch::Sender::new(head),
            waiting: Mutex::default(),
            filling: tokio::sync::Mutex::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ring> {
        self.ring
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn head(&self) -> Pos {
        *self.head.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Pos> {
        self.head.subscribe()
    }

    /// The entries after `after`, up to `upto`, at most `limit` of them; `None` if they go back
    /// further than the tail does.
    pub(crate) fn range(&self, after: Pos, upto: Pos, limit: usize) -> Option<Vec<Arc<Entry>>> {
        let ring = self.read();
        if after < ring.floor {
            return None;
        }
        let start = ring
            .entries
            .partition_point(|(entry, _)| entry.pos <= after);
        let found = ring.entries.range(start..);
        let found = found.take_while(|(entry, _)| entry.pos <= upto).take(limit);
        Some(found.map(|(entry, _)| entry.clone()).collect())
    }

    /// The changes of a room's current state with `after < pos ≤ upto`; `None` if they go back further
    /// than the tail does.
    pub(crate) fn changes(&self, room: RoomNo, after: Pos, upto: Pos) -> Option<Vec<Arc<Entry>>> {
        let ring = self.read();
        if after < ring.floor {
            return None;
        }
        let Some(places) = ring.changes.get(&room) else {
            return Some(Vec::new());
        };
        let start = places.partition_point(|pos| *pos <= after);
        let within = places.range(start..).take_while(|pos| **pos <= upto);
        let entry = |pos: &Pos| {
            let found = ring
                .entries
                .binary_search_by_key(pos, |(entry, _)| entry.pos);
            Some(ring.entries.get(found.ok()?)?.0.clone())
        };
        Some(within.filter_map(entry).collect())
    }

    /// The event, if the tail holds it.
    pub(crate) fn event(&self, no: EventNo) -> Option<Arc<StoredEvent>> {
        let ring = self.read();
        let pos = *ring.events.get(&no)?;
        let index = ring
            .entries
            .binary_search_by_key(&pos, |(entry, _)| entry.pos)
            .ok()?;
        match &ring.entries.get(index)?.0.kind {
            EntryKind::Event { event, .. } => Some(event.clone()),
            _ => None,
        }
    }

    /// Puts another form of an event (its redacted one) in the place of the one that it has.
    pub(crate) fn replace_event(&self, event: &Arc<StoredEvent>) {
        let mut ring = self.write();
        let Some(pos) = ring.events.get(&event.no).copied() else {
            return;
        };
        let Ok(index) = ring
            .entries
            .binary_search_by_key(&pos, |(entry, _)| entry.pos)
        else {
            return;
        };
        if let Some((entry, _)) = ring.entries.get_mut(index) {
            *entry = Arc::new(Entry {
                pos,
                kind: EntryKind::Event {
                    room: event.room,
                    event: event.clone(),
                },
            });
        }
    }

    /// Adds `entries`, ascending and all after the head, which becomes `head`. Call with `filling` held.
    pub(crate) fn append(&self, entries: &[Arc<Entry>], head: Pos, counters: &Counters) {
        {
            let mut ring = self.write();
            for entry in entries {
                let bytes = weigh(entry);
                match &entry.kind {
                    EntryKind::Event { event, .. } => {
                        ring.events.insert(event.no, entry.pos);
                    }
                    EntryKind::State { room, .. } => {
                        ring.changes.entry(*room).or_default().push_back(entry.pos);
                    }
                    _ => {}
                }
                ring.bytes += bytes;
                ring.entries.push_back((entry.clone(), bytes));
            }
            while ring.entries.len() > self.most_entries || ring.bytes > self.most_bytes {
                let Some((dropped, bytes)) = ring.entries.pop_front() else {
                    break;
                };
                ring.bytes -= bytes;
                ring.floor = dropped.pos;
                ring.forget(&dropped);
            }
            ring.head = head;
        }
        self.head.send_replace(head);
        self.wake(entries, counters);
    }

    /// Forgets everything up to `head` (a reader that fell too far behind starts from there).
    pub(crate) fn skip_to(&self, head: Pos) {
        {
            let mut ring = self.write();
            ring.entries.clear();
            ring.events.clear();
            ring.changes.clear();
            ring.bytes = 0;
            ring.floor = head;
            ring.head = head;
        }
        self.head.send_replace(head);
        lock(&self.waiting).waiters.values().for_each(Waiter::wake);
    }
}

impl Ring {
    /// Takes an entry that was dropped, the oldest, out of the indexes.
    fn forget(&mut self, dropped: &Entry) {
        match &dropped.kind {
            EntryKind::Event { event, .. } => {
                self.events.remove(&event.no);
            }
            EntryKind::State { room, .. } => {
                let Some(places) = self.changes.get_mut(room) else {
                    return;
                };
                places.pop_front();
                if places.is_empty() {
                    self.changes.remove(room);
                }
            }
            _ => {}
        }
    }
}

/// About how many bytes an entry holds.
fn weigh(entry: &Entry) -> usize {
    200 + match &entry.kind {
        // Its JSON, the parsed content, and the client form.
        EntryKind::Event { event, .. } => 500 + 3 * event.pdu.json().len(),
        EntryKind::AccountData(data) => data.content.len(),
        _ => 0,
    }
}

// ---- who waits for what

#[derive(Debug, Default)]
struct Waiting {
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

impl Tail {
    fn wake(&self, entries: &[Arc<Entry>], counters: &Counters) {
        let waiting = lock(&self.waiting);
        if waiting.waiters.is_empty() {
            return;
        }
        let mut ids = HashSet::new();
        let (mut rooms, mut users) = (HashSet::new(), HashSet::new());
        for entry in entries {
            if let Some(room) = entry.room().filter(|_| concerns_room(entry))
                && rooms.insert(room)
            {
                ids.extend(waiting.rooms.get(&room).into_iter().flatten());
            }
            if let Some(user) = entry.user()
                && users.insert(user)
            {
                ids.extend(waiting.users.get(&user).into_iter().flatten());
            }
        }
        waiting.wake(&ids, counters);
    }

    pub(crate) fn wake_rooms(&self, rooms: &[RoomNo], counters: &Counters) {
        if rooms.is_empty() {
            return;
        }
        let waiting = lock(&self.waiting);
        let waiters = rooms.iter().filter_map(|room| waiting.rooms.get(room));
        let ids: HashSet<u64> = waiters.flatten().copied().collect();
        waiting.wake(&ids, counters);
    }
}

impl Waiting {
    fn wake(&self, ids: &HashSet<u64>, counters: &Counters) {
        for waiter in ids.iter().filter_map(|id| self.waiters.get(id)) {
            waiter.wake();
        }
        counters.wake_ups(ids.len());
    }
}

/// Whether those in the entry's room want to hear of it, or only its user.
fn concerns_room(entry: &Entry) -> bool {
    matches!(
        entry.kind,
        EntryKind::Event { .. } | EntryKind::State { .. } | EntryKind::Receipt(_)
    )
}
