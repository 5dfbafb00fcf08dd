//! How a user stands to a room: there, gone since when, or never there.

use std::sync::Arc;

use rhizome_protocol::Membership;
use rhizome_storage::{
    EventNo, MembershipRow, Pos, RoomNo, SnapshotNo, Store, StoredEvent, SurelySeen, UserNo,
};
use ruma::UserId;

use crate::error::Result;

/// A user who reads.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// Their number.
    pub user: UserNo,
    /// Their id.
    pub user_id: &'a UserId,
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

    /// Of an operator: they see everything that the server holds of the room, whoever was there at it, but what an erasure
    /// keeps from all.
    pub const OPERATOR: Standing = Standing {
        membership: Some(Membership::Join),
        // Before everything.
        joined_from: Some(Pos(i64::MIN)),
        left_at: None,
        left_state: None,
    };

    /// Whether it is an operator's.
    pub fn is_operator(&self) -> bool {
        *self == Self::OPERATOR
    }

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

    /// Whether the reader is joined.
    pub fn is_member(&self) -> bool {
        self.membership == Some(Membership::Join)
    }

    /// Whether the reader is or was joined.
    pub fn was_member(&self) -> bool {
        self.is_member() || self.left_at.is_some()
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

    /// What the reader sees of the room's history up to a position whoever was there at each event: for what counts
    /// events without looking at each. They may see more, what was sent during a former stay.
    pub fn surely_sees(&self, upto: Pos) -> SurelySeen {
        let shared_upto = match (self.is_member(), self.left_at) {
            (true, _) => i64::MAX,
            (_, Some(left)) => left.0,
            (_, None) => i64::MIN,
        };
        SurelySeen {
            since: self.joined_from.unwrap_or(Pos(i64::MAX)),
            shared_upto,
            upto,
        }
    }

    /// Whether the event lies within the present, unbroken stay.
    pub fn covers(&self, event: &StoredEvent) -> bool {
        event.pos().is_some_and(|pos| self.covers_place(pos.0))
    }

    /// The same of whatever has a place of the log and the history.
    pub fn covers_place(&self, ord: i64) -> bool {
        self.joined_from.is_some_and(|from| ord >= from.0)
    }
}

/// Where a reader stands in a room, from the index of memberships.
///
/// # Errors
///
/// Those of the database.
pub async fn standing(store: &Store, reader: Reader<'_>, room: RoomNo) -> Result<Standing> {
    let rows = store.memberships_of(reader.user).await?;
    let Ok(index) = rows.binary_search_by_key(&room, |row| row.room) else {
        return Ok(Standing::STRANGER);
    };
    let row = &rows[index];
    if row.membership == Membership::Join {
        return Ok(Standing::joined(row.since));
    }
    let end = end_of_stay(store, reader.user_id, row).await?;
    Ok(Standing::left(row.membership, end.as_deref()))
}

/// How far back through someone's memberships (leave, ban, unban, …) the last join is looked for.
///
/// Each step may cost two reads, and whoever may ban and unban decides how many there are. Twenty is more than
/// happens to anybody in earnest. Who has been through more counts as never there, as who forgot does: the
/// mistake then hides something, and nothing is shown by it.
const MAX_MEMBERSHIPS: usize = 20;

/// The membership event that ended the last stay of a user who isn't in the room now. Who has forgotten a room
/// never was there.
///
/// # Errors
///
/// Those of the database.
pub async fn end_of_stay(
    store: &Store,
    user: &UserId,
    row: &MembershipRow,
) -> Result<Option<Arc<StoredEvent>>> {
    let Some(mut at) = row.event.filter(|_| !row.forgotten) else {
        return Ok(None);
    };
    for _ in 0..MAX_MEMBERSHIPS {
        let Some(event) = store.event_by_no(at).await? else {
            return Ok(None);
        };
        let Some(before) = replaced(store, [&event]).await?.pop().flatten() else {
            return Ok(None);
        };
        let Some(replaced) = store.event_by_no(before).await? else {
            return Ok(None);
        };
        if !replaced.pdu.is_state("m.room.member", user.as_str()) {
            return Ok(None);
        }
        if replaced.pdu.membership() == Some(Membership::Join) {
            return Ok(Some(event));
        }
        at = before;
    }
    Ok(None)
}

/// Of each event, in their order: the state event that it replaced, if any. Each is looked up once.
///
/// # Errors
///
/// Those of the database.
pub async fn replaced<'e>(
    store: &Store,
    events: impl IntoIterator<Item = &'e Arc<StoredEvent>>,
) -> Result<Vec<Option<EventNo>>> {
    let events: Vec<&Arc<StoredEvent>> = events.into_iter().collect();
    let mut asked = Vec::new();
    for event in &events {
        if let (None, Some(key), Some(before)) = (
            event.replaces.get(),
            event.pdu.state_key(),
            event.state_before,
        ) {
            asked.push((*event, (before, event.pdu.kind(), key)));
        }
    }
    if !asked.is_empty() {
        let entries: Vec<_> = asked.iter().map(|(_, entry)| *entry).collect();
        let found = store.state_entries_at(&entries).await?;
        for ((event, _), found) in asked.iter().zip(found) {
            event.replaces.get_or_init(|| found);
        }
    }
    let known = events.iter().map(|event| event.replaces.get());
    Ok(known.map(|known| known.copied().flatten()).collect())
}
