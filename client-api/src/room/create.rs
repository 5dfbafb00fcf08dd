//! Making rooms.

use std::collections::HashMap;

use axum::extract::State;
use futures_util::future::join_all;
use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_protocol::Object;
use rhizome_rooms::{
    create::{
        self,
        plan::{CreateRoom, InitialState, MAX_INVITES, Policy, Preset},
    },
    invites,
    send::SendOptions,
};
use ruma::{
    OwnedUserId, RoomAliasId, UserId,
    api::client::{
        membership::Invite3pid,
        room::{
            Visibility,
            create_room::v3::{self as create_room, RoomPreset},
        },
    },
};
use serde_json::Value;

use crate::{
    App, Ruma,
    account::newcomers,
    auth::{acting, shadow},
    config::EncryptionByDefault,
    content,
    limits::Kind,
    member::{member_content, only_of_members},
    room::{
        by_address::ByAddress,
        membership,
        state::{bad_alias, named_aliases},
    },
};

/// How many may be invited by an address with a new room: each takes two questions to an identity server.
const MAX_BY_ADDRESS: usize = 20;

/// `POST /_matrix/client/v3/createRoom`
pub async fn create(
    State(app): State<App>,
    Ruma { who, mut req, .. }: Ruma<create_room::Request>,
) -> Result<create_room::Response, MatrixError> {
    let creator_profile = member_content(&app, &who.user_id).await?;
    let mut by_address = by_address(&app, std::mem::take(&mut req.invite_3pid))?;
    let mut request = decoded(&app, who.user_id.clone(), creator_profile, req)?;
    check_canonical_alias(&request)?;
    if let Some(alias) = &request.alias {
        acting::require_alias(&app, &who, alias)?;
    }
    // Refused before anything is made: half of the guests would be no use.
    let (store, ours) = (&app.store, &app.config.server_name);
    let invited = request
        .invite
        .iter()
        .filter(|user| user.server_name() == ours);
    let invited: Vec<OwnedUserId> = invited.take(MAX_INVITES).cloned().collect();
    invites::require_wanted_of(store, &request.creator, &invited).await?;
    if shadow::is_banned(&app, &request.creator).await? {
        request.invite.clear();
        by_address.clear();
        // It is in no directory, and nothing leads there.
        request.public = false;
        request.alias = None;
    }
    let guests = request.invite.len() + by_address.len();
    newcomers::take(&app, &who, 1, guests).await?;
    let now = app.now_monotonic_ms();
    app.limits.take_many(Kind::Invite, &who, guests, now)?;
    if !app.federation.services().is_empty() {
        let invited = invited
            .iter()
            .map(|user| membership::made_by_service(&app, &who, user));
        Box::pin(join_all(invited)).await;
    }
    request.invited_profiles = profiles(&app, &request.invite).await?;
    let created = create::create(&app.rooms, &request).await?;
    for invite in created.remote_invites {
        // The room stands; an unreachable guest doesn't unmake it.
        if let Err(error) = local::send(&app.federation, invite, SendOptions::default()).await {
            tracing::warn!(room = %created.room_id, %error, "an invite with a new room failed");
        }
    }
    for one in by_address {
        let room_id = created.room_id.clone();
        let invited = membership::invite_by_address(&app, &who, room_id, &one);
        if let Err(error) = Box::pin(invited).await {
            tracing::warn!(room = %created.room_id, %error, "an invite with a new room failed");
        }
    }
    Ok(create_room::Response::new(created.room_id))
}

/// Who is invited by an address, as far as it makes sense.
fn by_address(app: &App, asked: Vec<Invite3pid>) -> Result<Vec<ByAddress>, MatrixError> {
    if asked.len() > MAX_BY_ADDRESS {
        let message = format!("At most {MAX_BY_ADDRESS} may be invited by an address at once");
        return Err(MatrixError::invalid_param(message));
    }
    let each = asked.into_iter().map(|one| ByAddress::read(app, one));
    each.collect()
}

fn decoded(
    app: &App,
    creator: OwnedUserId,
    creator_profile: Object,
    req: create_room::Request,
) -> Result<CreateRoom, MatrixError> {
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
        invited_profiles: HashMap::new(),
        encrypted: app.config.encryption_by_default == EncryptionByDefault::All,
        policy: Policy {
            encrypted_unless_public: app.config.encryption_by_default
                == EncryptionByDefault::Invite,
            ..app.config.room_policies.of(preset).clone()
        },
    })
}

/// What the member events of this server's users among these say of their profiles.
async fn profiles(
    app: &App,
    users: &[OwnedUserId],
) -> Result<HashMap<OwnedUserId, Object>, MatrixError> {
    let here: Vec<&OwnedUserId> = users
        .iter()
        .filter(|user| user.server_name() == app.config.server_name)
        .take(MAX_INVITES)
        .collect();
    let names: Vec<&UserId> = here.iter().map(|user| &***user).collect();
    let nos = app.store.user_nos(&names).await?;
    let mut profiles = app.store.profiles(&nos).await?;
    let of = here.into_iter().zip(nos).filter_map(|(user, no)| {
        let mut profile = profiles.remove(&no)?;
        only_of_members(&mut profile);
        Some((user.clone(), profile))
    });
    Ok(of.collect())
}

/// The only alias that leads to a room which isn't there yet is the one that is made with it.
fn check_canonical_alias(request: &CreateRoom) -> Result<(), MatrixError> {
    let canonical = |entry: &&InitialState| {
        entry.kind == "m.room.canonical_alias" && entry.state_key.is_empty()
    };
    for entry in request.initial_state.iter().filter(canonical) {
        for alias in named_aliases(&entry.content)? {
            if Some(&alias) != request.alias.as_ref() {
                return Err(bad_alias(&alias));
            }
        }
    }
    Ok(())
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
