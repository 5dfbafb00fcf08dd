//! The log: what everybody must be told, in one order.
//!
//! Our own commits join the tail with what they have in hand. What other processes have committed is
//! read from the database when the counter says that there is more, before anything later is added;
//! so the tail has no gaps, and what the caches hold about those rooms and users is forgotten first.

pub(crate) mod entry;
pub(crate) mod ephemeral;
pub(crate) mod tail;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::any::AnyRow;
use tokio::sync::watch;

use crate::engine::db::{Columns as _, json_numbers, signed};
use crate::rooms::members::from_code;
use crate::{
    AccountData, Entry, EntryKind, EventNo, Interest, KeyNo, Pos, Receipt, Result, RoomNo, Store,
    StoredEvent, UserNo,
};

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
        let row = self
            .store
            .sql(POLL)
            .fetch_optional(&self.store.core.readers);
        let Some(row) = row.await? else {
            return Ok(before);
        };
        if let Some(epoch) = row.raw_opt(1)? {
            self.store.take_epoch(epoch);
        }
        let upto = Pos(row.int(0)?);
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

    /// Wakes for log entries and typing in `rooms`, and for log entries that concern `user` (account
    /// data, invites, their own membership in any room, revoked tokens).
    pub fn interest(&self, rooms: &[RoomNo], user: Option<UserNo>) -> Interest {
        Interest::new(&self.store, rooms, user)
    }

    /// The entries with `after < pos ≤ upto`, from memory; `None` if the tail doesn't go back that far.
    pub fn tail(&self, after: Pos, upto: Pos) -> Option<Vec<Arc<Entry>>> {
        self.store.core.tail.range(after, upto, usize::MAX)
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
        let row = self
            .sql("SELECT pos FROM counter WHERE id = 1")
            .fetch_optional(&self.core.readers)
            .await?;
        Ok(row.map(|row| row.int(0)).transpose()?.map_or(Pos(0), Pos))
    }

    /// Takes everything up to `upto`, which is committed, into the tail. Call with `filling` held.
    pub(crate) async fn pull(&self, upto: Pos) -> Result<()> {
        let tail = &self.core.tail;
        let most_entries = signed(self.core.options.tail_entries);
        if upto.0 - tail.head().0 > most_entries {
            // Further behind than the tail is long: nothing of what the caches hold can be trusted.
            self.forget_everything();
            tail.skip_to(upto);
            self.forget_everything();
            return Ok(());
        }
        while tail.head() < upto {
            let entries = self.read_log(tail.head(), upto, PULL, true).await?;
            let head = match entries.last() {
                Some(last) if entries.len() == PULL => last.pos,
                _ => upto,
            };
            self.absorb(&entries).await?;
            tail.append(&entries, head, &self.core.counters);
        }
        Ok(())
    }

    /// Forgets what the entries, made by other processes, have changed.
    async fn absorb(&self, entries: &[Arc<Entry>]) -> Result<()> {
        let caches = &self.core.caches;
        let create = self.known_key("m.room.create", "").await?;
        let live: HashSet<EventNo> = (entries.iter())
            .filter_map(|entry| match &entry.kind {
                EntryKind::Event { event, .. } => Some(event.no),
                _ => None,
            })
            .collect();
        let mut redacted = Vec::new();
        let restored = restored(entries);
        if !restored.is_empty() {
            let events = self.reload_events(&restored).await?;
            redacted.extend(
                events
                    .iter()
                    .filter_map(|event| event.pdu.redacts())
                    .map(ToOwned::to_owned),
            );
        }
        for entry in entries {
            match &entry.kind {
                EntryKind::Event { room, event } => {
                    caches.rooms.remove(room);
                    redacted.extend(event.pdu.redacts().map(ToOwned::to_owned));
                }
                EntryKind::State {
                    room,
                    key,
                    new,
                    member,
                    ..
                } => {
                    caches.rooms.remove(room);
                    if let Some((user, _)) = member {
                        caches.memberships.remove(user);
                        caches.joined_servers.remove(room);
                    }
                    if new.is_some_and(|new| Some(*key) == create && !live.contains(&new)) {
                        // The state of a room that the other process has joined: given, not told.
                        caches.memberships.clear();
                        caches.joined_servers.remove(room);
                    }
                }
                EntryKind::Invite { user, .. } => caches.memberships.remove(user),
                EntryKind::TokenRevoked { device: None, .. } => self.forget_erasures(),
                EntryKind::Restored { .. }
                | EntryKind::Receipt(_)
                | EntryKind::AccountData(_)
                | EntryKind::DeviceList { .. }
                | EntryKind::TokenRevoked { .. } => {}
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

    fn forget_everything(&self) {
        let caches = &self.core.caches;
        caches.events.clear();
        caches.rooms.clear();
        caches.memberships.clear();
        caches.joined_servers.clear();
    }

    /// The first `limit` entries with `after < pos ≤ upto` from the database; fewer than that only if
    /// there are no more. `fresh`: made by other processes, so what the caches hold of these events
    /// is older.
    async fn read_log(
        &self,
        after: Pos,
        upto: Pos,
        limit: usize,
        fresh: bool,
    ) -> Result<Vec<Arc<Entry>>> {
        // A window of N positions holds at most N entries, and fewer where facts have moved on.
        let mut window = signed(limit).clamp(1, 10_000);
        let mut after = after;
        let mut entries = Vec::new();
        while after < upto && entries.len() < limit {
            let to = Pos(after.0.saturating_add(window).min(upto.0));
            let rows = self.rows(self.sql(READ).bind(after.0).bind(to.0)).await?;
            let details = self.details(&rows, fresh).await?;
            for row in &rows {
                let pos = Pos(row.int(1)?);
                if let Some(kind) = details.kind_of(row, pos)? {
                    entries.push(Arc::new(Entry { pos, kind }));
                }
            }
            after = to;
            window = (window * 2).min(10_000);
        }
        entries.truncate(limit);
        Ok(entries)
    }

    async fn details(&self, rows: &[AnyRow], fresh: bool) -> Result<Details> {
        let (mut events, mut receipts, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row.int(0)? {
                EVENT => events.push(EventNo(row.int(3)?)),
                RECEIPT => receipts.push(row.int(1)?),
                ACCOUNT_DATA => data.push(row.int(1)?),
                _ => {}
            }
        }
        let mut details = Details::default();
        if !events.is_empty() {
            let events = if fresh {
                self.reload_events(&events).await?
            } else {
                let distinct: HashSet<_> = events.into_iter().collect();
                let distinct: Vec<_> = distinct.into_iter().collect();
                self.events_by_no(&distinct).await?
            };
            details.events = events.into_iter().map(|event| (event.no, event)).collect();
        }
        if !receipts.is_empty() {
            let receipts = self.receipts_at(json_numbers(receipts)).await?;
            details.receipts = receipts
                .into_iter()
                .map(|found| (found.pos, found))
                .collect();
        }
        if !data.is_empty() {
            let data = self.account_data_at(json_numbers(data)).await?;
            details.data = data.into_iter().map(|found| (found.pos, found)).collect();
        }
        Ok(details)
    }
}

/// What other processes have done, and whether one of them, or the command line, has renewed the epoch.
const POLL: &str =
    "SELECT pos, (SELECT value FROM meta WHERE name = 'epoch') FROM counter WHERE id = 1";

const EVENT: i64 = 1;
const STATE: i64 = 2;
const RECEIPT: i64 = 3;
const ACCOUNT_DATA: i64 = 4;
const INVITE: i64 = 5;
const DEVICE_LIST: i64 = 6;
const REVOCATION: i64 = 7;
const RESTORED: i64 = 8;

/// The events that these entries say have got their content.
fn restored(entries: &[Arc<Entry>]) -> Vec<EventNo> {
    let restored = entries.iter().filter_map(|entry| match entry.kind {
        EntryKind::Restored { event, .. } => Some(event),
        _ => None,
    });
    restored.collect()
}

/// (kind, position, and what this kind needs) of every table that has positions.
const READ: &str = "\
    SELECT k, pos, a, b, c, d, e, f, t FROM (\
    SELECT 1 AS k, ord AS pos, room AS a, no AS b, CAST(NULL AS BIGINT) AS c, \
    CAST(NULL AS BIGINT) AS d, CAST(NULL AS BIGINT) AS e, CAST(NULL AS BIGINT) AS f, \
    CAST(NULL AS TEXT) AS t \
    FROM event WHERE ord IS NOT NULL AND ord > $1 AND ord <= $2 \
    UNION ALL SELECT 2, pos, room, state_key, old_event, new_event, member, membership, NULL \
    FROM state_change WHERE pos > $1 AND pos <= $2 \
    UNION ALL SELECT 3, pos, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    FROM receipt WHERE pos > $1 AND pos <= $2 \
    UNION ALL SELECT 4, pos, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    FROM account_data WHERE pos > $1 AND pos <= $2 \
    UNION ALL SELECT 5, pos, user_no, room, gone, NULL, NULL, NULL, NULL \
    FROM invite WHERE pos > $1 AND pos <= $2 \
    UNION ALL SELECT 6, pos, user_no, NULL, NULL, NULL, NULL, NULL, NULL \
    FROM device_list WHERE pos > $1 AND pos <= $2 \
    UNION ALL SELECT 7, pos, user_no, NULL, NULL, NULL, NULL, NULL, device \
    FROM revocation WHERE pos > $1 AND pos <= $2 \
    UNION ALL SELECT 8, pos, room, event, NULL, NULL, NULL, NULL, NULL \
    FROM restored WHERE pos > $1 AND pos <= $2\
    ) AS entries ORDER BY pos";

/// What the entries of one page refer to.
#[derive(Default)]
struct Details {
    events: HashMap<EventNo, Arc<StoredEvent>>,
    receipts: HashMap<Pos, Arc<Receipt>>,
    data: HashMap<Pos, Arc<AccountData>>,
}

impl Details {
    /// `None` if the fact has moved on in the meantime: it stands at a later position.
    fn kind_of(&self, row: &AnyRow, pos: Pos) -> Result<Option<EntryKind>> {
        Ok(match row.int(0)? {
            EVENT => self
                .events
                .get(&EventNo(row.int(3)?))
                .map(|event| EntryKind::Event {
                    room: event.room,
                    event: event.clone(),
                }),
            STATE => Some(EntryKind::State {
                room: RoomNo(row.int(2)?),
                key: KeyNo(row.int(3)?),
                old: row.int_opt(4)?.map(EventNo),
                new: row.int_opt(5)?.map(EventNo),
                member: match (row.int_opt(6)?, row.int_opt(7)?) {
                    (Some(user), Some(code)) => Some((UserNo(user), from_code(code)?)),
                    _ => None,
                },
            }),
            RECEIPT => self.receipts.get(&pos).cloned().map(EntryKind::Receipt),
            ACCOUNT_DATA => self.data.get(&pos).cloned().map(EntryKind::AccountData),
            INVITE => Some(EntryKind::Invite {
                user: UserNo(row.int(2)?),
                room: RoomNo(row.int(3)?),
                gone: row.int(4)? != 0,
            }),
            DEVICE_LIST => Some(EntryKind::DeviceList {
                user: UserNo(row.int(2)?),
            }),
            REVOCATION => Some(EntryKind::TokenRevoked {
                user: UserNo(row.int(2)?),
                device: row.text_opt(8)?.map(Into::into),
            }),
            RESTORED => Some(EntryKind::Restored {
                room: RoomNo(row.int(2)?),
                event: EventNo(row.int(3)?),
            }),
            kind => return Err(crate::Error::broken(format!("log entry of kind {kind}"))),
        })
    }
}
