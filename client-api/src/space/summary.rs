//! What a room is, for who thinks of joining it.

use axum::extract::State;
use bytes::Bytes;
use rhizome_edge::{Binary, Decode as _, Payload};
use rhizome_federation::{RawJson, query, services, spaces};
use rhizome_protocol::Membership;
use rhizome_rooms::access::{Visitor, server_in_room};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId,
    api::{auth_scheme::AccessTokenOptional, client::room::get_summary::v1},
    metadata,
};
use serde_json::Value;

use super::known::{Known, Wanted};
use crate::{App, MatrixError, Ruma, limits::Kind};

/// How many servers a request may name.
const MAX_VIA: usize = 20;
/// What the proposal called fields that are new with it (MSC3266).
const FORMER: [(&str, &str); 2] = [
    ("encryption", "im.nheko.summary.encryption"),
    ("room_version", "im.nheko.summary.room_version"),
];

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`, and as it was proposed.
pub struct Summary;
metadata! {
    @for Summary,
    method: GET,
    rate_limited: true,
    authentication: AccessTokenOptional,
    history: {
        unstable => "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}",
        unstable => "/_matrix/client/unstable/im.nheko.summary/rooms/{room_id_or_alias}/summary",
        1.15 => "/_matrix/client/v1/room_summary/{room_id_or_alias}",
    }
}

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
pub async fn summary(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<Binary<Summary>>,
) -> Result<RawJson, MatrixError> {
    let is_former = req.head.parts.uri.path().contains("/unstable/");
    let asked = v1::Request::decode(req.head, &mut Payload::Whole(Bytes::new()))?;
    let user = who.as_ref().map(|who| &*who.user_id);
    // Others are asked for who says who they are; for anybody else as often as somebody may join.
    let asking = || {
        if user.is_some() {
            return Ok(());
        }
        let now = app.now_monotonic_ms();
        let taken = app.limits.take_from(Kind::Join, peer, now);
        taken.map_err(MatrixError::limit_exceeded)
    };
    let (room, mut via) = room_of(&app, &asked.room_id_or_alias, asked.via, asking).await?;
    let visitor = match &who {
        Some(who) => Visitor::load(&app.store, who.user).await?,
        None => Visitor::nobody(),
    };
    if !server_in_room(&app.store, &room, &app.config.server_name).await? {
        asking()?;
        via = spaces::whom_to_ask(&app.federation, user, &room, via).await?;
    }
    let mut known = Known::new(&app, visitor);
    let wanted = Wanted {
        room_id: room.clone(),
        via,
        parent: None,
    };
    known.look_up(vec![wanted]).await?;
    let node = known.shown(&room).ok_or_else(absent)?;
    let mut fields = node.entry.fields.clone();
    if is_former {
        for (name, former) in FORMER {
            if let Some(value) = fields.get(name).cloned() {
                fields.insert(former.to_owned(), value);
            }
        }
    }
    if user.is_some() {
        let membership = known.visitor().membership(&room);
        let membership = membership.unwrap_or(Membership::Leave);
        fields.insert("membership".to_owned(), membership.as_str().into());
    }
    RawJson::of(&Value::Object(fields))
}

/// Which room is meant, and who may know of it. `asking` says whether others may be asked.
async fn room_of(
    app: &App,
    room: &RoomOrAliasId,
    mut via: Vec<OwnedServerName>,
    asking: impl Fn() -> Result<(), MatrixError>,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), MatrixError> {
    via.truncate(MAX_VIA);
    if let Ok(room) = RoomId::parse(room.as_str()) {
        return Ok((room, via));
    }
    let alias = RoomAliasId::parse(room.as_str())
        .map_err(|_| MatrixError::invalid_param("It is neither a room's id nor an alias"))?;
    if alias.server_name() != app.config.server_name {
        asking()?;
        let (room, servers) = query::alias(&app.federation, &alias).await.map_err(gone)?;
        via.extend(servers.into_iter().take(MAX_VIA));
        return Ok((room, via));
    }
    let found = services::alias(&app.federation, &alias).await?;
    let found = found.ok_or_else(absent)?;
    let servers = app.store.joined_servers(found.room).await?;
    via.extend(servers.iter().take(MAX_VIA).cloned());
    Ok((found.room_id, via))
}

/// An alias that leads nowhere, or nowhere that can be reached.
fn gone(error: MatrixError) -> MatrixError {
    if error.errcode == "M_NOT_FOUND" {
        absent()
    } else {
        error
    }
}

/// Whether the room exists isn't told.
fn absent() -> MatrixError {
    MatrixError::not_found("There is no such room, or you may not know of it")
}
