//! The outbound sender: a reader of the log that delivers transactions to other servers.
//!
//! Per destination there is a cursor, the log position up to which it has got everything: events
//! (the commit that stored an event has stored its destinations) and public read receipts. Catching
//! up and normal work are one loop: gather what lies after the cursor, send it, move the cursor. The
//! cursor moves only after success, so nothing is lost; it is written to the database together with
//! others' a moment later, and when the sender stops, so an orderly restart repeats nothing.
//!
//! Ephemeral data has no place in the log: typing is one slot per room and user where the latest
//! wins, anything else a short queue.
//!
//! - [`batch`]: what one transaction holds.
//! - [`backoff`]: when a destination that failed is tried again.
//! - [`deliver`]: one destination's work.
//! - [`run`]: who has work to do, one task per busy destination and none for an idle one.
//!
//! Of several processes on one database, the one that holds the lease sends what is in the log.

mod backoff;
mod batch;
mod deliver;
mod lease;
pub mod typing;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rhizome_storage::{Clock, DestinationState, EntryKind, Error, LiveEvent, Pos};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::Federation;
use lease::Lease;

/// Destinations that are sent to at the same time.
const MAX_WORKERS: usize = 128;
/// Cursors are written to the database at most this often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Log entries that are looked at one by one; further behind, the database is asked as a whole.
const SCAN_LIMIT: usize = 1000;
/// Typing slots and other ephemeral data of one destination.
const MAX_TYPING: usize = 500;
const MAX_EDUS: usize = 500;
/// Queues kept in memory although there is nothing to do (their cursors spare a read).
const MAX_IDLE: usize = 5000;
/// How long to wait, when stopping, for answers to what is under way.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// An inbound request ends the back-off of its server, but not sooner than this after an attempt.
const SEEN_AFTER: i64 = 1000;

/// What the sender's parts share: a queue per destination.
pub struct Sender {
    clock: Clock,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queues: HashMap<OwnedServerName, Queue>,
    /// Those that may have something to do now.
    ready: BTreeSet<OwnedServerName>,
    /// Up to here the log has been looked at and the queues know of it; nobody sends beyond.
    looked_at: Pos,
    /// Tasks are to end after the transaction that is under way.
    stopping: bool,
    /// Positions of destinations that aren't written to the database yet.
    dirty: BTreeMap<OwnedServerName, DestinationState>,
}

#[derive(Default)]
struct Queue {
    /// A task is at it.
    running: bool,
    /// Where it stands; `None` until it is read from the database.
    stand: Option<DestinationState>,
    /// The log may hold something for it.
    log: bool,
    /// But no receipts: known since a look that found all there were.
    no_receipts: bool,
    typing: BTreeMap<(OwnedRoomId, OwnedUserId), bool>,
    edus: VecDeque<String>,
    /// When the last attempt ended, ms.
    attempted: i64,
    /// Events per transaction: fewer after a transaction was refused for what it holds.
    batch_limit: Option<usize>,
}

impl Queue {
    fn has_work(&self) -> bool {
        self.log || !self.typing.is_empty() || !self.edus.is_empty()
    }

    fn retry_at(&self) -> i64 {
        self.stand.map_or(0, |stand| {
            if stand.failures > 0 {
                stand.retry_at
            } else {
                0
            }
        })
    }
}

impl Sender {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request from `server` came in, so it is up: if it was being left alone, it is tried again.
    pub fn seen(&self, server: &ServerName) {
        let now = self.clock.now_ms();
        let mut state = self.state();
        let Some(queue) = state.queues.get_mut(server) else {
            return;
        };
        if queue.running || now.saturating_sub(queue.attempted) < SEEN_AFTER {
            return;
        }
        if let Some(stand) = &mut queue.stand
            && stand.failures > 0
            && stand.retry_at > now
        {
            stand.retry_at = now;
            state.ready.insert(server.to_owned());
            self.changed.notify_one();
        }
    }

    /// Tells servers that a user of ours types in a room, or has stopped. Of several such calls that
    /// couldn't be delivered yet, the latest counts.
    pub fn typing<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
        room: &RoomId,
        user: &UserId,
        typing: bool,
    ) {
        self.push(servers, |queue| {
            let slot = (room.to_owned(), user.to_owned());
            if queue.typing.len() < MAX_TYPING || queue.typing.contains_key(&slot) {
                queue.typing.insert(slot, typing);
            }
        });
    }

    /// Sends ephemeral data of any other type to servers: `content` of EDU type `kind`. If too much
    /// waits for a destination, the oldest is dropped.
    pub fn edu<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
        kind: &str,
        content: &Value,
    ) {
        let edu = batch::edu(kind, content);
        self.push(servers, |queue| {
            if queue.edus.len() >= MAX_EDUS {
                queue.edus.pop_front();
            }
            queue.edus.push_back(edu.clone());
        });
    }

    /// Where the sender stands with a destination, as far as it is in memory.
    pub fn stand(&self, server: &ServerName) -> Option<DestinationState> {
        self.state().queues.get(server)?.stand
    }

    /// The log has been looked at up to here. It may hold events for `events`, and receipts (or events)
    /// for `receipts`. In one step, so that no task goes up to here without knowing.
    fn looked_at<'a>(
        &self,
        upto: Pos,
        events: impl IntoIterator<Item = &'a OwnedServerName>,
        receipts: impl IntoIterator<Item = &'a OwnedServerName>,
    ) {
        let mut state = self.state();
        state.looked_at = upto;
        let events = events.into_iter().map(|server| (server, false));
        let receipts = receipts.into_iter().map(|server| (server, true));
        for (server, receipts) in events.chain(receipts) {
            let queue = state.queues.entry(server.clone()).or_default();
            queue.log = true;
            queue.no_receipts &= !receipts;
            state.ready.insert(server.clone());
            self.changed.notify_one();
        }
    }

    fn push<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
        mut change: impl FnMut(&mut Queue),
    ) {
        let mut state = self.state();
        let mut any = false;
        for server in servers {
            change(state.queues.entry(server.to_owned()).or_default());
            state.ready.insert(server.to_owned());
            any = true;
        }
        if any {
            self.changed.notify_one();
        }
    }

    /// Takes the destinations that can be worked on now, at most `limit`, and says when (ms) the next
    /// of those in back-off wants to be tried.
    fn due(&self, now: i64, limit: usize) -> (Vec<OwnedServerName>, Option<i64>) {
        let mut state = self.state();
        let State { queues, ready, .. } = &mut *state;
        let mut due = Vec::new();
        let mut next: Option<i64> = None;
        ready.retain(|server| {
            let Some(queue) = queues.get_mut(server) else {
                return false;
            };
            // A running task looks again before it ends.
            if queue.running || !queue.has_work() {
                return false;
            }
            let retry_at = queue.retry_at();
            if retry_at > now {
                next = Some(next.map_or(retry_at, |next| next.min(retry_at)));
                return true;
            }
            if due.len() >= limit {
                return true;
            }
            queue.running = true;
            due.push(server.clone());
            false
        });
        if queues.len() > MAX_IDLE {
            queues.retain(|_, queue| queue.running || queue.has_work());
        }
        (due, next)
    }

    /// A task has ended; what it left undone is looked at again.
    fn ended(&self, server: &ServerName) {
        let mut state = self.state();
        if let Some(queue) = state.queues.get_mut(server) {
            queue.running = false;
            if queue.has_work() {
                state.ready.insert(server.to_owned());
                self.changed.notify_one();
            }
        }
    }

    /// After tasks were aborted: nothing runs, and everything is looked at once more.
    fn restart(&self) {
        let mut state = self.state();
        state.stopping = false;
        let State { queues, ready, .. } = &mut *state;
        for (server, queue) in queues {
            queue.running = false;
            ready.insert(server.clone());
        }
    }

    /// What idle queues remember of the database: another process may have been sending.
    fn forget(&self) {
        for queue in self
            .state()
            .queues
            .values_mut()
            .filter(|queue| !queue.running)
        {
            queue.stand = None;
            queue.no_receipts = false;
        }
    }

    /// A destination stands here now; to be written down unless that is known.
    fn note(&self, server: &ServerName, stand: DestinationState) {
        let mut state = self.state();
        let before = state
            .queues
            .get_mut(server)
            .and_then(|queue| queue.stand.replace(stand));
        if before != Some(stand) {
            state.dirty.insert(server.to_owned(), stand);
        }
    }
}

/// Delivers until `stop` is cancelled; then writes the cursors down.
///
/// # Errors
/// The database failed. Run again: nothing is lost.
pub async fn run(fed: &Federation, stop: &CancellationToken) -> Result<(), Error> {
    let sender = fed.sender();
    sender.restart();
    let mut lease = Lease::new(fed.store());
    let mut workers = JoinSet::new();
    let outcome = dispatch(fed, stop, &mut lease, &mut workers).await;
    // What is under way may have arrived already: wait for the answers, so that nothing is repeated.
    sender.state().stopping = true;
    let answers = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, answers).await.is_err() {
        tracing::info!(
            workers = workers.len(),
            "transactions under way were given up"
        );
    }
    workers.shutdown().await;
    let flushed = flush(fed).await;
    lease.release().await?;
    outcome.and(flushed)
}

async fn dispatch(
    fed: &Federation,
    stop: &CancellationToken,
    lease: &mut Lease,
    workers: &mut JoinSet<(OwnedServerName, Result<(), Error>)>,
) -> Result<(), Error> {
    let sender = fed.sender();
    let mut heads = fed.store().log().subscribe();
    let mut read: Option<Pos> = None;
    let mut flushed = Instant::now();
    loop {
        let lease_due = lease.keep().await?;
        let head = *heads.borrow_and_update();
        match (lease.held(), read) {
            (false, _) => read = None,
            (true, None) => {
                flush(fed).await?;
                sender.forget();
                look_at_everything(fed, head).await?;
                read = Some(head);
            }
            (true, Some(before)) => {
                look_at_log(fed, before, head).await?;
                read = Some(head);
            }
        }
        let room = MAX_WORKERS.saturating_sub(workers.len());
        let (due, retry_at) = sender.due(fed.store().clock().now_ms(), room);
        for server in due {
            let fed = fed.clone();
            let held = lease.held();
            workers.spawn(async move {
                let result = deliver::deliver(&fed, &server, held).await;
                (server, result)
            });
        }
        if flushed.elapsed() >= FLUSH_INTERVAL {
            flush(fed).await?;
            flushed = Instant::now();
        }
        let dirty = !sender.state().dirty.is_empty();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sender.changed.notified() => {}
            changed = heads.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            Some(ended) = workers.join_next() => {
                let (server, result) = ended.map_err(|error| Error::broken(error.to_string()))?;
                sender.ended(&server);
                result?;
            }
            () = sleep_until(fed.store().clock(), retry_at) => {}
            () = tokio::time::sleep_until(flushed + FLUSH_INTERVAL), if dirty => {}
            () = async { match lease_due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            } } => {}
        }
    }
}

/// Waits until this time (ms) of the store's clock; for ever without one.
async fn sleep_until(clock: &Clock, at: Option<i64>) {
    match at {
        Some(at) => {
            let wait = u64::try_from(at.saturating_sub(clock.now_ms())).unwrap_or(0);
            clock.sleep(Duration::from_millis(wait)).await;
        }
        None => std::future::pending().await,
    }
}

/// Writes down where destinations stand.
async fn flush(fed: &Federation) -> Result<(), Error> {
    let dirty = std::mem::take(&mut fed.sender().state().dirty);
    let states: Vec<_> = dirty.into_iter().collect();
    let result = fed.store().store_destination_states(&states).await;
    if result.is_err() {
        let mut state = fed.sender().state();
        for (server, stand) in states {
            state.dirty.entry(server).or_insert(stand);
        }
    }
    result
}

/// Wakes every destination that isn't up to date.
async fn look_at_everything(fed: &Federation, upto: Pos) -> Result<(), Error> {
    let events = fed.store().destinations_behind().await?;
    let receipts = fed
        .store()
        .destinations_behind_in_receipts(fed.server_name())
        .await?;
    let others = events
        .iter()
        .chain(&receipts)
        .filter(|name| **name != fed.server_name());
    fed.sender().looked_at(upto, [], others);
    Ok(())
}

/// Wakes the destinations for which these new log entries have something.
async fn look_at_log(fed: &Federation, after: Pos, upto: Pos) -> Result<(), Error> {
    if after >= upto {
        return Ok(());
    }
    let store = fed.store();
    let entries = store.log().read(after, upto, SCAN_LIMIT + 1).await?;
    if entries.len() > SCAN_LIMIT {
        return look_at_everything(fed, upto).await;
    }
    let mut members_changed = false;
    let mut rooms = HashSet::new();
    let mut behind: BTreeSet<OwnedServerName> = BTreeSet::new();
    let mut readers: BTreeSet<OwnedServerName> = BTreeSet::new();
    for entry in &entries {
        match &entry.kind {
            // Who just left or is merely invited isn't among the room's servers; and such events of
            // other servers' users may have come through us.
            EntryKind::Event(LiveEvent { event, .. }) if event.pdu.membership().is_some() => {
                members_changed = true;
            }
            EntryKind::Event(LiveEvent { room, event })
                if fed.rooms().is_local(event.pdu.sender()) && rooms.insert(*room) =>
            {
                behind.extend(store.joined_servers(*room).await?.iter().cloned());
            }
            EntryKind::Receipt(receipt)
                if receipt.kind == "m.read"
                    && fed.rooms().is_local(&store.user(receipt.user).await?) =>
            {
                readers.extend(store.joined_servers(receipt.room).await?.iter().cloned());
            }
            _ => {}
        }
    }
    if members_changed {
        let destinations = store.destinations_after(after).await?;
        behind.extend(destinations.into_iter().map(|(server, _)| server));
    }
    let others = |name: &&OwnedServerName| **name != fed.server_name();
    let behind = behind.iter().filter(others);
    let readers = readers.iter().filter(others);
    fed.sender().looked_at(upto, behind, readers);
    Ok(())
}

/// `m.typing` as an EDU.
fn typing_edu(room: &RoomId, user: &UserId, typing: bool) -> String {
    batch::edu(
        "m.typing",
        &json!({ "room_id": room, "user_id": user, "typing": typing }),
    )
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, server_name, user_id};

    use super::*;

    #[test]
    fn typing_is_latest_wins_and_bounded() {
        let sender = Sender::new(Clock::manual(0));
        let server = server_name!("b.example");
        for typing in [true, false, true] {
            sender.typing([server], room_id!("!r:x"), user_id!("@u:x"), typing);
        }
        for n in 0..2000 {
            let user = UserId::parse(format!("@u{n}:x")).unwrap();
            sender.typing([server], room_id!("!r:x"), &user, true);
            sender.edu([server], "m.x", &json!({ "n": n }));
        }
        let state = sender.state();
        let queue = &state.queues[server];
        assert_eq!(queue.typing.len(), MAX_TYPING);
        assert_eq!(queue.edus.len(), MAX_EDUS);
        assert!(queue.edus.back().unwrap().contains("1999"));
    }

    #[test]
    fn an_inbound_request_ends_a_back_off() {
        let clock = Clock::manual(1_000_000);
        let sender = Sender::new(clock.clone());
        let server = server_name!("b.example");
        sender.looked_at(Pos(1), [&server.to_owned()], []);
        let failed = DestinationState {
            sent: Pos(0),
            failures: 5,
            retry_at: 9_000_000,
        };
        sender.note(server, failed);
        assert_eq!(sender.due(clock.now_ms(), 9), (vec![], Some(9_000_000)));
        sender.seen(server);
        assert_eq!(
            sender.due(clock.now_ms(), 9),
            (vec![server.to_owned()], None)
        );
        // One at a time.
        sender.looked_at(Pos(1), [&server.to_owned()], []);
        assert_eq!(sender.due(clock.now_ms(), 9), (vec![], None));
        sender.ended(server);
        assert_eq!(sender.due(clock.now_ms(), 9).0.len(), 1);
    }

    #[test]
    fn only_so_many_at_a_time() {
        let sender = Sender::new(Clock::manual(0));
        let names: Vec<OwnedServerName> = (0..10)
            .map(|n| format!("s{n}.example").try_into().unwrap())
            .collect();
        sender.looked_at(Pos(1), &names, []);
        assert_eq!(sender.due(0, 4).0.len(), 4);
        assert_eq!(sender.due(0, 4).0.len(), 4);
        assert_eq!(sender.due(0, 4).0.len(), 2);
        assert_eq!(sender.due(0, 4).0.len(), 0);
    }
}
