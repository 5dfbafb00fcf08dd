//! Other servers' users join rooms of ours: `make_join` gives a template, `send_join` takes the event
//! (<https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>).

use axum::extract::State;
use rhizome_edge::Content;
use rhizome_protocol::Membership;
use rhizome_rooms::{Error, state};
use rhizome_storage::{RoomHead, StoredEvent, UserNo};
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    api::federation::membership::{create_join_event, prepare_join_event},
};

use super::{member, v1, wire::Writer};
use crate::{Federation, MatrixError, Ruma};

/// How many members stand for a room without a name (client-server API, `m.heroes`).
const HEROES: usize = 5;

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
pub(super) async fn make_join(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<prepare_join_event::v1::Request>,
) -> Result<prepare_join_event::v1::Response, MatrixError> {
    let (event, rules) = member::template(
        &fed,
        &who,
        &req.room_id,
        &req.user_id,
        Membership::Join,
        &member::spoken(req.ver),
    )
    .await?;
    let mut response = prepare_join_event::v1::Response::new(event);
    response.room_version = Some(rules.version.clone());
    Ok(response)
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
pub(super) async fn send_join(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<create_join_event::v2::Request>,
) -> Result<Content, MatrixError> {
    let answer = accept(&fed, &who, req).await?;
    answer.finish(fed.store()).await
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`: the same answer inside `[200, …]`, always of everything.
pub(super) async fn send_join_v1(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<v1::SendJoin>,
) -> Result<Content, MatrixError> {
    let mut request = req.0;
    request.omit_members = false;
    let answer = accept(&fed, &who, request).await?;
    answer.within("[200,", "]").finish(fed.store()).await
}

async fn accept(
    fed: &Federation,
    origin: &ServerName,
    req: create_join_event::v2::Request,
) -> Result<Writer, MatrixError> {
    let (head, event) = member::admit(
        fed,
        origin,
        &req.room_id,
        &req.event_id,
        &req.pdu,
        Membership::Join,
    )
    .await?;
    let few = req.omit_members;
    let (before, servers) = if few {
        let heroes = heroes(fed, &head, event.pdu.sender()).await?;
        let before = state::before_without_members(fed.rooms(), &event, &heroes).await?;
        (before, servers_before(fed, origin, &event).await?)
    } else {
        let before = state::before(fed.rooms(), &event).await?;
        let servers = fed.store().joined_servers(head.room).await?;
        (before, servers.to_vec())
    };
    let before = before.ok_or(Error::UnknownEvent(req.event_id))?;
    Ok(Writer::new()
        .value("origin", &fed.server_name())?
        .value("members_omitted", &few)?
        .value("servers_in_room", &servers)?
        .events("auth_chain", before.auth_chain)
        .events("state", before.state)
        .event("event", &event.pdu))
}

/// The members by whom the one who joins will call a room that has neither a name nor an alias.
async fn heroes(
    fed: &Federation,
    head: &RoomHead,
    joins: &UserId,
) -> Result<Vec<OwnedUserId>, MatrixError> {
    let store = fed.store();
    if store.room_summary(head.room).await?.is_named() {
        return Ok(Vec::new());
    }
    let joins = store.user_no(joins).await?;
    let heroes = store.heroes(head.room, joins, HEROES).await?;
    let heroes: Vec<UserNo> = heroes.iter().map(|member| member.user).collect();
    Ok(store.users(&heroes).await?)
}

/// The servers that were in the room before the join: without that of the user, if nobody else of it is there. Who isn't
/// told the members finds by these to whom to send.
async fn servers_before(
    fed: &Federation,
    origin: &ServerName,
    join: &StoredEvent,
) -> Result<Vec<OwnedServerName>, MatrixError> {
    let store = fed.store();
    let user = store.user_no(join.pdu.sender()).await?;
    let theirs = store.joined_of_server(join.room, origin, 2).await?;
    let mut was_in = theirs.iter().any(|other| *other != user);
    if let (false, Some(at)) = (was_in, join.state_before) {
        let name = join.pdu.sender().as_str();
        let member = store.state_event(at, "m.room.member", name).await?;
        was_in = member.is_some_and(|event| event.pdu.membership() == Some(Membership::Join));
    }
    let servers = store.joined_servers(join.room).await?;
    let before = servers.iter().filter(|name| was_in || **name != origin);
    Ok(before.cloned().collect())
}
