//! The public room directory of this server.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use axum::extract::State;
use http::StatusCode;
use rhizome_federation::{MatrixError, RawJson};
use rhizome_protocol::{
    Membership, Pdu, StateKey,
    power::{Level, Power},
};
use rhizome_rooms::membership;
use rhizome_storage::{Fact, RoomHead, RoomNo};
use ruma::{
    OwnedServerName, UserId,
    api::client::{
        directory::{
            get_public_rooms::v3 as get, get_public_rooms_filtered::v3 as search,
            get_room_visibility::v3 as get_visibility, set_room_visibility::v3 as set_visibility,
        },
        room::Visibility,
    },
    directory::RoomTypeFilter,
};
use serde_json::{Value, json};

use crate::{App, Ruma, users};

/// The most rooms that one answer has.
const MAX_LIMIT: usize = 500;
/// The most rooms of the directory that are looked at.
const MAX_ROOMS: usize = 20_000;

/// `GET /_matrix/client/v3/directory/list/room/{roomId}`
pub async fn visibility(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get_visibility::Request>,
) -> Result<get_visibility::Response, MatrixError> {
    let head = app
        .store
        .room(&req.room_id)
        .await?
        .ok_or_else(no_such_room)?;
    let visibility = if head.public {
        Visibility::Public
    } else {
        Visibility::Private
    };
    Ok(get_visibility::Response::new(visibility))
}

/// `PUT /_matrix/client/v3/directory/list/room/{roomId}`
pub async fn set_visibility(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<set_visibility::Request>,
) -> Result<set_visibility::Response, MatrixError> {
    let public = match req.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => {
            return Err(MatrixError::bad_json(
                "visibility is either public or private",
            ));
        }
    };
    let head = app
        .store
        .room(&req.room_id)
        .await?
        .ok_or_else(no_such_room)?;
    let now = membership::current(&app.rooms, &req.room_id, &who.user_id).await?;
    if now != Some(Membership::Join) {
        return Err(MatrixError::forbidden("You are not in this room"));
    }
    if !may_send_state(&app, &head, &who.user_id, "m.room.canonical_alias").await? {
        return Err(MatrixError::forbidden(
            "You don't have the power to list this room",
        ));
    }
    users::publish(
        &app.store,
        vec![Fact::Directory {
            room: head.room,
            public,
        }],
    )
    .await?;
    Ok(set_visibility::Response::new())
}

/// Whether the user's power suffices to set state of this type.
pub(crate) async fn may_send_state(
    app: &App,
    head: &RoomHead,
    user_id: &UserId,
    kind: &str,
) -> Result<bool, MatrixError> {
    let Some(at) = head.snapshot else {
        return Ok(false);
    };
    let joined = membership::current(&app.rooms, &head.room_id, user_id).await?;
    let mut state: HashMap<StateKey, Arc<Pdu>> = HashMap::new();
    for looked_at in ["m.room.create", "m.room.power_levels"] {
        if let Some(event) = app.store.state_event(at, looked_at, "").await? {
            state.insert(StateKey::new(looked_at, ""), event.pdu.clone());
        }
    }
    let power = Power::of(head.rules, &state);
    let suffices = power.user(user_id) >= Level::Int(power.event(kind, true));
    Ok(joined == Some(Membership::Join) && suffices)
}

/// `GET /_matrix/client/v3/publicRooms`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get::Request>,
) -> Result<RawJson, MatrixError> {
    require_here(&app, req.server.as_ref())?;
    let limit = req.limit.and_then(|limit| usize::try_from(limit).ok());
    let page = Page {
        limit,
        since: req.since.as_deref(),
    };
    listed(&app, page, |_| true).await
}

/// `POST /_matrix/client/v3/publicRooms`
pub async fn search(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<search::Request>,
) -> Result<RawJson, MatrixError> {
    require_here(&app, req.server.as_ref())?;
    let term = req
        .filter
        .generic_search_term
        .unwrap_or_default()
        .to_lowercase();
    let types = req.filter.room_types;
    let wanted = |listing: &Listing| {
        (types.is_empty() || types.iter().any(|wanted| listing.is_of(wanted)))
            && listing.mentions(&term)
    };
    let limit = req.limit.and_then(|limit| usize::try_from(limit).ok());
    listed(
        &app,
        Page {
            limit,
            since: req.since.as_deref(),
        },
        wanted,
    )
    .await
}

fn require_here(app: &App, server: Option<&OwnedServerName>) -> Result<(), MatrixError> {
    match server {
        Some(server) if *server != app.config.server_name => Err(MatrixError::new(
            StatusCode::NOT_IMPLEMENTED,
            "M_UNRECOGNIZED",
            "This server doesn't fetch the directories of others yet",
        )),
        _ => Ok(()),
    }
}

struct Page<'a> {
    limit: Option<usize>,
    since: Option<&'a str>,
}

/// The directory, rooms with many members first.
async fn listed(
    app: &App,
    page: Page<'_>,
    wanted: impl Fn(&Listing) -> bool,
) -> Result<RawJson, MatrixError> {
    let start = match page.since {
        None | Some("") => 0,
        Some(since) => since
            .parse::<usize>()
            .map_err(|_| MatrixError::invalid_param("since is no token of this server"))?,
    };
    let rooms = app.store.public_rooms(RoomNo(0), MAX_ROOMS).await?;
    let mut listings = Vec::with_capacity(rooms.len());
    for room in rooms {
        let listing = listing(app, room).await?;
        listings.extend(listing.filter(&wanted));
    }
    listings.sort_by_key(|listing| (Reverse(listing.joined), listing.room.0));
    let limit = page.limit.unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT);
    let end = start.saturating_add(limit);
    let chunk: Vec<&Value> = listings
        .iter()
        .skip(start)
        .take(limit)
        .map(|listing| &listing.shown)
        .collect();
    let mut answer = json!({ "chunk": chunk, "total_room_count_estimate": listings.len() });
    if end < listings.len() {
        answer["next_batch"] = end.to_string().into();
    }
    if start > 0 {
        answer["prev_batch"] = start.saturating_sub(limit).to_string().into();
    }
    RawJson::of(&answer)
}

/// A room of the directory.
struct Listing {
    room: RoomNo,
    joined: i64,
    shown: Value,
}

impl Listing {
    fn is_of(&self, wanted: &RoomTypeFilter) -> bool {
        wanted.as_str() == self.shown["room_type"].as_str()
    }

    fn mentions(&self, term: &str) -> bool {
        let fields = ["name", "topic", "canonical_alias"];
        term.is_empty()
            || fields.iter().any(|field| {
                self.shown[field]
                    .as_str()
                    .is_some_and(|text| text.to_lowercase().contains(term))
            })
    }
}

/// State events of which the directory shows a string: type, key in the content, key in the answer.
const SHOWN: [(&str, &str, &str); 6] = [
    ("m.room.name", "name", "name"),
    ("m.room.topic", "topic", "topic"),
    ("m.room.canonical_alias", "alias", "canonical_alias"),
    ("m.room.avatar", "url", "avatar_url"),
    ("m.room.join_rules", "join_rule", "join_rule"),
    ("m.room.create", "type", "room_type"),
];

async fn listing(app: &App, room: RoomNo) -> Result<Option<Listing>, MatrixError> {
    let Some(head) = app.store.room_by_no(room).await? else {
        return Ok(None);
    };
    let Some(at) = head.snapshot else {
        return Ok(None);
    };
    let keys: Vec<(&str, &str)> = SHOWN
        .iter()
        .map(|(kind, ..)| (*kind, ""))
        .chain([
            ("m.room.history_visibility", ""),
            ("m.room.guest_access", ""),
        ])
        .collect();
    let nos = app.store.state_entries(at, &keys).await?;
    let known: Vec<_> = nos.iter().flatten().copied().collect();
    let events = app.store.events_by_no(&known).await?;
    let text = |kind: &str, key: &str| {
        let event = events.iter().find(|event| event.pdu.kind() == kind)?;
        Some(event.pdu.content().get(key)?.as_str()?.to_owned())
    };
    let is = |kind, key, value: &str| text(kind, key).as_deref() == Some(value);
    let mut shown = json!({
        "room_id": head.room_id,
        "num_joined_members": head.joined,
        "world_readable":
            is("m.room.history_visibility", "history_visibility", "world_readable"),
        "guest_can_join": is("m.room.guest_access", "guest_access", "can_join"),
    });
    for (kind, key, name) in SHOWN {
        if let Some(text) = text(kind, key).filter(|text| !text.is_empty()) {
            shown[name] = text.into();
        }
    }
    Ok(Some(Listing {
        room,
        joined: head.joined,
        shown,
    }))
}

fn no_such_room() -> MatrixError {
    MatrixError::not_found("This server doesn't know the room")
}
