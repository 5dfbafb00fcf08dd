//! `/events`: what happens in the reader's rooms, one event after the other.
//!
//! Nothing is left out of it, as `/sync` does where much has happened: an answer ends where it is full, and the next one
//! goes on from there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use rhizome_protocol::Membership;
use rhizome_rooms::access::standing;
use rhizome_storage::{EntryKind, EventNo, LiveEvent, MembershipRow, Pos, RoomNo, StoredEvent};
use ruma::{OwnedRoomId, RoomId, api::auth_scheme::AccessToken, metadata};
use tokio::time::Instant;

use super::{MAX_EVENTS, chunk, is_ignored, peek, token};
use crate::{
    App, Caller, MatrixError, Ruma,
    account::presence::by_sync,
    auth::standing::may_listen,
    content::pairs,
    figures::OneOf,
    place::token::{Token, position},
    sync::{MAX_TIMEOUT, reader::moment},
    view::{
        dress, ignored,
        seen::{Seen, Viewer, reader},
    },
};

/// A commit has fewer entries.
const COMMIT: i64 = 10_000;
/// How long a request waits that doesn't say it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `GET /_matrix/client/v3/events`
pub struct Events;
metadata! {
    @for Events,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/events",
        1.1 => "/_matrix/client/v3/events",
    }
}

/// What a request asks for.
struct Asked {
    from: Option<Token>,
    timeout: Duration,
    room: Option<OwnedRoomId>,
}

impl Asked {
    async fn of(app: &App, query: Option<&str>) -> Result<Self, MatrixError> {
        let pairs = pairs(query.unwrap_or_default());
        let value = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let from = match value("from").filter(|text| !text.is_empty()) {
            Some(text) => position(&app.store, text).await?,
            None => None,
        };
        let timeout = value("timeout").map(|text| {
            let ms: Result<u64, _> = text.parse();
            ms.map(Duration::from_millis)
                .map_err(|_| MatrixError::invalid_param("timeout must be a number of milliseconds"))
        });
        let room = value("room_id").map(|id| {
            RoomId::parse(id)
                .map_err(|error| MatrixError::invalid_param(format!("room_id: {error}")))
        });
        Ok(Self {
            from,
            timeout: timeout.transpose()?.unwrap_or(TIMEOUT).min(MAX_TIMEOUT),
            room: room.transpose()?,
        })
    }
}

/// `GET /_matrix/client/v3/events`, also of one room that the reader isn't in.
pub async fn events(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<Events>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&app, req.query.as_deref()).await?;
    app.store.log().refresh().await?;
    let until = Instant::now() + asked.timeout;
    if let Some(room) = asked.room {
        return peek::events(&app, &who, &room, (asked.from, until)).await;
    }
    let device = who.device_or_none();
    let _there = app
        .store
        .syncs(who.user, &device, by_sync(&who, None)?)
        .await?;
    of_all_rooms(&app, &who, (asked.from, until)).await
}

/// What happens in all rooms of a reader, once something has.
async fn of_all_rooms(
    app: &App,
    who: &Caller,
    (from, until): (Option<Token>, Instant),
) -> Result<RawJson, MatrixError> {
    let interest = app.store.log().interest(who.user);
    let mut start = from;
    let mut looked_at = None;
    loop {
        let (head, _, rows) = moment(&app.store, who.user, &interest).await?;
        let start = &*start.get_or_insert_with(|| token(&app.store, head));
        let after = looked_at.unwrap_or(start.pos);
        let (seen, upto) = between(app, who, &rows, (after, head)).await?;
        let over = Instant::now() >= until || app.shutdown.is_cancelled();
        if !seen.is_empty() || over {
            let (end, now) = (token(&app.store, upto), app.store.clock().now_ms());
            let text = chunk(&Viewer::of(who), &seen, (start, &end), now);
            return Ok(RawJson(text.into()));
        }
        looked_at = Some(upto);
        if upto < head {
            // Nothing of so much is theirs to see: they look on.
            continue;
        }
        let _waits = OneOf::new(&app.counts.polls);
        tokio::select! {
            () = interest.changed() => may_listen(app, who.user, true).await?,
            () = tokio::time::sleep_until(until) => {}
            () = app.shutdown.cancelled() => {}
        }
    }
}

/// What the reader may see of what has happened in their rooms between two positions, as much as an answer holds, and
/// up to where that is.
async fn between(
    app: &App,
    who: &Caller,
    rows: &[MembershipRow],
    (after, upto): (Pos, Pos),
) -> Result<(Vec<Seen>, Pos), MatrixError> {
    if after >= upto {
        return Ok((Vec::new(), after));
    }
    let concerns = |row: &&MembershipRow| {
        row.membership == Membership::Join || (row.pos > after && row.event.is_some())
    };
    let rows: HashMap<RoomNo, &MembershipRow> = rows
        .iter()
        .filter(concerns)
        .map(|row| (row.room, row))
        .collect();
    let found = happened(app, &rows, (after, upto)).await?;
    let last = found.last().filter(|_| found.len() >= MAX_EVENTS);
    let upto = last.and_then(|last| last.pos()).unwrap_or(upto);
    let ignored = ignored::read(&app.store, who.user).await?;
    let own = who.user_id.as_str();
    let is_own = |event: &StoredEvent| event.pdu.is_state("m.room.member", own);
    let mut by_room: HashMap<RoomNo, Vec<Arc<StoredEvent>>> = HashMap::new();
    for event in &found {
        let Some(row) = rows.get(&event.room) else {
            continue;
        };
        let came = event.pos().unwrap_or(after);
        let is_theirs = match row.membership {
            Membership::Join => row.since <= after || came >= row.since,
            _ => came <= row.pos,
        };
        let is_theirs = is_theirs || is_own(event);
        let invites = || is_own(event) && event.pdu.membership() == Some(Membership::Invite);
        let hidden =
            || invites() && ignored.hides_invite_to(event.pdu.sender(), event.pdu.room_id());
        if is_theirs && !is_ignored(event, &ignored) && !hidden() {
            by_room.entry(event.room).or_default().push(event.clone());
        }
    }
    let viewer = Viewer::of(who);
    let mut seen: HashMap<EventNo, Seen> = HashMap::new();
    for (room, mut events) in by_room {
        let standing = standing(&app.store, reader(who), room).await?;
        if !standing.was_member() {
            // Who was never there, or has forgotten it, is told what happens to them.
            events.retain(|event| is_own(event));
        }
        let visible = dress::visible(&app.store, &viewer, &standing, events).await?;
        seen.extend(visible.into_iter().map(|seen| (seen.event.no, seen)));
    }
    let in_order = found.iter().filter_map(|event| seen.remove(&event.no));
    Ok((in_order.collect(), upto))
}

/// The oldest events between two positions of these rooms: from memory where the log reaches back so far.
async fn happened(
    app: &App,
    rows: &HashMap<RoomNo, &MembershipRow>,
    (after, upto): (Pos, Pos),
) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
    // Who has come into a room is told of what happened since; where their coming itself stands, within its commit, isn't
    // known here.
    let from = |row: &MembershipRow| match row.membership {
        Membership::Join => after.max(Pos(row.since.0 - COMMIT)),
        _ => after,
    };
    if let Some(entries) = app.store.log().tail(after, upto) {
        let events = entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::Event(LiveEvent { event, .. }) => Some(event),
            _ => None,
        });
        let events = events.filter(|event| {
            let row = rows.get(&event.room);
            row.is_some_and(|row| event.pos().is_some_and(|pos| pos > from(row)))
        });
        return Ok(events.take(MAX_EVENTS).cloned().collect());
    }
    let rooms: Vec<RoomNo> = rows.keys().copied().collect();
    let changed = app.store.rooms_changed(&rooms, after).await?;
    let rooms: Vec<(RoomNo, Pos)> = changed
        .into_iter()
        .filter_map(|(room, _)| Some((room, from(rows.get(&room)?))))
        .collect();
    Ok(app.store.oldest_of(&rooms, upto, MAX_EVENTS).await?)
}
