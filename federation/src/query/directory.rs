//! The list of public rooms: ours, for our users and for other servers, and theirs for our users
//! (<https://spec.matrix.org/v1.19/server-server-api/#public-room-directory>).

use std::{cmp::Reverse, sync::Arc, time::Duration};

use axum::extract::{Query, State};
use rhizome_edge::{Table, Undecoded};
use rhizome_storage::{RoomHead, RoomNo, RoomSummary};
use ruma::{
    ServerName, UInt,
    api::federation::directory::{get_public_rooms, get_public_rooms_filtered},
    directory::{Filter, RoomNetwork, RoomTypeFilter},
};
use serde::Deserialize;
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

/// What a query asks for: `include_all_networks` of a query, ruma's type doesn't read.
#[derive(Default, Deserialize)]
struct Asked {
    limit: Option<u32>,
    since: Option<String>,
    #[serde(default)]
    include_all_networks: bool,
    third_party_instance_id: Option<String>,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Self, MatrixError> {
        let wrong = || MatrixError::invalid_param("The query can't be read");
        let uri = format!("/?{}", query.unwrap_or_default()).parse();
        let uri: http::Uri = uri.map_err(|_| wrong())?;
        let Query(asked) = Query::<Self>::try_from_uri(&uri).map_err(|_| wrong())?;
        if asked.include_all_networks && asked.third_party_instance_id.is_some() {
            let message = "Either all networks are asked for, or one";
            return Err(MatrixError::invalid_param(message));
        }
        Ok(asked)
    }
}

/// `GET /_matrix/federation/v1/publicRooms`
async fn get(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<Undecoded<get_public_rooms::v1::Request>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::read(req.query.as_deref())?;
    let _turn = fed.budgets().turn_of(&who).await?;
    let network = match asked.third_party_instance_id {
        Some(instance) => RoomNetwork::ThirdParty(instance),
        None if asked.include_all_networks => RoomNetwork::All,
        None => RoomNetwork::Matrix,
    };
    let wanted = (Filter::new(), &network);
    let limit = asked.limit.map(UInt::from);
    let answer = ours(&fed, limit, asked.since.as_deref(), wanted).await?;
    RawJson::of(&answer)
}

/// `POST /_matrix/federation/v1/publicRooms`
async fn search(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_public_rooms_filtered::v1::Request>,
) -> Result<RawJson, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    let wanted = (req.filter, &req.room_network);
    let answer = ours(&fed, req.limit, req.since.as_deref(), wanted).await?;
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

/// A part of our own list, or of those that application services keep of other networks.
///
/// # Errors
/// `since` is none of our tokens; the database's.
pub async fn ours(
    fed: &Federation,
    limit: Option<UInt>,
    since: Option<&str>,
    (filter, network): (Filter, &RoomNetwork),
) -> Result<Value, MatrixError> {
    let page = Page::of(limit, since)?;
    let term = filter
        .generic_search_term
        .unwrap_or_default()
        .to_lowercase();
    let types = filter.room_types;
    let mut rooms = by_size(fed, network).await?;
    let total = rooms.len();
    let is_search = !(term.is_empty() && types.is_empty());
    if !is_search {
        rooms = rooms
            .into_iter()
            .skip(page.start)
            .take(page.limit)
            .collect();
    }
    let nos: Vec<RoomNo> = rooms.iter().map(|head| head.room).collect();
    let summaries = fed.store().room_summaries(&nos).await?;
    let none = RoomSummary::default();
    let of = |head: &RoomHead| summaries.get(&head.room).map_or(&none, |found| &**found);
    if !is_search {
        let chunk: Vec<Value> = rooms.iter().map(|head| shown(head, of(head))).collect();
        return Ok(page.answer(&chunk, total));
    }
    rooms.retain(|head| is_of(of(head), &types) && mentions(of(head), &term));
    let found = rooms.iter().skip(page.start).take(page.limit);
    let chunk: Vec<Value> = found.map(|head| shown(head, of(head))).collect();
    Ok(page.answer(&chunk, rooms.len()))
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
async fn by_size(
    fed: &Federation,
    network: &RoomNetwork,
) -> Result<Vec<Arc<RoomHead>>, MatrixError> {
    let (store, first) = (fed.store(), RoomNo(0));
    let rooms = match network {
        RoomNetwork::All => store.rooms_of_network(None, first, MAX_ROOMS).await?,
        RoomNetwork::ThirdParty(instance) => {
            let instance = Some(instance.as_str());
            store.rooms_of_network(instance, first, MAX_ROOMS).await?
        }
        _ => store.public_rooms(first, MAX_ROOMS).await?,
    };
    let mut heads = Vec::new();
    for room in rooms {
        heads.extend(fed.store().room_by_no(room).await?);
    }
    heads.sort_by_key(|head| (Reverse(head.joined), head.room.0));
    Ok(heads)
}

fn is_of(room: &RoomSummary, types: &[RoomTypeFilter]) -> bool {
    types.is_empty()
        || types
            .iter()
            .any(|wanted| wanted.as_str() == room.room_type.as_deref())
}

fn mentions(room: &RoomSummary, term: &str) -> bool {
    let texts = [&room.name, &room.topic, &room.alias];
    let mut texts = texts.into_iter().flatten();
    term.is_empty() || texts.any(|text| text.to_lowercase().contains(term))
}

/// What the directory shows of a room.
fn shown(head: &RoomHead, summary: &RoomSummary) -> Value {
    let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    let mut room = json!({
        "room_id": head.room_id,
        "num_joined_members": head.joined,
        "world_readable": is(&summary.history_visibility, "world_readable"),
        "guest_can_join": is(&summary.guest_access, "can_join"),
    });
    for (name, text) in [
        ("name", &summary.name),
        ("topic", &summary.topic),
        ("canonical_alias", &summary.alias),
        ("avatar_url", &summary.avatar),
        ("join_rule", &summary.join_rule),
        ("room_type", &summary.room_type),
    ] {
        if let Some(text) = text {
            room[name] = text.as_str().into();
        }
    }
    room
}
