//! Room aliases.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_federation::{local, query, services};
use rhizome_protocol::draft::Draft;
use rhizome_rooms::{access::RoomAccess, send::SendOptions};
use rhizome_storage::{AliasesChanged, Fact, NewAlias, RoomHead, WriteSet};
use ruma::{
    OwnedServerName, RoomAliasId,
    api::client::{
        alias::{create_alias::v3 as put, delete_alias::v3 as delete, get_alias::v3 as get},
        room::aliases::v3 as list,
    },
};
use serde_json::Value;

use crate::{
    App, Caller, Ruma,
    auth::{acting, shadow},
    room::directory::{may_send_state, no_such_room},
    view::seen::reader,
};

/// How many servers an answer names.
const MAX_SERVERS: usize = 50;

/// `GET /_matrix/client/v3/directory/room/{roomAlias}`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get::Request>,
) -> Result<get::Response, MatrixError> {
    let alias = &req.room_alias;
    if alias.server_name() != app.config.server_name {
        let (room_id, servers) = query::alias(&app.federation, alias).await?;
        return Ok(get::Response::new(room_id, servers));
    }
    let found = services::alias(&app.federation, alias).await?;
    let found = found.ok_or_else(no_such_alias)?;
    let servers = servers_of(&app, found.room).await?;
    Ok(get::Response::new(found.room_id, servers))
}

/// Servers that can be joined through, our own first.
async fn servers_of(
    app: &App,
    room: rhizome_storage::RoomNo,
) -> Result<Vec<OwnedServerName>, MatrixError> {
    let joined = app.store.joined_servers(room).await?;
    let ours = &app.config.server_name;
    let others = joined
        .iter()
        .filter(|server| *server != ours)
        .take(MAX_SERVERS);
    Ok(std::iter::once(ours).chain(others).cloned().collect())
}

/// `PUT /_matrix/client/v3/directory/room/{roomAlias}`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<put::Request>,
) -> Result<put::Response, MatrixError> {
    require_ours(&app, &req.room_alias)?;
    let by_service = acting::require_alias(&app, &who, &req.room_alias)?;
    // Its namespace is a service's to use, whoever of its users is in the room.
    let room = if by_service {
        let head = app.store.room(&req.room_id).await?;
        head.ok_or_else(no_such_room)?.room
    } else {
        let access = RoomAccess::of_member(&app.store, reader(&who), &req.room_id).await?;
        access.head.room
    };
    if shadow::is_banned(&app, &who.user_id).await? {
        return Ok(put::Response::new());
    }
    let fact = Fact::Alias(NewAlias {
        alias: req.room_alias,
        room,
        creator: who.user,
    });
    let told = AliasesChanged { room };
    let set = WriteSet::from(vec![fact, told.into()]);
    app.store.commit(set).await?;
    Ok(put::Response::new())
}

/// `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
///
/// Whoever made the alias may remove it, and whoever may change the room's canonical alias. Where the
/// canonical alias named it, that is updated if the user may. An application service may remove all that are in its
/// namespaces.
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete::Request>,
) -> Result<delete::Response, MatrixError> {
    require_ours(&app, &req.room_alias)?;
    let by_service = acting::require_alias(&app, &who, &req.room_alias)?;
    let found = app
        .store
        .alias(&req.room_alias)
        .await?
        .ok_or_else(no_such_alias)?;
    let head = app.store.room_by_no(found.room).await?;
    let may_update = match &head {
        Some(head) => may_send_state(&app, head, &who.user_id, "m.room.canonical_alias").await?,
        None => false,
    };
    if found.creator != who.user && !may_update && !by_service {
        return Err(MatrixError::forbidden("You may not remove this alias"));
    }
    if shadow::is_banned(&app, &who.user_id).await? {
        return Ok(delete::Response::new());
    }
    if !app.store.delete_alias(&req.room_alias).await? {
        return Err(no_such_alias());
    }
    if let (Some(head), true) = (&head, may_update) {
        unname(&app, &who, head, &req.room_alias).await?;
    }
    Ok(delete::Response::new())
}

/// Takes the alias out of the canonical alias event.
async fn unname(
    app: &App,
    who: &Caller,
    head: &RoomHead,
    alias: &RoomAliasId,
) -> Result<(), MatrixError> {
    let Some(at) = head.snapshot else {
        return Ok(());
    };
    let kind = "m.room.canonical_alias";
    let Some(event) = app.store.state_event(at, kind, "").await? else {
        return Ok(());
    };
    let names_it = |value: &Value| value.as_str() == Some(alias.as_str());
    let mut content = event.pdu.content().clone();
    if content.get("alias").is_some_and(names_it) {
        content.remove("alias");
    }
    if let Some(Value::Array(aliases)) = content.get_mut("alt_aliases") {
        aliases.retain(|value| !names_it(value));
    }
    if content == *event.pdu.content() {
        return Ok(());
    }
    let draft = Draft {
        room_id: Some(head.room_id.clone()),
        sender: who.user_id.clone(),
        kind: kind.into(),
        state_key: Some(String::new()),
        content,
        redacts: None,
    };
    if let Err(error) = local::send(&app.federation, draft, SendOptions::default()).await {
        tracing::info!(room = %head.room_id, %error, "a removed alias stays in the canonical alias");
    }
    Ok(())
}

/// `GET /_matrix/client/v3/rooms/{roomId}/aliases`
pub async fn list(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<list::Request>,
) -> Result<list::Response, MatrixError> {
    let access = RoomAccess::of(&app.store, reader(&who), &req.room_id).await?;
    Ok(list::Response::new(
        app.store.aliases_of(access.head.room).await?,
    ))
}

fn require_ours(app: &App, alias: &RoomAliasId) -> Result<(), MatrixError> {
    if alias.server_name() == app.config.server_name {
        Ok(())
    } else {
        Err(MatrixError::invalid_param(
            "The alias belongs to another server",
        ))
    }
}

fn no_such_alias() -> MatrixError {
    MatrixError::not_found("There is no such alias")
}
