//! The log: what everybody must be told, in one order.
//!
//! Our own commits join the tail with what they have in hand. What other processes have committed is
//! read from the database when the counter says that there is more, before anything later is added;
//! so the tail has no gaps, and what the caches hold about those rooms and users is forgotten first.

pub(crate) mod bus;
pub(crate) mod ephemeral;
pub(crate) mod outbox;
pub(crate) mod positions;
pub(crate) mod presence;
mod read;
pub(crate) mod reader;
pub(crate) mod tail;
pub(crate) mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rhizome_protocol::{Membership, Pdu};
use tokio::sync::watch;

use crate::engine::sql::Columns as _;
use crate::{Entry, EntryKind, EventNo, Interest, Pos, Result, RoomNo, Store, UserNo};

/// How many entries of other processes are read at once.
const PULL: usize = 2_000;

/// A handle on the log.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) store: Store,
}

impl Log {
    /// Every entry up to here can be read, and every cache is true as of here.
    pub fn head(&self) -> Pos {
        self.store.core.tail.head()
    }

    /// Asks the database how far the log is (other processes write to it too), takes what is new into
    /// the tail, and gives the head. Costs nothing where there are no other processes.
    pub async fn refresh(&self) -> Result<Pos> {
        let core = &self.store.core;
        if !core.dialect.is_shared() && core.options.poll_interval.is_none() {
            return Ok(self.head());
        }
        core.counters.queries(1);
        self.catch_up(self.store.stored_head().await?).await
    }

    /// What [`Log::refresh`] does, by the clock; counted apart from what requests cost.
    pub(crate) async fn poll(&self) -> Result<Pos> {
        self.store.core.counters.polls(1);
        let before = self.head();
        let row = self.store.core.database.row(self.store.sql(POLL));
        let Some(row) = row.await? else {
            return Ok(before);
        };
        if let Some(epoch) = row.get::<Option<String>>("epoch")? {
            self.store.take_epoch(epoch);
        }
        let upto = row.get("pos")?;
        if upto < before {
            self.store.check_went_back(before).await?;
        }
        self.catch_up(upto).await
    }

    async fn catch_up(&self, upto: Pos) -> Result<Pos> {
        if upto > self.head() {
            let _filling = self.store.core.tail.filling.lock().await;
            self.store.pull(upto).await?;
        }
        Ok(self.head())
    }

    /// Says *that* the head moved, never *what* is new.
    pub fn subscribe(&self) -> watch::Receiver<Pos> {
        self.store.core.tail.subscribe()
    }

    /// A connection of the user waits; see [`Interest`].
    pub fn interest(&self, user: UserNo) -> Interest {
        Interest::new(&self.store, user)
    }

    /// The entries with `after < pos ≤ upto`, from memory; `None` if the tail doesn't go back that far.
    pub fn tail(&self, after: Pos, upto: Pos) -> Option<Vec<Arc<Entry>>> {
        self.store.core.tail.range(after, upto, usize::MAX)
    }

    /// Whether the tail goes back to `after`.
    pub fn reaches(&self, after: Pos, upto: Pos) -> bool {
        self.store.core.tail.range(after, upto, 1).is_some()
    }

    /// The changes of a room's current state with `after < pos ≤ upto`, if the tail goes back that far.
    pub fn state_changes(&self, room: RoomNo, after: Pos, upto: Pos) -> Option<Vec<Arc<Entry>>> {
        self.store.core.tail.changes(room, after, upto)
    }

    /// The first `limit` entries with `after < pos ≤ upto`: from memory if the tail goes back that far,
    /// else from the database. Fewer than `limit` means that there are no more up to `upto`. Give an
    /// `upto` that is not beyond [`Log::head`].
    pub async fn read(&self, after: Pos, upto: Pos, limit: usize) -> Result<Vec<Arc<Entry>>> {
        match self.store.core.tail.range(after, upto, limit) {
            Some(entries) => Ok(entries),
            None => self.store.read_log(after, upto, limit, false).await,
        }
    }
}

impl Store {
    /// Not counted as a query: who asks counts it.
    async fn stored_head(&self) -> Result<Pos> {
        let query = self.sql("SELECT pos FROM counter WHERE id = 1");
        let row = self.core.database.row(query).await?;
        row.map_or(Ok(Pos(0)), |row| row.get("pos"))
    }

    /// Takes everything up to `upto`, which is committed, into the tail. Call with `filling` held.
    pub(crate) async fn pull(&self, upto: Pos) -> Result<()> {
        let tail = &self.core.tail;
        let most_entries = i64::try_from(self.core.options.tail_entries).unwrap_or(i64::MAX);
        if upto.0 - tail.head().0 > most_entries {
            // Further behind than the tail is long: nothing of what the caches hold can be trusted.
            self.forget_everything();
            tail.skip_to(upto);
            self.forget_everything();
            self.core.presence.everybody_moved();
            return Ok(());
        }
        while tail.head() < upto {
            let entries = self.read_log(tail.head(), upto, PULL, true).await?;
            let head = match entries.last() {
                Some(last) if entries.len() == PULL => last.pos,
                _ => upto,
            };
            self.absorb(&entries).await?;
            self.append(&entries, head).await?;
        }
        Ok(())
    }

    /// Adds entries to the tail, whose end becomes `head`, and wakes whom they concern. Call with `filling` held, and
    /// when the caches have forgotten what the entries make stale.
    pub(crate) async fn append(&self, entries: &[Arc<Entry>], head: Pos) -> Result<()> {
        let sharing = self.sharing(entries).await?;
        let core = &self.core;
        core.tail.append(entries, head, &sharing, &core.counters);
        core.presence.follow(entries);
        Ok(())
    }

    /// Forgets what the entries, made by other processes, have changed.
    async fn absorb(&self, entries: &[Arc<Entry>]) -> Result<()> {
        let caches = &self.core.caches;
        let create = self.known_key("m.room.create", "").await?;
        let live: HashSet<EventNo> = (entries.iter())
            .filter_map(|entry| match &entry.kind {
                EntryKind::Event(entry) => Some(entry.event.no),
                _ => None,
            })
            .collect();
        let mut redacted = Vec::new();
        let restored = restored(entries);
        if !restored.is_empty() {
            let events = self.reload_events(&restored).await?;
            let targets = events.iter().filter_map(|event| event.pdu.redacts());
            redacted.extend(targets.map(ToOwned::to_owned));
            let members = events.iter().filter(|event| is_sent_away(&event.pdu));
            // A ban may redact any of its room's events.
            self.reload_held(members.map(|event| event.room)).await?;
        }
        for entry in entries {
            match &entry.kind {
                EntryKind::Event(entry) => {
                    caches.rooms.remove(&entry.room);
                    if let Some(target) = entry.event.pdu.redacts() {
                        redacted.push(target.to_owned());
                        caches.summaries.remove(&entry.room);
                    }
                }
                EntryKind::State(state) => {
                    caches.rooms.remove(&state.room);
                    if let Some((user, _)) = state.member {
                        caches.memberships.remove(&user);
                        caches.joined_servers.remove(&state.room);
                    } else {
                        caches.summaries.remove(&state.room);
                    }
                    if (state.new)
                        .is_some_and(|new| Some(state.key) == create && !live.contains(&new))
                    {
                        // The state of a room that the other process has joined: given, not told.
                        caches.memberships.clear();
                        caches.joined_servers.remove(&state.room);
                        self.given_elsewhere(state.room).await?;
                    }
                }
                EntryKind::Restored(entry) => caches.summaries.remove(&entry.room),
                EntryKind::StatusMessage(said) => {
                    let presence = self.presence();
                    presence.hear_words(said.user, said.message.clone(), said.pos);
                }
                EntryKind::MembersKnown(known) => {
                    caches.rooms.remove(&known.room);
                    caches.memberships.clear();
                    caches.summaries.remove(&known.room);
                    entry.kind.forget_fact(self);
                    self.given_elsewhere(known.room).await?;
                    // What was decided upon partial state has been decided again.
                    self.reload_held([known.room].into_iter()).await?;
                }
                fact => fact.forget_fact(self),
            }
        }
        if !redacted.is_empty() {
            let targets = self.event_nos(&redacted).await?.into_values();
            let held: Vec<_> = targets
                .filter(|no| self.remembered_event(*no).is_some())
                .collect();
            self.reload_events(&held).await?;
        }
        Ok(())
    }

    /// Any of these rooms' events may be another than what is held of it.
    async fn reload_held(&self, rooms: impl Iterator<Item = RoomNo>) -> Result<()> {
        for room in rooms.collect::<BTreeSet<_>>() {
            self.core.caches.events.clear();
            let held = self.core.tail.events_of(room);
            self.reload_events(&held).await?;
        }
        Ok(())
    }

    fn forget_everything(&self) {
        let caches = &self.core.caches;
        caches.events.clear();
        caches.rooms.clear();
        caches.memberships.clear();
        caches.joined_servers.clear();
        caches.key_counts.clear();
        caches.summaries.clear();
        caches.notifying.clear();
        caches.followers.clear();
        self.forget_erasures();
        self.forget_blocks();
        self.look_at_user_limits();
    }
}

/// What other processes have done, and whether one of them, or the command line, has renewed the epoch.
const POLL: &str = "\
    SELECT pos, (SELECT value FROM meta WHERE name = 'epoch') AS epoch FROM counter WHERE id = 1";

/// Whether this is a ban or a kick, which may have redacted what its user had sent.
fn is_sent_away(pdu: &Pdu) -> bool {
    pdu.kind() == "m.room.member"
        && matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban))
        && pdu.state_key() != Some(pdu.sender().as_str())
}

/// The events that these entries say have got their content.
fn restored(entries: &[Arc<Entry>]) -> Vec<EventNo> {
    let restored = entries.iter().filter_map(|entry| match entry.kind {
        EntryKind::Restored(restored) => Some(restored.event),
        _ => None,
    });
    restored.collect()
}
