//! Who is in a room.

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::{Content, RawJson};
use rhizome_protocol::Membership;
use rhizome_rooms::access::{EventAccess, RoomAccess};
use rhizome_storage::{EventNo, KeyNo, Pos};
use ruma::{
    OwnedUserId,
    api::client::membership::{get_member_events, joined_members},
};

use crate::{
    App, MatrixError, Ruma,
    place::point::point,
    room::whole::Whole,
    view::{complete, json::Json, moment::state_at, reading::Reading, seen::reader},
};

/// Events of a room's beginning among which its first member's join is.
const FIRST_EVENTS: usize = 10;

/// `GET /_matrix/client/v3/rooms/{roomId}/members`
pub async fn members(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_member_events::v3::Request>,
) -> Result<Content, MatrixError> {
    let reading = Reading::complete(&app, &who, &req.room_id).await?;
    let end = reading.room.end(&app.store);
    let at = match req
        .at
        .as_deref()
        .map(point)
        .transpose()?
        .and_then(|point| point.position())
    {
        Some(pos) if pos < end => visible_moment(&app, &reading, pos, end).await?,
        _ => end,
    };
    // The end of a stay is a moment within a commit, of which the log's positions know nothing; and it has none
    // at all where the event that ended it came as history.
    let entries = if at == end && !reading.room.is_open() {
        let state = app.store.state_all(reading.room.state).await?;
        state.into_iter().collect()
    } else {
        state_at(&app.store, reading.room.head.room, at).await?
    };
    let entries = if entries.is_empty() {
        first_state(&app, &reading, at, end).await?
    } else {
        entries
    };
    let keys: Vec<_> = entries.keys().copied().collect();
    let mut nos: Vec<EventNo> = Vec::new();
    for (key, no) in app.store.keys(&keys).await?.iter().zip(entries.values()) {
        if key.kind == "m.room.member" {
            nos.push(*no);
        }
    }
    let around = ("{\"chunk\":[", "]}");
    let told = Whole::new(&app, reading.viewer, nos, around).filtered(move |event| {
        let membership = event.pdu.membership().map_or("leave", Membership::as_str);
        req.membership
            .as_ref()
            .is_none_or(|wanted| wanted.as_str() == membership)
            && req
                .not_membership
                .as_ref()
                .is_none_or(|unwanted| unwanted.as_str() != membership)
    });
    told.tell().await
}

/// The moment that a reader is told of who asks for this one: who wasn't there then and may not see it is told
/// whom they found when they came.
async fn visible_moment(
    app: &App,
    reading: &Reading,
    at: Pos,
    end: Pos,
) -> Result<Pos, MatrixError> {
    let (store, room) = (&app.store, reading.room.head.room);
    let mut last = store.room_timeline(room, Pos(0), at, 1).await?;
    if last.is_empty() {
        last = store.live_after(room, at, end, 1).await?;
    }
    let standing = reading.room.standing;
    let mut access = EventAccess::new(store, &reading.viewer.user_id, standing);
    match last.first() {
        Some(last) if !access.sees_after(last).await? => standing
            .joined_from
            .filter(|from| *from > at)
            .ok_or_else(|| MatrixError::forbidden("You may not see the room as it was then")),
        _ => Ok(at),
    }
}

/// The room's first state in which somebody is there. A timeline that reaches back to the room's
/// beginning has a `prev_batch` from before it, when there was no room to tell of.
async fn first_state(
    app: &App,
    reading: &Reading,
    after: Pos,
    end: Pos,
) -> Result<BTreeMap<KeyNo, EventNo>, MatrixError> {
    let room = reading.room.head.room;
    let first = app.store.live_after(room, after, end, FIRST_EVENTS).await?;
    let joined = first
        .iter()
        .find(|event| event.pdu.membership() == Some(Membership::Join));
    Ok(match joined.and_then(|event| event.state_after) {
        Some(state) => app.store.state_all(state).await?.into_iter().collect(),
        None => BTreeMap::new(),
    })
}

/// `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
pub async fn joined(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<joined_members::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let room = RoomAccess::of_member(&app.store, reader(&who), &req.room_id).await?;
    complete::wait(&app, &room.head).await?;
    let members = app
        .store
        .members(room.head.room, Some(Membership::Join))
        .await?;
    let nos: Vec<EventNo> = members.iter().filter_map(|member| member.event).collect();
    let mut profiles: BTreeMap<OwnedUserId, (Option<String>, Option<String>)> = BTreeMap::new();
    for event in app.store.events_by_no(&nos).await? {
        let text = |field: &str| event.pdu.content().get(field)?.as_str().map(str::to_owned);
        let Some(Ok(user)) = event.pdu.state_key().map(OwnedUserId::try_from) else {
            continue;
        };
        profiles.insert(user, (text("displayname"), text("avatar_url")));
    }
    let mut json = Json::with_capacity(128 * profiles.len() + 64);
    json.open().key("joined").open();
    for (user, (name, avatar)) in profiles {
        json.key(user.as_str()).open();
        for (key, value) in [("avatar_url", avatar), ("display_name", name)] {
            // Clients count on both keys, whether or not there is a value.
            match value {
                Some(value) => json.key(key).string(&value),
                None => json.key(key).null(),
            };
        }
        json.close();
    }
    json.close().close();
    Ok(RawJson(json.finish().into()))
}
