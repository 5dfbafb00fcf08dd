//! The list of public rooms: ours, for our users and for other servers, and theirs for our users
//! (<https://spec.matrix.org/v1.19/server-server-api/#public-room-directory>).

use std::{cmp::Reverse, sync::Arc, time::Duration};

use axum::extract::State;
use rhizome_edge::Table;
use rhizome_storage::{RoomHead, RoomNo};
use ruma::{
    ServerName, UInt,
    api::federation::directory::{get_public_rooms, get_public_rooms_filtered},
    directory::{Filter, RoomNetwork, RoomTypeFilter},
};
use serde_json::{Value, json};

use crate::{
    Federation, Kind, MatrixError, RawJson, Ruma,
    outbound::{Limits, answer},
};

/// The most rooms that one answer has.
const MAX_LIMIT: usize = 500;
/// The most rooms of the directory that are looked at.
const MAX_ROOMS: usize = 20_000;
/// Somebody waits for the answer.
const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_secs(15)),
    max_body: answer::PUBLIC_ROOMS,
};

/// `/_matrix/federation/v1/publicRooms`
pub(crate) fn endpoints(table: Table<Federation>) -> Table<Federation> {
    table
        .serve_as(Kind::State, get)
        .serve_as(Kind::State, search)
}

/// `GET /_matrix/federation/v1/publicRooms`
async fn get(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_public_rooms::v1::Request>,
) -> Result<RawJson, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    let answer = ours(&fed, req.limit, req.since.as_deref(), Filter::new()).await?;
    RawJson::of(&answer)
}

/// `POST /_matrix/federation/v1/publicRooms`
async fn search(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_public_rooms_filtered::v1::Request>,
) -> Result<RawJson, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    let answer = ours(&fed, req.limit, req.since.as_deref(), req.filter).await?;
    RawJson::of(&answer)
}

/// A part of another server's list.
///
/// # Errors
/// The server refuses, or doesn't answer.
pub async fn theirs(
    fed: &Federation,
    server: &ServerName,
    limit: Option<UInt>,
    since: Option<String>,
    filter: Filter,
    room_network: RoomNetwork,
) -> Result<Value, MatrixError> {
    let answer = if filter.is_empty() {
        let mut request = get_public_rooms::v1::Request::new();
        (request.limit, request.since, request.room_network) = (limit, since, room_network);
        let answer = fed.outbound().send_limited(server, request, LIMITS).await?;
        (
            answer.chunk,
            answer.next_batch,
            answer.prev_batch,
            answer.total_room_count_estimate,
        )
    } else {
        let mut request = get_public_rooms_filtered::v1::Request::new();
        (request.limit, request.since, request.room_network) = (limit, since, room_network);
        request.filter = filter;
        let answer = fed.outbound().send_limited(server, request, LIMITS).await?;
        (
            answer.chunk,
            answer.next_batch,
            answer.prev_batch,
            answer.total_room_count_estimate,
        )
    };
    let (mut chunk, next, prev, total) = answer;
    chunk.truncate(MAX_LIMIT);
    let mut answer = json!({ "chunk": chunk });
    for (key, token) in [("next_batch", next), ("prev_batch", prev)] {
        if let Some(token) = token {
            answer[key] = token.into();
        }
    }
    if let Some(total) = total {
        answer["total_room_count_estimate"] = u64::from(total).into();
    }
    Ok(answer)
}

/// A part of our own list.
///
/// # Errors
/// `since` is none of our tokens; the database's.
pub async fn ours(
    fed: &Federation,
    limit: Option<UInt>,
    since: Option<&str>,
    filter: Filter,
) -> Result<Value, MatrixError> {
    let page = Page::of(limit, since)?;
    let term = filter
        .generic_search_term
        .unwrap_or_default()
        .to_lowercase();
    let types = filter.room_types;
    let rooms = by_size(fed).await?;
    if term.is_empty() && types.is_empty() {
        let mut chunk = Vec::new();
        for head in rooms.iter().skip(page.start).take(page.limit) {
            chunk.push(shown(fed, head).await?);
        }
        return Ok(page.answer(&chunk, rooms.len()));
    }
    let mut found = Vec::new();
    for head in rooms {
        let room = shown(fed, &head).await?;
        if is_of(&room, &types) && mentions(&room, &term) {
            found.push(room);
        }
    }
    let end = page.start.saturating_add(page.limit).min(found.len());
    Ok(page.answer(found.get(page.start..end).unwrap_or_default(), found.len()))
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

    fn answer(&self, chunk: &[Value], total: usize) -> Value {
        let mut answer = json!({ "chunk": chunk, "total_room_count_estimate": total });
        let end = self.start.saturating_add(self.limit);
        if end < total {
            answer["next_batch"] = end.to_string().into();
        }
        if self.start > 0 {
            answer["prev_batch"] = self.start.saturating_sub(self.limit).to_string().into();
        }
        answer
    }
}

/// The rooms of the directory, those with many members first.
async fn by_size(fed: &Federation) -> Result<Vec<Arc<RoomHead>>, MatrixError> {
    let mut heads = Vec::new();
    for room in fed.store().public_rooms(RoomNo(0), MAX_ROOMS).await? {
        heads.extend(fed.store().room_by_no(room).await?);
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
async fn shown(fed: &Federation, head: &RoomHead) -> Result<Value, MatrixError> {
    let keys: Vec<(&str, &str)> = SHOWN
        .iter()
        .map(|(kind, ..)| (*kind, ""))
        .chain([
            ("m.room.history_visibility", ""),
            ("m.room.guest_access", ""),
        ])
        .collect();
    let nos = match head.snapshot {
        Some(at) => fed.store().state_entries(at, &keys).await?,
        None => Vec::new(),
    };
    let known: Vec<_> = nos.iter().flatten().copied().collect();
    let events = fed.store().events_by_no(&known).await?;
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
