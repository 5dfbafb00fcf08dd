//! Events as one reader sees them: whether at all, and with what in `unsigned`.
//!
//! Shared by `/sync`, the WebSocket stream, `/messages`, `/context`, `/event` and `/state`.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use rhizome_protocol::{Membership, Pdu, canonical::parse_object};
use rhizome_storage::{
    EventNo, Placement, Pos, RemoteInvite, SnapshotNo, Status, Store, StoredEvent, UserNo,
};
use ruma::{EventId, OwnedDeviceId, OwnedEventId, OwnedUserId};

use crate::{
    MatrixError,
    edge::extract::Caller,
    view::{
        client_event::{self, Form, Unsigned},
        json::Json,
        redactions,
        sight::Sight,
    },
};

/// Who reads.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user: UserNo,
    /// The device, to which alone its transaction ids are shown.
    pub device_id: OwnedDeviceId,
}

impl Viewer {
    /// The reader that an access token belongs to.
    pub fn of(caller: &Caller) -> Viewer {
        Viewer {
            user: caller.user,
            user_id: caller.user_id.clone(),
            device_id: caller.device_id.clone(),
        }
    }
}

/// How a reader stands to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The reader's membership now.
    pub membership: Option<Membership>,
    /// Joined without a break since here.
    pub joined_from: Option<Pos>,
    /// When the reader's last stay ended, if it has ended.
    pub left_at: Option<Pos>,
    /// The room's state right after that.
    pub left_state: Option<SnapshotNo>,
}

impl Standing {
    /// Of someone who never was in the room.
    pub const STRANGER: Standing = Standing {
        membership: None,
        joined_from: None,
        left_at: None,
        left_state: None,
    };

    /// Of a member who joined at `since`.
    pub fn joined(since: Pos) -> Standing {
        Standing {
            membership: Some(Membership::Join),
            joined_from: Some(since),
            left_at: None,
            left_state: None,
        }
    }

    /// Of someone whose membership is another than `join` now, and whose last stay ended with `end`.
    pub fn left(membership: Membership, end: Option<&StoredEvent>) -> Standing {
        Standing {
            membership: Some(membership),
            joined_from: None,
            left_at: end.and_then(StoredEvent::pos),
            left_state: end.and_then(|end| end.state_after),
        }
    }

    /// Whether the reader has been in the room at or after an event.
    pub fn was_in_since(&self, event: &StoredEvent) -> bool {
        match (self.membership, self.left_at) {
            (Some(Membership::Join), _) => true,
            // Backfilled events (no position) are from before the stay.
            (_, Some(left)) => event.pos().is_none_or(|pos| pos <= left),
            (_, None) => false,
        }
    }

    /// Whether the event lies within the present, unbroken stay.
    pub fn covers(&self, event: &StoredEvent) -> bool {
        matches!((self.joined_from, event.pos()), (Some(from), Some(pos)) if pos >= from)
    }
}

/// Where a reader stands in a room, from the index of memberships.
pub async fn standing(
    store: &Store,
    viewer: &Viewer,
    room: rhizome_storage::RoomNo,
) -> Result<Standing, MatrixError> {
    let rows = store.memberships_of(viewer.user).await?;
    let Some(row) = rows.iter().find(|row| row.room == room) else {
        return Ok(Standing::STRANGER);
    };
    if row.membership == Membership::Join {
        return Ok(Standing::joined(row.since));
    }
    let end = match row.event {
        // Who has forgotten a room never was there.
        Some(event) if !row.forgotten => end_of_stay(store, viewer, event).await?,
        _ => None,
    };
    Ok(Standing::left(row.membership, end.as_deref()))
}

/// How far back through someone's memberships (leave, ban, unban, …) the last join is looked for.
const MAX_MEMBERSHIPS: usize = 16;

/// What ended the last stay: the membership `event`, or one before it.
pub async fn end_of_stay(
    store: &Store,
    viewer: &Viewer,
    event: EventNo,
) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
    let mut at = event;
    for _ in 0..MAX_MEMBERSHIPS {
        let Some(event) = store.event_by_no(at).await? else {
            return Ok(None);
        };
        let Some(before) = replaced_no(store, &event).await? else {
            return Ok(None);
        };
        let Some(replaced) = store.event_by_no(before).await? else {
            return Ok(None);
        };
        if !replaced
            .pdu
            .is_state("m.room.member", viewer.user_id.as_str())
        {
            return Ok(None);
        }
        if replaced.pdu.membership() == Some(Membership::Join) {
            return Ok(Some(event));
        }
        at = before;
    }
    Ok(None)
}

/// The state event that this one replaced; looked up once.
pub async fn replaced_no(
    store: &Store,
    event: &StoredEvent,
) -> Result<Option<EventNo>, MatrixError> {
    if let Some(known) = event.replaces.get() {
        return Ok(*known);
    }
    let (Some(key), Some(before)) = (event.pdu.state_key(), event.state_before) else {
        return Ok(None);
    };
    let found = store.state_entry(before, event.pdu.kind(), key).await?;
    Ok(*event.replaces.get_or_init(|| found))
}

/// An event with all that this reader's copy of it says.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// The reader's membership at the event.
    pub membership: Option<Membership>,
    replaced: Option<Arc<StoredEvent>>,
    redaction: Option<Arc<StoredEvent>>,
}

impl Seen {
    /// An event that isn't [dressed](dress) yet.
    pub fn new(event: Arc<StoredEvent>, membership: Option<Membership>) -> Seen {
        Seen {
            event,
            membership,
            replaced: None,
            redaction: None,
        }
    }

    /// Writes the event as the next element.
    pub fn write(&self, json: &mut Json, viewer: &Viewer, now_ms: i64, style: &Style) {
        let unsigned = Unsigned {
            now_ms,
            transaction_id: self.transaction_of(viewer),
            membership: self.membership.map(Membership::as_str),
            replaced: self.replaced.as_deref(),
            redaction: self.redaction.as_deref(),
        };
        json.with(|out| match &style.fields {
            None => client_event::write(out, &self.event, style.form, &unsigned),
            Some(fields) => {
                let mut whole = String::new();
                client_event::write(&mut whole, &self.event, style.form, &unsigned);
                // Our own output: it parses.
                let whole = serde_json::from_str(&whole).unwrap_or_default();
                out.push_str(&crate::view::filter::keep_fields(&whole, fields).to_string());
            }
        });
    }

    fn transaction_of(&self, viewer: &Viewer) -> Option<&str> {
        let txn = self.event.txn.as_ref()?;
        let own = txn.device == viewer.device_id && self.event.pdu.sender() == viewer.user_id;
        own.then_some(txn.txn_id.as_str())
    }
}

/// In which form a reader wants events.
#[derive(Clone, Debug)]
pub struct Style {
    /// Which members an event has.
    pub form: Form,
    /// Only these fields (a filter's `event_fields`).
    pub fields: Option<Vec<String>>,
}

impl Style {
    /// Whole events with their `room_id`.
    pub const ROOM: Style = Style {
        form: Form::Room,
        fields: None,
    };
}

/// Those of `events` that the reader may see, in the same order, dressed.
pub async fn visible(
    store: &Store,
    viewer: &Viewer,
    standing: &Standing,
    events: Vec<Arc<StoredEvent>>,
) -> Result<Vec<Seen>, MatrixError> {
    let mut sight = Sight::new(store, viewer, *standing);
    let mut seen = Vec::with_capacity(events.len());
    for event in events {
        seen.extend(sight.see(event).await?);
    }
    dress(store, &mut seen).await?;
    Ok(seen)
}

/// The membership event that ended an invite to a room that this server isn't in. It stands outside any
/// history that we have: it has no number, no place, and no state around it.
pub fn of_ended_invite(invite: &RemoteInvite) -> Option<Arc<StoredEvent>> {
    let object = parse_object(invite.event.as_bytes()).ok()?;
    let pdu = Pdu::parse(invite.rules, object).ok()?;
    matches!(pdu.membership()?, Membership::Leave | Membership::Ban).then(|| {
        Arc::new(StoredEvent {
            no: EventNo(0),
            room: invite.room,
            depth: pdu.depth(),
            pdu: Arc::new(pdu),
            order: None,
            status: Status::Accepted,
            reason: None,
            placement: Placement::Outlier,
            state_before: None,
            state_after: None,
            visibility: None,
            redacted_by: None,
            txn: None,
            client: OnceLock::new(),
            replaces: OnceLock::from(None),
        })
    })
}

/// Those of some events of a room's history before which the history that we have has a gap, with the
/// events that we lack there.
///
/// Without a look at the database for what this server has built on its own history, or on what is
/// among the events: the warm path of `/sync`.
pub async fn gaps_before(
    store: &Store,
    viewer: &Viewer,
    events: &[Arc<StoredEvent>],
) -> Result<HashMap<EventNo, Vec<OwnedEventId>>, MatrixError> {
    // A join is built on what the server that let us in told.
    let foreign = |event: &&Arc<StoredEvent>| {
        event.pdu.sender().server_name() != viewer.user_id.server_name()
            || event.pdu.kind() == "m.room.member"
    };
    let Some(first) = events.iter().find(foreign) else {
        return Ok(HashMap::new());
    };
    let here: HashSet<&EventId> = events.iter().map(|event| event.pdu.event_id()).collect();
    let suspects: Vec<EventNo> = events
        .iter()
        .filter(foreign)
        .filter(|event| {
            let mut prevs = event.pdu.prev_events().iter();
            !prevs.all(|prev| here.contains(&**prev))
        })
        .map(|event| event.no)
        .collect();
    Ok(store.gaps_before(first.room, &suspects).await?)
}

/// State events for a reader who may see the state as a whole.
pub async fn as_state(
    store: &Store,
    events: Vec<Arc<StoredEvent>>,
) -> Result<Vec<Seen>, MatrixError> {
    let mut seen: Vec<Seen> = Vec::with_capacity(events.len());
    for event in events {
        if !redactions::withheld(store, &event).await? {
            seen.push(Seen::new(event, None));
        }
    }
    dress_redactions(store, &mut seen).await?;
    Ok(seen)
}

/// Looks up what `unsigned` quotes: replaced state and redactions.
pub async fn dress(store: &Store, seen: &mut [Seen]) -> Result<(), MatrixError> {
    for one in seen
        .iter_mut()
        .filter(|one| one.event.pdu.state_key().is_some())
    {
        if let Some(no) = replaced_no(store, &one.event).await? {
            one.replaced = store.event_by_no(no).await?;
        }
    }
    dress_redactions(store, seen).await
}

async fn dress_redactions(store: &Store, seen: &mut [Seen]) -> Result<(), MatrixError> {
    for one in seen.iter_mut() {
        if let Some(no) = one.event.redacted_by {
            one.redaction = store.event_by_no(no).await?;
        }
    }
    Ok(())
}
