//! Making rooms.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_protocol::Object;
use rhizome_rooms::{
    create::{
        self,
        plan::{CreateRoom, InitialState, Preset},
    },
    send::SendOptions,
};
use ruma::{
    OwnedUserId, RoomAliasId,
    api::client::room::{
        Visibility,
        create_room::v3::{self as create_room, RoomPreset},
    },
};
use serde_json::Value;

use crate::{App, Ruma, account::profile::rooms::member_content, content, limits::Kind};

/// `POST /_matrix/client/v3/createRoom`
pub async fn create(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<create_room::Request>,
) -> Result<create_room::Response, MatrixError> {
    let creator_profile = member_content(&app, &who.user_id).await?;
    let request = decoded(&app, who.user_id, creator_profile, req)?;
    // Refused before anything is made: half of the guests would be no use.
    let now = app.now_monotonic_ms();
    app.limits
        .take_many(Kind::Invite, &request.creator, request.invite.len(), now)?;
    let created = create::create(&app.rooms, &request).await?;
    for invite in created.remote_invites {
        // The room stands; an unreachable guest doesn't unmake it.
        if let Err(error) = local::send(&app.federation, invite, SendOptions::default()).await {
            tracing::warn!(room = %created.room_id, %error, "an invite with a new room failed");
        }
    }
    Ok(create_room::Response::new(created.room_id))
}

fn decoded(
    app: &App,
    creator: OwnedUserId,
    creator_profile: Object,
    req: create_room::Request,
) -> Result<CreateRoom, MatrixError> {
    if !req.invite_3pid.is_empty() {
        return Err(MatrixError::invalid_param(
            "This server has no identity server: invite by user id",
        ));
    }
    let public = req.visibility == Visibility::Public;
    let preset = match req.preset {
        Some(RoomPreset::PrivateChat) => Preset::PrivateChat,
        Some(RoomPreset::TrustedPrivateChat) => Preset::TrustedPrivateChat,
        Some(RoomPreset::PublicChat) => Preset::PublicChat,
        Some(_) => return Err(MatrixError::bad_json("preset is none of the known presets")),
        None if public => Preset::PublicChat,
        None => Preset::PrivateChat,
    };
    let alias = match req.room_alias_name {
        Some(name) => Some(alias_of(app, &name)?),
        None => None,
    };
    let initial_state = req
        .initial_state
        .iter()
        .map(|raw| initial(content::parse_raw(raw)?))
        .collect::<Result<_, _>>()?;
    Ok(CreateRoom {
        creator,
        creator_profile,
        version: req
            .room_version
            .unwrap_or_else(|| app.config.default_room_version.clone()),
        public,
        preset,
        name: req.name,
        topic: req.topic,
        alias,
        creation_content: object_of(req.creation_content.as_ref())?,
        initial_state,
        power_level_content_override: object_of(req.power_level_content_override.as_ref())?,
        invite: req.invite,
        is_direct: req.is_direct,
    })
}

fn object_of<T>(raw: Option<&ruma::serde::Raw<T>>) -> Result<Object, MatrixError> {
    raw.map_or_else(|| Ok(Object::new()), content::parse_raw)
}

fn alias_of(app: &App, name: &str) -> Result<ruma::OwnedRoomAliasId, MatrixError> {
    let invalid = |why: &str| MatrixError::invalid_param(format!("room_alias_name: {why}"));
    if name.is_empty() || name.contains([':', '\0']) {
        return Err(invalid("must not be empty or contain a colon or NUL"));
    }
    RoomAliasId::parse(format!("#{name}:{}", app.config.server_name))
        .map_err(|error| invalid(&error.to_string()))
}

fn initial(mut event: Object) -> Result<InitialState, MatrixError> {
    let mut text = |key: &str| match event.remove(key) {
        Some(Value::String(text)) => Ok(Some(text)),
        None => Ok(None),
        Some(_) => Err(MatrixError::bad_json(format!(
            "initial_state: {key} must be a string"
        ))),
    };
    let missing = || MatrixError::bad_json("initial_state: each entry has a type and a content");
    let kind = text("type")?.ok_or_else(missing)?;
    let state_key = text("state_key")?.unwrap_or_default();
    let Some(Value::Object(content)) = event.remove("content") else {
        return Err(missing());
    };
    Ok(InitialState {
        kind,
        state_key,
        content,
    })
}
