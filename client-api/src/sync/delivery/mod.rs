//! What has reached a user's devices, told to those whom they chat with (docs/delivery.md).
//!
//! A device that asks from a position has everything before it. For a user who has opted in, the newest message of
//! the other there then gets a receipt, in rooms of two. That is done beside the answer, and for a user at most every
//! so often, however many devices ask; for everybody else it is one look into memory.

mod progress;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rhizome_protocol::Membership;
use rhizome_rooms::loose_ends::is_dummy;
use rhizome_storage::{
    DELIVERED, EntryKind, Fact, LiveEvent, MembershipRow, Pos, Receipt, RoomNo, StoredEvent, UserNo,
};
use ruma::OwnedUserId;

pub use self::progress::{Deliveries, OfConnection};
use self::progress::{Got, Work};
use crate::{
    App, MatrixError,
    view::{ignored, seen::Viewer},
};

/// How often a user's receipts are written at most.
const INTERVAL: Duration = Duration::from_secs(2);
/// Rooms that are looked at in one query, and receipts of one commit.
const ROOMS: usize = 200;
/// How many of a room's last events are looked at for a message of the other, where the log is too short.
const LOOKED_AT: usize = 10;

/// A device of the user has everything up to a position.
pub async fn got(app: &App, viewer: &Viewer, upto: Pos) -> Result<(), MatrixError> {
    if is_device(viewer) && app.store.tells_delivery(viewer.user).await? {
        see_to(app, viewer, Got { upto, of: None });
    }
    Ok(())
}

/// A device of the user has what a connection of sliding sync told up to a position.
pub async fn got_of(
    app: &App,
    viewer: &Viewer,
    upto: Pos,
    of: impl FnOnce() -> OfConnection,
) -> Result<(), MatrixError> {
    if is_device(viewer) && app.store.tells_delivery(viewer.user).await? {
        let of = Some(of());
        see_to(app, viewer, Got { upto, of });
    }
    Ok(())
}

/// Not if somebody else acts for the user.
fn is_device(viewer: &Viewer) -> bool {
    !viewer.device_id.as_str().is_empty()
}

fn see_to(app: &App, viewer: &Viewer, got: Got) {
    if app.sync.deliveries.got(viewer.user, got) {
        let (app, viewer) = (app.clone(), viewer.clone());
        let tracker = app.unfinished.clone();
        tracker.spawn(async move { tell(&app, &viewer).await });
    }
}

/// Tells until there is nothing more.
async fn tell(app: &App, viewer: &Viewer) {
    let deliveries = &app.sync.deliveries;
    while let Some(work) = deliveries.next(viewer.user) {
        let written = match write(app, viewer, &work).await {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!(%error, "what has reached devices can't be told");
                return deliveries.failed(viewer.user, &work);
            }
        };
        deliveries.told(viewer.user, &work);
        if written {
            tokio::select! {
                () = app.store.clock().sleep(INTERVAL) => {}
                () = app.shutdown.cancelled() => {}
            }
        }
    }
}

impl Work {
    /// Up to where a room was told, and how many of the newest events by then; `None`: it wasn't.
    fn told_of(&self, room: RoomNo) -> Option<(Pos, usize)> {
        let Some(rooms) = &self.rooms else {
            return Some((self.upto, usize::MAX));
        };
        let told = rooms.get(&room).filter(|told| told.timeline > 0)?;
        let count = usize::try_from(told.timeline).unwrap_or(usize::MAX);
        Some((told.upto.unwrap_or(self.upto).min(self.upto), count))
    }
}

/// Writes receipts for what came after what was told already. Whether there were any.
async fn write(app: &App, viewer: &Viewer, work: &Work) -> Result<bool, MatrixError> {
    let store = &app.store;
    let rows = store.memberships_of(viewer.user).await?;
    let joined = rows.iter().filter(|row| row.membership == Membership::Join);
    let joined: HashMap<RoomNo, &MembershipRow> = joined.map(|row| (row.room, row)).collect();
    let (mut events, mut heard) = (Vec::new(), HashSet::new());
    let entries = work
        .after
        .and_then(|after| store.log().tail(after, work.upto));
    if let Some(entries) = &entries {
        events.extend(entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::Event(LiveEvent { event, .. }) => Some(event.clone()),
            _ => None,
        }));
        heard.extend(events.iter().map(|event| event.room));
    }
    let told = |room: &RoomNo| work.told_of(*room).is_some();
    let rooms = joined.keys().copied().filter(told);
    // What the log in memory doesn't say is asked for.
    let (asked, heard): (Vec<RoomNo>, Vec<RoomNo>) = rooms
        .filter(|room| entries.is_none() || heard.contains(room) || work.fresh.contains(room))
        .partition(|room| entries.is_none() || work.fresh.contains(room));
    let ignored = ignored::read(store, viewer.user).await?;
    let mut written = false;
    let pieces = heard.chunks(ROOMS).map(|rooms| (rooms, false));
    for (rooms, asks) in pieces.chain(asked.chunks(ROOMS).map(|rooms| (rooms, true))) {
        let chats = store.rooms_of_two(rooms).await?;
        if asks {
            events = store.room_timelines(&chats, work.upto, LOOKED_AT).await?;
        }
        let facts = newest(&events, &chats, work, |event| {
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

/// The last of the wanted events in each of these rooms that a device was told; they come in the order of the log.
fn newest<'a>(
    events: &'a [Arc<StoredEvent>],
    rooms: &[RoomNo],
    work: &Work,
    wanted: impl Fn(&StoredEvent) -> bool,
) -> Vec<&'a Arc<StoredEvent>> {
    let mut last: HashMap<RoomNo, &Arc<StoredEvent>> = HashMap::new();
    let mut seen: HashMap<RoomNo, usize> = HashMap::new();
    for event in events.iter().rev() {
        let Some((upto, count)) = work.told_of(event.room) else {
            continue;
        };
        if event.pos() > Some(upto) || !rooms.contains(&event.room) {
            continue;
        }
        let seen = seen.entry(event.room).or_default();
        *seen += 1;
        if *seen <= count && wanted(event) {
            last.entry(event.room).or_insert(event);
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
        && !is_dummy(pdu)
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
