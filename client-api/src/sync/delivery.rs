//! What has reached a user's devices, told to those whom they chat with (docs/delivery.md).
//!
//! A device that asks from a position has everything before it. For a user who has opted in, the newest message of
//! the other there then gets a receipt, in rooms of two. That is done beside the answer, and for a user at most every
//! so often, however many devices ask; for everybody else it is one look into memory.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rhizome_protocol::Membership;
use rhizome_storage::{
    DELIVERED, EntryKind, Fact, LiveEvent, MembershipRow, Pos, Receipt, RoomNo, StoredEvent, UserNo,
};
use ruma::OwnedUserId;

use crate::{
    App, MatrixError,
    view::{ignored, seen::Viewer},
};

/// How often a user's receipts are written at most.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many users are remembered; of others it is found out anew.
const REMEMBERED: usize = 20_000;
/// Rooms that are looked at in one query, and receipts of one commit.
const ROOMS: usize = 200;
/// How many of a room's last events are looked at for a message of the other, where the log is too short.
const LOOKED_AT: usize = 10;

/// How far users have got.
#[derive(Debug, Default)]
pub struct Deliveries(Mutex<HashMap<UserNo, Progress>>);

/// One user's.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// A device has everything up to here.
    got: Pos,
    /// Receipts are written up to here; `None`: nobody knows.
    told: Option<Pos>,
    /// Somebody is at it.
    busy: bool,
}

impl Deliveries {
    fn of(&self) -> MutexGuard<'_, HashMap<UserNo, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device has everything up to `got`. Whether somebody has to see to it.
    fn got(&self, user: UserNo, got: Pos) -> bool {
        let mut users = self.of();
        if users.len() >= REMEMBERED && !users.contains_key(&user) {
            users.retain(|_, progress| progress.busy);
        }
        let progress = users.entry(user).or_default();
        progress.got = progress.got.max(got);
        let news = progress.told.is_none_or(|told| told < progress.got);
        news && !std::mem::replace(&mut progress.busy, true)
    }

    /// What is to be told of now: after which position and up to where. `None`: nothing is, and nobody is at it.
    fn next(&self, user: UserNo) -> Option<(Option<Pos>, Pos)> {
        let mut users = self.of();
        let progress = users.get_mut(&user)?;
        if progress.told.is_some_and(|told| told >= progress.got) {
            progress.busy = false;
            return None;
        }
        Some((progress.told, progress.got))
    }

    fn told(&self, user: UserNo, upto: Pos) {
        if let Some(progress) = self.of().get_mut(&user) {
            progress.told = progress.told.max(Some(upto));
        }
    }

    /// It didn't work, and is tried with the next that comes.
    fn failed(&self, user: UserNo) {
        if let Some(progress) = self.of().get_mut(&user) {
            progress.busy = false;
        }
    }
}

/// A device of the user has everything up to a position.
pub async fn got(app: &App, viewer: &Viewer, upto: Pos) -> Result<(), MatrixError> {
    if !app.store.tells_delivery(viewer.user).await? {
        return Ok(());
    }
    if app.sync.deliveries.got(viewer.user, upto) {
        let (app, viewer) = (app.clone(), viewer.clone());
        let tracker = app.unfinished.clone();
        tracker.spawn(async move { tell(&app, &viewer).await });
    }
    Ok(())
}

/// Tells until there is nothing more.
async fn tell(app: &App, viewer: &Viewer) {
    let deliveries = &app.sync.deliveries;
    while let Some((after, upto)) = deliveries.next(viewer.user) {
        let written = match write(app, viewer, after, upto).await {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!(%error, "what has reached devices can't be told");
                return deliveries.failed(viewer.user);
            }
        };
        deliveries.told(viewer.user, upto);
        if written {
            tokio::select! {
                () = app.store.clock().sleep(INTERVAL) => {}
                () = app.shutdown.cancelled() => {}
            }
        }
    }
}

/// Writes receipts for what came with `after < position ≤ upto`. Whether there were any.
async fn write(
    app: &App,
    viewer: &Viewer,
    after: Option<Pos>,
    upto: Pos,
) -> Result<bool, MatrixError> {
    let store = &app.store;
    let mut written = false;
    let rows = store.memberships_of(viewer.user).await?;
    let joined = rows.iter().filter(|row| row.membership == Membership::Join);
    let joined: HashMap<RoomNo, &MembershipRow> = joined.map(|row| (row.room, row)).collect();
    let entries = after.and_then(|after| store.log().tail(after, upto));
    let mut rooms: Vec<RoomNo> = joined.keys().copied().collect();
    let mut events = Vec::new();
    if let Some(entries) = &entries {
        events.extend(entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::Event(LiveEvent { event, .. }) => Some(event.clone()),
            _ => None,
        }));
        let with: HashSet<RoomNo> = events.iter().map(|event| event.room).collect();
        rooms.retain(|room| with.contains(room));
    }
    let ignored = ignored::read(store, viewer.user).await?;
    for rooms in rooms.chunks(ROOMS) {
        let chats = store.rooms_of_two(rooms).await?;
        if entries.is_none() {
            events = store.room_timelines(&chats, upto, LOOKED_AT).await?;
        }
        let facts = newest(&events, &chats, |event| {
            let row = joined.get(&event.room);
            row.is_some_and(|row| event.pos() > Some(row.since))
                && is_message_of_another(event, &viewer.user_id, &ignored)
        });
        let ts = store.clock().now_ms();
        let facts: Vec<Fact> = (facts.into_iter())
            .map(|event| receipt(viewer.user, event, ts))
            .collect();
        if !facts.is_empty() {
            store.commit(facts.into()).await?;
            written = true;
        }
    }
    Ok(written)
}

/// The last of the wanted events in each of these rooms; they come in the order of the log.
fn newest<'a>(
    events: &'a [Arc<StoredEvent>],
    rooms: &[RoomNo],
    wanted: impl Fn(&StoredEvent) -> bool,
) -> Vec<&'a Arc<StoredEvent>> {
    let mut last: HashMap<RoomNo, &Arc<StoredEvent>> = HashMap::new();
    for event in events {
        if rooms.contains(&event.room) && wanted(event) {
            last.insert(event.room, event);
        }
    }
    last.into_values().collect()
}

fn is_message_of_another(
    event: &StoredEvent,
    user: &OwnedUserId,
    ignored: &HashSet<OwnedUserId>,
) -> bool {
    let pdu = &event.pdu;
    pdu.state_key().is_none()
        && pdu.redacts().is_none()
        && pdu.sender() != user
        && !ignored.contains(pdu.sender())
}

fn receipt(user: UserNo, event: &StoredEvent, ts: i64) -> Fact {
    Fact::Receipt(Receipt {
        room: event.room,
        user,
        kind: DELIVERED.to_owned(),
        thread: None,
        event_id: event.pdu.event_id().to_owned(),
        ts,
    })
}
