//! Reading rooms, as far as the reader may see them.
//!
//! Whether a user sees an event depends on the history visibility and the user's membership at the
//! event (client-server "Room history visibility"); whether they see the room's state depends on being in
//! it, having been in it (then: the state when they left), or the room being world-readable.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Membership,
    visibility::{self, HistoryVisibility, Moment},
};
use rhizome_storage::{
    Direction, EventNo, HistoryToken, MembershipRow, Placement, Pos, RoomHead, RoomNo, SnapshotNo,
    Status, StoredEvent,
};
use ruma::{EventId, OwnedEventId, RoomId, ServerName, UserId};

use crate::{Error, Rooms, error::Result, state_at};

/// The most events that one page has.
pub const MAX_LIMIT: usize = 1_000;
/// How many events are looked at for one page, visible or not, per event asked for, and at least.
const SCAN_FACTOR: usize = 10;
const SCAN_LEAST: usize = 500;

fn not_in_room() -> Error {
    Error::Denied("You are not in this room".into())
}

/// The room, if the user is joined to it.
///
/// # Errors
///
/// [`Error::Denied`] otherwise, also for rooms that don't exist: the two must look the same.
pub async fn require_joined(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Arc<RoomHead>> {
    let head = head_of(rooms, room_id).await?;
    match row(rooms, user, head.room).await? {
        Some(row) if row.membership == Membership::Join => Ok(head),
        _ => Err(not_in_room()),
    }
}

/// The part of a room's state that a user may see.
#[derive(Debug, Clone)]
pub struct StateSeen {
    /// The room.
    pub head: Arc<RoomHead>,
    /// The state: now, or when the user left.
    pub snapshot: SnapshotNo,
    /// When the user left, if they have.
    pub left: Option<Pos>,
}

/// The room's state as the user may see it.
///
/// # Errors
///
/// [`Error::Denied`] if they never were in the room and it isn't world-readable.
pub async fn require_can_see_state(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
) -> Result<StateSeen> {
    let head = head_of(rooms, room_id).await?;
    let Some(current) = head.snapshot else {
        return Err(not_in_room());
    };
    let row = row(rooms, user, head.room).await?;
    if row.is_some_and(|row| row.membership == Membership::Join) {
        return Ok(StateSeen {
            head,
            snapshot: current,
            left: None,
        });
    }
    let event = rooms
        .store()
        .state_event(current, "m.room.history_visibility", "")
        .await?;
    let visibility = HistoryVisibility::of(event.as_ref().map(|event| event.pdu.content()));
    if visibility == HistoryVisibility::WorldReadable {
        return Ok(StateSeen {
            head,
            snapshot: current,
            left: None,
        });
    }
    if let Some(row) = row.filter(|row| !row.forgotten)
        && let Some(left) = last_left(rooms, user, row).await?
    {
        return Ok(StateSeen {
            head,
            snapshot: left.state,
            left: Some(left.pos),
        });
    }
    Err(not_in_room())
}

async fn head_of(rooms: &Rooms, room_id: &RoomId) -> Result<Arc<RoomHead>> {
    match rooms.store().room(room_id).await? {
        Some(head) if head.snapshot.is_some() => Ok(head),
        _ => Err(not_in_room()),
    }
}

async fn row(rooms: &Rooms, user: &UserId, room: RoomNo) -> Result<Option<MembershipRow>> {
    let Some(user) = rooms.store().known_user(user).await? else {
        return Ok(None);
    };
    Ok(rooms.store().membership(user, room).await?)
}

/// Where a user's last time in a room ended.
struct Left {
    /// When.
    pos: Pos,
    /// The state right after.
    state: SnapshotNo,
}

/// When the user, who is not in the room, was joined last: goes back over member events (a ban after a
/// kick after a leave …) to the one that ended a join.
async fn last_left(rooms: &Rooms, user: &UserId, row: MembershipRow) -> Result<Option<Left>> {
    let store = rooms.store();
    let mut next = row.event;
    for _ in 0..20 {
        let Some(no) = next else { return Ok(None) };
        let Some(event) = store.event_by_no(no).await? else {
            return Ok(None);
        };
        let (Some(before), Some(after)) = (event.state_before, event.state_after) else {
            return Ok(None);
        };
        let Some(was) = store
            .state_event(before, "m.room.member", user.as_str())
            .await?
        else {
            return Ok(None);
        };
        if was.pdu.membership() == Some(Membership::Join) {
            let pos = event.pos().unwrap_or(row.since);
            return Ok(Some(Left { pos, state: after }));
        }
        next = Some(was.no);
    }
    Ok(None)
}

/// Whether the user may see each of the events, which are all of one room. Events that are no part of the
/// room's history (outliers, rejected, soft-failed) are not to be seen.
pub async fn visible(
    rooms: &Rooms,
    user: &UserId,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<bool>> {
    let Some(first) = events.first() else {
        return Ok(Vec::new());
    };
    let row = row(rooms, user, first.room).await?;
    let joined = row.is_some_and(|row| row.membership == Membership::Join);
    // What most reads are: somebody in the room, and nothing hidden from those in it.
    let plain = |event: &StoredEvent| match event.visibility {
        Some(HistoryVisibility::WorldReadable) => true,
        Some(HistoryVisibility::Shared) => joined,
        _ => false,
    };
    let mut left_at = None;
    if let Some(row) = row.filter(|_| !joined) {
        left_at = last_left(rooms, user, row).await?.map(|left| left.pos);
    }
    let mut members: HashMap<SnapshotNo, Option<Membership>> = HashMap::new();
    let mut seen = Vec::with_capacity(events.len());
    for event in events {
        if !event.is_history() || event.room != first.room {
            seen.push(false);
            continue;
        }
        if plain(event) {
            seen.push(true);
            continue;
        }
        let before = Moment {
            visibility: event.visibility.unwrap_or(HistoryVisibility::Shared),
            membership: match event.state_before {
                Some(at) => membership_at(rooms, user, at, &mut members).await?,
                None => None,
            },
        };
        let mut after = before;
        if event.pdu.is_state("m.room.history_visibility", "") {
            after.visibility = HistoryVisibility::of(Some(event.pdu.content()));
        }
        if event.pdu.is_state("m.room.member", user.as_str()) {
            after.membership = event.pdu.membership();
        }
        let joined_since =
            joined || left_at.is_some_and(|left| event.order.is_none_or(|order| order <= left.0));
        seen.push(visibility::can_see(before, after, joined_since));
    }
    Ok(seen)
}

async fn membership_at(
    rooms: &Rooms,
    user: &UserId,
    at: SnapshotNo,
    known: &mut HashMap<SnapshotNo, Option<Membership>>,
) -> Result<Option<Membership>> {
    if let Some(membership) = known.get(&at) {
        return Ok(*membership);
    }
    let event = rooms
        .store()
        .state_event(at, "m.room.member", user.as_str())
        .await?;
    let membership = event.and_then(|event| event.pdu.membership());
    known.insert(at, membership);
    Ok(membership)
}

/// Whether the server has a joined user in the room.
pub async fn server_in_room(rooms: &Rooms, room_id: &RoomId, server: &ServerName) -> Result<bool> {
    let Some(head) = rooms.store().room(room_id).await? else {
        return Ok(false);
    };
    let servers = rooms.store().joined_servers(head.room).await?;
    Ok(servers.iter().any(|other| other == server))
}

/// Whether each of the events, which are all of one room, may be shown to a server that is in the room:
/// where the history was for members only, one of its users must have been a member at the event.
pub async fn server_can_see(
    rooms: &Rooms,
    server: &ServerName,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<bool>> {
    let mut known: HashMap<SnapshotNo, (bool, bool)> = HashMap::new();
    let mut seen = Vec::with_capacity(events.len());
    for event in events {
        let visibility = event.visibility.unwrap_or(HistoryVisibility::Shared);
        let hidden = matches!(
            visibility,
            HistoryVisibility::Invited | HistoryVisibility::Joined
        );
        if !hidden || event.pdu.sender().server_name() == server {
            seen.push(true);
            continue;
        }
        // Membership changes of its own users are its business, whenever they happened.
        let own = event.pdu.kind() == "m.room.member"
            && event
                .pdu
                .state_key()
                .and_then(|key| <&UserId>::try_from(key).ok())
                .is_some_and(|user| user.server_name() == server);
        let Some(at) = event.state_after.filter(|_| !own) else {
            seen.push(own);
            continue;
        };
        let (joined, invited) = if let Some(found) = known.get(&at) {
            *found
        } else {
            let found = members_of_server(rooms, server, at).await?;
            known.insert(at, found);
            found
        };
        seen.push(joined || (invited && visibility == HistoryVisibility::Invited));
    }
    Ok(seen)
}

/// Whether a state has a joined, and an invited, user of the server.
async fn members_of_server(
    rooms: &Rooms,
    server: &ServerName,
    at: SnapshotNo,
) -> Result<(bool, bool)> {
    let store = rooms.store();
    let all = store.state_all(at).await?;
    let keys: Vec<_> = all.iter().map(|(key, _)| *key).collect();
    let mut nos: Vec<EventNo> = Vec::new();
    for (name, (_, event)) in store.keys(&keys).await?.iter().zip(&all) {
        let of_server = name.kind == "m.room.member"
            && <&UserId>::try_from(name.key.as_str())
                .is_ok_and(|user| user.server_name() == server);
        if of_server {
            nos.push(*event);
        }
    }
    let members = store.events_by_no(&nos).await?;
    let has = |wanted| {
        members
            .iter()
            .any(|event| event.pdu.membership() == Some(wanted))
    };
    Ok((has(Membership::Join), has(Membership::Invite)))
}

/// Where in a room's history to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At a place in the history.
    Token(HistoryToken),
    /// As a reader of the log saw it at this position.
    Pos(Pos),
    /// At the newest or the oldest event, as the direction says.
    End,
}

/// Which events of a page are wanted, by their content; visibility is looked after here.
pub type Filter<'a> = &'a (dyn Fn(&StoredEvent) -> bool + Send + Sync);

/// Which page of a room's history.
#[derive(Clone, Copy)]
pub struct PageRequest<'a> {
    /// Where to begin.
    pub from: From,
    /// Where to stop, if not at the end.
    pub to: Option<HistoryToken>,
    /// Which way.
    pub direction: Direction,
    /// How many events at most; more than [`MAX_LIMIT`] counts as that.
    pub limit: usize,
    /// Which events.
    pub filter: Filter<'a>,
}

/// A page of a room's history.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events, in the direction's order.
    pub events: Vec<Arc<StoredEvent>>,
    /// Where the page began.
    pub start: HistoryToken,
    /// Where the next one begins. `None`: there is nothing more, as far as we know the room.
    pub end: Option<HistoryToken>,
    /// Events that come before some of those looked at, and that we don't have: other servers can give
    /// them (backfill), after which the page may be read again.
    pub gap: Vec<OwnedEventId>,
}

/// The place right after an event.
pub fn after(event: &StoredEvent) -> HistoryToken {
    HistoryToken {
        depth: event.pdu.depth(),
        order: event.order.unwrap_or(0),
    }
}

/// The place right before an event.
pub fn before(event: &StoredEvent) -> HistoryToken {
    let after = after(event);
    HistoryToken {
        order: after.order.saturating_sub(1),
        ..after
    }
}

/// A page of the room's history, of those events that the user may see.
///
/// # Errors
///
/// [`Error::Denied`] if the user can't see the room at all.
pub async fn messages(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
    request: PageRequest<'_>,
) -> Result<Page> {
    let seen = require_can_see_state(rooms, user, room_id).await?;
    // Who has left sees nothing that came later: don't walk through it.
    page(rooms, user, &seen.head, request, seen.left).await
}

async fn page(
    rooms: &Rooms,
    user: &UserId,
    head: &RoomHead,
    request: PageRequest<'_>,
    upto: Option<Pos>,
) -> Result<Page> {
    let store = rooms.store();
    let limit = request.limit.clamp(1, MAX_LIMIT);
    let mut upto = upto.unwrap_or(Pos(i64::MAX));
    let backward = request.direction == Direction::Backward;
    let start = match request.from {
        From::Token(token) => token,
        From::End if backward => HistoryToken::END,
        From::End => HistoryToken::START,
        From::Pos(pos) if backward => {
            upto = upto.min(pos);
            HistoryToken::END
        }
        From::Pos(pos) => {
            let newest = store
                .history(head.room, HistoryToken::END, Direction::Backward, 1, pos)
                .await?;
            newest
                .first()
                .map_or(HistoryToken::START, |event| after(event))
        }
    };
    let mut page = Page {
        events: Vec::new(),
        start,
        end: None,
        gap: Vec::new(),
    };
    let mut scanned: Vec<Arc<StoredEvent>> = Vec::new();
    let mut at = start;
    let most = (limit * SCAN_FACTOR).max(SCAN_LEAST);
    let chunk = limit.clamp(20, 200);
    'reading: loop {
        let events = store
            .history(head.room, at, request.direction, chunk, upto)
            .await?;
        let last = events.len() < chunk;
        let seen = visible(rooms, user, &events).await?;
        for (event, seen) in events.into_iter().zip(seen) {
            let beyond = request.to.is_some_and(|to| match request.direction {
                Direction::Backward => after(&event) <= to,
                Direction::Forward => after(&event) > to,
            });
            if beyond {
                page.end = request.to;
                break 'reading;
            }
            if page.events.len() == limit {
                page.end = Some(at);
                break 'reading;
            }
            at = if backward {
                before(&event)
            } else {
                after(&event)
            };
            scanned.push(event.clone());
            if seen && (request.filter)(&event) {
                page.events.push(event);
            }
        }
        if last {
            // To the future there is always more to come.
            page.end = (!backward && !scanned.is_empty()).then_some(at);
            break;
        }
        if page.events.len() == limit || scanned.len() >= most {
            page.end = Some(at);
            break;
        }
    }
    if backward {
        page.gap = gap(rooms, &scanned).await?;
        if page.end.is_none() && !page.gap.is_empty() {
            page.end = Some(at);
        }
    }
    Ok(page)
}

/// The prevs of these events that we don't have as history.
async fn gap(rooms: &Rooms, events: &[Arc<StoredEvent>]) -> Result<Vec<OwnedEventId>> {
    let here: HashSet<&EventId> = events.iter().map(|event| event.pdu.event_id()).collect();
    let mut wanted: Vec<OwnedEventId> = events
        .iter()
        .flat_map(|event| event.pdu.prev_events())
        .filter(|id| !here.contains(&***id))
        .cloned()
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let found = rooms.store().events(&wanted).await?;
    let placed: HashSet<&EventId> = found
        .iter()
        .filter(|event| event.placement != Placement::Outlier)
        .map(|event| event.pdu.event_id())
        .collect();
    Ok(wanted
        .iter()
        .filter(|id| !placed.contains(&***id))
        .cloned()
        .collect())
}

/// One event that the user may see.
///
/// # Errors
///
/// [`Error::UnknownEvent`] if there is none in this room, or the user may not see it.
pub async fn event(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<Arc<StoredEvent>> {
    let unknown = || Error::UnknownEvent(event_id.to_owned());
    let event = rooms.store().event(event_id).await?.ok_or_else(unknown)?;
    if event.pdu.room_id() != room_id || event.status != Status::Accepted {
        return Err(unknown());
    }
    let seen = visible(rooms, user, std::slice::from_ref(&event)).await?;
    if seen.first() == Some(&true) {
        Ok(event)
    } else {
        Err(unknown())
    }
}

/// An event and what happened around it.
#[derive(Debug, Clone)]
pub struct Context {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// What came before, newest first.
    pub before: Vec<Arc<StoredEvent>>,
    /// What came after, oldest first.
    pub after: Vec<Arc<StoredEvent>>,
    /// Where to page on to the past.
    pub start: HistoryToken,
    /// Where to page on to the future.
    pub end: HistoryToken,
    /// The state at the last of the events.
    pub state: Option<SnapshotNo>,
}

/// An event with at most `limit` events around it.
pub async fn context(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
    event_id: &EventId,
    limit: usize,
    filter: Filter<'_>,
) -> Result<Context> {
    let event = event(rooms, user, room_id, event_id).await?;
    let head = head_of(rooms, room_id).await?;
    let limit = limit.min(MAX_LIMIT);
    let around = |from, direction, limit| PageRequest {
        from: From::Token(from),
        to: None,
        direction,
        limit,
        filter,
    };
    let (mut start, mut end) = (before(&event), after(&event));
    let (mut earlier, mut later) = (Vec::new(), Vec::new());
    if limit > 1 {
        let request = around(start, Direction::Backward, limit / 2);
        let page = page(rooms, user, &head, request, None).await?;
        start = page
            .end
            .or_else(|| page.events.last().map(|e| before(e)))
            .unwrap_or(start);
        earlier = page.events;
    }
    if limit > 0 {
        let request = around(end, Direction::Forward, limit - limit / 2);
        let page = page(rooms, user, &head, request, None).await?;
        end = page.end.unwrap_or(end);
        later = page.events;
    }
    let state = later.last().unwrap_or(&event).state_after;
    Ok(Context {
        event,
        before: earlier,
        after: later,
        start,
        end,
        state,
    })
}

/// All state events of the room that the user may see.
pub async fn state(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Vec<Arc<StoredEvent>>> {
    let seen = require_can_see_state(rooms, user, room_id).await?;
    state_at::events_at(rooms, seen.snapshot).await
}

/// One state event of the room.
///
/// # Errors
///
/// [`Error::NotFound`] if the state has no such entry.
pub async fn state_event(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
    kind: &str,
    state_key: &str,
) -> Result<Arc<StoredEvent>> {
    let seen = require_can_see_state(rooms, user, room_id).await?;
    rooms
        .store()
        .state_event(seen.snapshot, kind, state_key)
        .await?
        .ok_or_else(|| Error::NotFound(format!("The room has no {kind} with this state key")))
}

/// The member events of a room, now or as they stood at a place in its history.
pub async fn members(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
    at: Option<From>,
) -> Result<Vec<Arc<StoredEvent>>> {
    let seen = require_can_see_state(rooms, user, room_id).await?;
    let store = rooms.store();
    let upto = seen.left.unwrap_or(Pos(i64::MAX));
    let newest = match at {
        None | Some(From::End) => None,
        Some(From::Pos(pos)) => store
            .room_timeline(seen.head.room, Pos(0), pos.min(upto), 1)
            .await?
            .pop(),
        // Live events have their log position as order.
        Some(From::Token(token)) if token.order > 0 => {
            let pos = Pos(token.order).min(upto);
            store
                .room_timeline(seen.head.room, Pos(0), pos, 1)
                .await?
                .pop()
        }
        Some(From::Token(token)) => store
            .history(seen.head.room, token, Direction::Backward, 1, upto)
            .await?
            .pop(),
    };
    let snapshot = newest
        .and_then(|event| event.state_after)
        .unwrap_or(seen.snapshot);
    let all = store.state_all(snapshot).await?;
    let keys: Vec<_> = all.iter().map(|(key, _)| *key).collect();
    let names = store.keys(&keys).await?;
    let nos: Vec<EventNo> = names
        .iter()
        .zip(&all)
        .filter(|(name, _)| name.kind == "m.room.member")
        .map(|(_, (_, event))| *event)
        .collect();
    Ok(store.events_by_no(&nos).await?)
}

/// The member events of those who are joined now. Only for those who are joined themselves.
pub async fn joined_members(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Vec<Arc<StoredEvent>>> {
    let head = require_joined(rooms, user, room_id).await?;
    let members = rooms
        .store()
        .members(head.room, Some(Membership::Join))
        .await?;
    let nos: Vec<EventNo> = members.iter().filter_map(|member| member.event).collect();
    Ok(rooms.store().events_by_no(&nos).await?)
}
