//! The events around an event.

use std::collections::HashSet;

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use rhizome_rooms::access::EventAccess;
use rhizome_storage::{Pos, SnapshotNo};
use ruma::{EventId, OwnedUserId, api::client::context::get_context::v3};

use crate::{
    App, MatrixError, Ruma,
    history::{
        event::{absent, require_heard, visible_event},
        pager::{Page, Pager},
    },
    place::point::HistoryPoint,
    view::{
        dress,
        filter::{self, EventFilter, MAX_TIMELINE},
        ignored,
        json::Json,
        reading::Reading,
        seen::{Seen, Style, write_list},
    },
};

/// `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
pub async fn context(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let filter = filter::of_query(req.query.as_deref());
    let (req, filter) = (req.decode()?, filter?);
    let reading = Reading::of(&app, &who, &req.room_id).await?;
    let limit = usize::try_from(u64::from(req.limit)).unwrap_or(MAX_TIMELINE);
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    around(&app, &reading, &ignored, (&req.event_id, limit, filter)).await
}

/// An event, and so many of those around it that the filter lets through, without what those have said whom the reader
/// ignores.
pub async fn around(
    app: &App,
    reading: &Reading,
    ignored: &HashSet<OwnedUserId>,
    (event_id, limit, filter): (&EventId, usize, EventFilter),
) -> Result<RawJson, MatrixError> {
    let middle = visible_event(app, reading, event_id).await?;
    require_heard(&middle, ignored)?;
    let limit = limit.min(MAX_TIMELINE);
    let end = reading.room.end(&app.store);
    let pager = Pager {
        app,
        reading,
        filter: &filter,
        ignored,
        end,
    };
    let start = HistoryPoint::before(&middle.event, end);
    let stop = HistoryPoint::after(&middle.event, Pos(i64::MAX));
    let before = page(&pager, start, limit / 2, true).await?;
    let after = page(&pager, stop, limit - limit / 2, false).await?;

    let (begin, end) = (first(&before, start), last(&after, stop));
    let mut shown = before.events;
    shown.reverse();
    let at = shown.len();
    shown.push(middle);
    shown.extend(after.events);
    let state = state_at_end(app, &pager, &shown).await?;
    pager.bundle(&mut shown).await?;
    let (before, rest) = shown.split_at_mut(at);
    // As they are told.
    before.reverse();
    let Some((middle, after)) = rest.split_first() else {
        return Err(absent());
    };

    let now = app.store.clock().now_ms();
    let mut json = Json::with_capacity(1_024 * (before.len() + after.len()) + 1_280);
    json.open().key("start").string(&begin.to_string());
    json.key("end").string(&end.to_string());
    write_list(&mut json, "events_before", before, &reading.viewer, now);
    json.key("event");
    middle.write(&mut json, &reading.viewer, now, &Style::ROOM);
    write_list(&mut json, "events_after", after, &reading.viewer, now);
    write_list(&mut json, "state", &state, &reading.viewer, now);
    json.close();
    Ok(RawJson(json.finish().into()))
}

async fn page(
    pager: &Pager<'_>,
    from: HistoryPoint,
    limit: usize,
    back: bool,
) -> Result<Page, MatrixError> {
    if limit == 0 {
        return Ok(Page {
            events: Vec::new(),
            next: None,
        });
    }
    if back {
        pager.backward(from, None, limit).await
    } else {
        pager.forward(from, None, limit).await
    }
}

/// Where the events before an event begin.
pub fn first(before: &Page, start: HistoryPoint) -> HistoryPoint {
    match (&before.next, before.events.last()) {
        (Some(next), _) => *next,
        (None, Some(seen)) => start.just_before(&seen.event),
        (None, None) => start,
    }
}

/// Where the events after it end.
pub fn last(after: &Page, stop: HistoryPoint) -> HistoryPoint {
    match (&after.next, after.events.last()) {
        (Some(next), _) => *next,
        (None, Some(seen)) => HistoryPoint::after(&seen.event, Pos(i64::MAX)),
        (None, None) => stop,
    }
}

/// "The state of the room at the last event returned."
async fn state_at_end(
    app: &App,
    pager: &Pager<'_>,
    shown: &[Seen],
) -> Result<Vec<Seen>, MatrixError> {
    let Some(at) = visible_state(app, pager.reading, shown).await? else {
        return Ok(Vec::new());
    };
    let lazy = filter::lazy_members(pager.filter).is_some();
    let mut nos = Vec::new();
    let entries = app.store.state_all(at).await?;
    let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
    for ((_, no), key) in entries.iter().zip(app.store.keys(&keys).await?) {
        let shown_sender = || {
            shown
                .iter()
                .any(|seen| seen.event.pdu.sender().as_str() == key.key)
        };
        if !lazy || key.kind != "m.room.member" || shown_sender() {
            nos.push(*no);
        }
    }
    let mut events = app.store.events_by_no(&nos).await?;
    events.retain(|event| filter::wants_event(pager.filter, event));
    let asking = filter::Asking {
        store: &app.store,
        ignored: pager.ignored,
        upto: pager.end,
    };
    let wanted = &pager.filter.related;
    let unrelated = asking.unrelated(wanted, events.iter()).await?;
    events.retain(|event| !unrelated.contains(&event.no));
    dress::as_state(&app.store, events).await
}

/// The state at the last of some events, as far as it is the reader's to see: they are told what happened to
/// themselves at any time, a ban long after they left or an invite, but not what else was so then.
async fn visible_state(
    app: &App,
    reading: &Reading,
    shown: &[Seen],
) -> Result<Option<SnapshotNo>, MatrixError> {
    let Some(last) = shown.last() else {
        return Ok(None);
    };
    let standing = reading.room.standing;
    let mut access = EventAccess::new(&app.store, &reading.viewer.user_id, standing);
    let event = &last.event;
    // What the event changes is theirs to know like the event.
    if access.sees_after(event).await? || access.sees_before(event).await? {
        return Ok(event.state_after.or(event.state_before));
    }
    // Of who was there before, the state as of their leaving.
    Ok(standing.left_state)
}
