//! The public room directory of this server.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use axum::extract::State;
use rhizome_federation::{MatrixError, RawJson};
use rhizome_protocol::{
    Membership, Pdu, StateKey,
    power::{Level, Power},
};
use rhizome_rooms::membership;
use rhizome_storage::{Fact, RoomHead, RoomNo};
use ruma::{
    OwnedServerName, UInt, UserId,
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
    let page = Page::of(req.limit, req.since.as_deref())?;
    let rooms = by_size(&app).await?;
    let mut chunk = Vec::new();
    for head in rooms.iter().skip(page.start).take(page.limit) {
        chunk.push(shown(&app, head).await?);
    }
    page.answer(&chunk, rooms.len())
}

/// `POST /_matrix/client/v3/publicRooms`
pub async fn search(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<search::Request>,
) -> Result<RawJson, MatrixError> {
    require_here(&app, req.server.as_ref())?;
    let page = Page::of(req.limit, req.since.as_deref())?;
    let term = req
        .filter
        .generic_search_term
        .unwrap_or_default()
        .to_lowercase();
    let types = req.filter.room_types;
    let mut found = Vec::new();
    for head in by_size(&app).await? {
        let room = shown(&app, &head).await?;
        if is_of(&room, &types) && mentions(&room, &term) {
            found.push(room);
        }
    }
    let end = page.start.saturating_add(page.limit).min(found.len());
    page.answer(found.get(page.start..end).unwrap_or_default(), found.len())
}

fn require_here(app: &App, server: Option<&OwnedServerName>) -> Result<(), MatrixError> {
    match server {
        Some(server) if *server != app.config.server_name => Err(MatrixError::invalid_param(
            "This server doesn't fetch the directories of others yet",
        )),
        _ => Ok(()),
    }
}

/// A part of the directory. Its tokens count rooms: cheap, and good enough for a list that moves.
struct Page {
    start: usize,
    limit: usize,
}

impl Page {
    fn of(limit: Option<UInt>, since: Option<&str>) -> Result<Self, MatrixError> {
        let start = match since {
            None | Some("") => 0,
            Some(since) => since
                .parse()
                .map_err(|_| MatrixError::invalid_param("since is no token of this server"))?,
        };
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        Ok(Self {
            start,
            limit: limit.unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT),
        })
    }

    fn answer(&self, chunk: &[Value], total: usize) -> Result<RawJson, MatrixError> {
        let mut answer = json!({ "chunk": chunk, "total_room_count_estimate": total });
        let end = self.start.saturating_add(self.limit);
        if end < total {
            answer["next_batch"] = end.to_string().into();
        }
        if self.start > 0 {
            answer["prev_batch"] = self.start.saturating_sub(self.limit).to_string().into();
        }
        RawJson::of(&answer)
    }
}

/// The rooms of the directory, those with many members first.
async fn by_size(app: &App) -> Result<Vec<Arc<RoomHead>>, MatrixError> {
    let mut heads = Vec::new();
    for room in app.store.public_rooms(RoomNo(0), MAX_ROOMS).await? {
        heads.extend(app.store.room_by_no(room).await?);
    }
    heads.sort_by_key(|head| (Reverse(head.joined), head.room.0));
    Ok(heads)
}

fn is_of(room: &Value, types: &[RoomTypeFilter]) -> bool {
    types.is_empty()
        || types
            .iter()
            .any(|wanted| wanted.as_str() == room["room_type"].as_str())
}

fn mentions(room: &Value, term: &str) -> bool {
    let says = |field: &str| {
        room[field]
            .as_str()
            .is_some_and(|text| text.to_lowercase().contains(term))
    };
    term.is_empty() || ["name", "topic", "canonical_alias"].into_iter().any(says)
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

/// What the directory shows of a room.
async fn shown(app: &App, head: &RoomHead) -> Result<Value, MatrixError> {
    let keys: Vec<(&str, &str)> = SHOWN
        .iter()
        .map(|(kind, ..)| (*kind, ""))
        .chain([
            ("m.room.history_visibility", ""),
            ("m.room.guest_access", ""),
        ])
        .collect();
    let nos = match head.snapshot {
        Some(at) => app.store.state_entries(at, &keys).await?,
        None => Vec::new(),
    };
    let known: Vec<_> = nos.iter().flatten().copied().collect();
    let events = app.store.events_by_no(&known).await?;
    let text = |kind: &str, key: &str| {
        let event = events.iter().find(|event| event.pdu.kind() == kind)?;
        Some(event.pdu.content().get(key)?.as_str()?.to_owned())
    };
    let is = |kind, key, value: &str| text(kind, key).as_deref() == Some(value);
    let mut room = json!({
        "room_id": head.room_id,
        "num_joined_members": head.joined,
        "world_readable":
            is("m.room.history_visibility", "history_visibility", "world_readable"),
        "guest_can_join": is("m.room.guest_access", "guest_access", "can_join"),
    });
    for (kind, key, name) in SHOWN {
        if let Some(text) = text(kind, key).filter(|text| !text.is_empty()) {
            room[name] = text.into();
        }
    }
    Ok(room)
}

fn no_such_room() -> MatrixError {
    MatrixError::not_found("This server doesn't know the room")
}
