//! The public room directory.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson};
use rhizome_federation::query::directory;
use rhizome_protocol::{
    Membership,
    power::{Level, Power},
};
use rhizome_rooms::{membership, state::powers_at};
use rhizome_storage::{Fact, Listing, RoomHead, WriteSet};
use ruma::{
    OwnedServerName, UInt, UserId,
    api::client::{
        directory::{
            get_public_rooms::v3 as get, get_public_rooms_filtered::v3 as search,
            get_room_visibility::v3 as get_visibility, set_room_visibility::v3 as set_visibility,
        },
        room::Visibility,
    },
    directory::{Filter, RoomNetwork},
};

use crate::{App, Ruma, auth::shadow};

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
    if shadow::is_banned(&app, &who.user_id).await? {
        return Ok(set_visibility::Response::new());
    }
    let fact = Fact::Listing(Listing {
        room: head.room,
        public,
    });
    app.store.commit(WriteSet::from(vec![fact])).await?;
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
    let state = powers_at(&app.store, at).await?;
    let power = Power::of(head.rules, &state);
    let suffices = power.user(user_id) >= Level::Int(power.event(kind, true));
    Ok(joined == Some(Membership::Join) && suffices)
}

/// `GET /_matrix/client/v3/publicRooms`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get::Request>,
) -> Result<RawJson, MatrixError> {
    let network = RoomNetwork::default();
    list(
        &app,
        req.server,
        req.limit,
        req.since,
        Filter::new(),
        network,
    )
    .await
}

/// `POST /_matrix/client/v3/publicRooms`
pub async fn search(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<search::Request>,
) -> Result<RawJson, MatrixError> {
    let (filter, network) = (req.filter, req.room_network);
    list(&app, req.server, req.limit, req.since, filter, network).await
}

async fn list(
    app: &App,
    server: Option<OwnedServerName>,
    limit: Option<UInt>,
    since: Option<String>,
    filter: Filter,
    network: RoomNetwork,
) -> Result<RawJson, MatrixError> {
    let other = server.filter(|server| *server != app.config.server_name);
    let answer = if let Some(server) = other {
        directory::theirs(&app.federation, &server, limit, since, filter, network).await?
    } else {
        let wanted = (filter, &network);
        directory::ours(&app.federation, limit, since.as_deref(), wanted).await?
    };
    RawJson::of(&answer)
}

pub(super) fn no_such_room() -> MatrixError {
    MatrixError::not_found("This server doesn't know the room")
}
