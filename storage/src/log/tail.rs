//! The log's recent end in memory, shared by all readers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::engine::lock;
use crate::facts::entry::LiveEvent;
use crate::log::waiting::{Sharing, Waiters};
use crate::{Counters, Entry, EntryKind, EventNo, Pos, RoomNo, StoredEvent};

/// The log's end: complete after `floor`, up to `head`.
#[derive(Debug)]
pub(crate) struct Tail {
    most_entries: usize,
    most_bytes: usize,
    ring: RwLock<Ring>,
    head: watch::Sender<Pos>,
    pub(super) waiting: Mutex<Waiters>,
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
            EntryKind::Event(entry) => Some(entry.event.clone()),
            _ => None,
        }
    }

    /// The events of a room that the tail holds.
    pub(crate) fn events_of(&self, room: RoomNo) -> Vec<EventNo> {
        let ring = self.read();
        let events = ring
            .entries
            .iter()
            .filter_map(|(entry, _)| match &entry.kind {
                EntryKind::Event(entry) if entry.room == room => Some(entry.event.no),
                _ => None,
            });
        events.collect()
    }

    /// Puts another form of an event (its redacted one) in the place of the one that it has. One that has lost its place
    /// in the history goes.
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
        if !event.is_history() {
            ring.events.remove(&event.no);
            if let Some((_, bytes)) = ring.entries.remove(index) {
                ring.bytes -= bytes;
            }
        } else if let Some((entry, _)) = ring.entries.get_mut(index) {
            *entry = Arc::new(Entry {
                pos,
                kind: EntryKind::Event(LiveEvent {
                    room: event.room,
                    event: event.clone(),
                }),
            });
        }
    }

    /// Adds `entries`, ascending and all after the head, which becomes `head`. Call with `filling` held.
    pub(super) fn append(
        &self,
        entries: &[Arc<Entry>],
        head: Pos,
        sharing: &Sharing,
        counters: &Counters,
    ) {
        {
            let mut ring = self.write();
            for entry in entries {
                let bytes = 200 + entry.kind.weight();
                match &entry.kind {
                    EntryKind::Event(event) => {
                        ring.events.insert(event.event.no, entry.pos);
                    }
                    EntryKind::State(state) => {
                        let places = ring.changes.entry(state.room).or_default();
                        places.push_back(entry.pos);
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
        lock(&self.waiting).wake_for(entries, sharing, counters);
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
        lock(&self.waiting).forget_all();
    }
}

impl Ring {
    /// Takes an entry that was dropped, the oldest, out of the indexes.
    fn forget(&mut self, dropped: &Entry) {
        match &dropped.kind {
            EntryKind::Event(event) => {
                self.events.remove(&event.event.no);
            }
            EntryKind::State(state) => {
                let Some(places) = self.changes.get_mut(&state.room) else {
                    return;
                };
                places.pop_front();
                if places.is_empty() {
                    self.changes.remove(&state.room);
                }
            }
            _ => {}
        }
    }
}

impl Tail {
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn readers(&self) -> usize {
        lock(&self.waiting).readers()
    }

    /// Wakes who waits for one of these rooms.
    pub(crate) fn wake_rooms(&self, rooms: &[RoomNo], counters: &Counters) {
        if !rooms.is_empty() {
            lock(&self.waiting).wake_rooms(rooms, counters);
        }
    }
}
