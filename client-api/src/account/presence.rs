//! Presence: what users say of theirs, and what they are told of others' (client-server API, "Presence").

use axum::extract::State;
use rhizome_edge::{RawJson, Undecoded};
use rhizome_protocol::Membership;
use rhizome_storage::{PresenceState, PresenceStatus, Store, SyncPresence, UserNo};
use ruma::{
    UserId,
    api::client::presence::{get_presence::v3 as get_presence, set_presence::v3 as set_presence},
};
use serde::Deserialize;

use crate::{
    App, Caller, MatrixError, Ruma,
    auth::shadow,
    content,
    view::{json::Json, presence},
};

/// The longest that a user can say of their presence, in bytes.
const MAX_MESSAGE: usize = 4_096;

/// What a user says of their presence.
#[derive(Debug, Deserialize)]
pub struct NewPresence {
    presence: String,
    status_msg: Option<String>,
}

/// `PUT /_matrix/client/v3/presence/{userId}/status`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<set_presence::Request>>,
) -> Result<set_presence::Response, MatrixError> {
    if req.part(0) != who.user_id {
        return Err(MatrixError::forbidden("You can only say what you are"));
    }
    let said: NewPresence = serde_json::from_value(content::parse(&body)?.into())
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    tell(&app, &who, said).await?;
    Ok(set_presence::Response::new())
}

/// Takes up what a client says of its user's presence, by HTTP or by WebSocket.
pub async fn tell(app: &App, who: &Caller, said: NewPresence) -> Result<(), MatrixError> {
    let state = PresenceState::named(&said.presence)
        .ok_or_else(|| MatrixError::invalid_param("There is no such `presence`"))?;
    if (said.status_msg.as_ref()).is_some_and(|message| message.len() > MAX_MESSAGE) {
        return Err(MatrixError::invalid_param(format!(
            "`status_msg` may have {MAX_MESSAGE} bytes"
        )));
    }
    if shadow::is_banned(app, &who.user_id).await? {
        return Ok(());
    }
    let device = who.device_or_none();
    let set = (app.store).set_presence(who.user, &device, state, said.status_msg);
    Ok(set.await?)
}

/// `GET /_matrix/client/v3/presence/{userId}/status`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<get_presence::Request>>,
) -> Result<RawJson, MatrixError> {
    let asked = UserId::parse(req.part(0))
        .map_err(|_| MatrixError::invalid_param("This is no user's id"))?;
    let user = app.store.known_user(&asked).await?;
    let seen = match user {
        Some(user) => user == who.user || share_a_room(&app.store, user, who.user).await?,
        None => false,
    };
    let Some(user) = user.filter(|_| seen) else {
        return Err(MatrixError::forbidden("You share no room with this user"));
    };
    let status = match app.store.presence().of(user) {
        Some(status) => status,
        None => away(&app.store, user).await?,
    };
    let mut json = Json::default();
    presence::content(&mut json, &status);
    Ok(RawJson(json.finish().into()))
}

/// A user who wasn't heard of since the server began.
async fn away(store: &Store, user: UserNo) -> Result<PresenceStatus, MatrixError> {
    let message = if store.has_presence() {
        store.status_message(user).await?
    } else {
        None
    };
    Ok(PresenceStatus {
        user,
        state: PresenceState::Offline,
        message,
        last_active_ago: None,
        currently_active: false,
    })
}

/// Whether two users are joined to the same room.
async fn share_a_room(store: &Store, one: UserNo, other: UserNo) -> Result<bool, MatrixError> {
    let rows = store.memberships_of(one).await?;
    let others = store.memberships_of(other).await?;
    let mut joined = rows.iter().filter(|row| row.membership == Membership::Join);
    Ok(joined.any(|row| {
        // They come by room.
        let found = others.binary_search_by_key(&row.room, |other| other.room);
        found.is_ok_and(|at| others[at].membership == Membership::Join)
    }))
}

/// What a request that waits says of its device by `set_presence`; without it the device is online. Who is suspended says
/// nothing by it.
pub fn by_sync(who: &Caller, set_presence: Option<&str>) -> Result<SyncPresence, MatrixError> {
    let state = match set_presence {
        None => Some(PresenceState::Online),
        Some(name) => PresenceState::named(name),
    };
    let state = state.ok_or_else(|| {
        MatrixError::invalid_param(
            "`set_presence` is none of offline, online, unavailable and busy",
        )
    })?;
    if who.device_id.is_none() {
        // Nobody is there: somebody else acts for the user.
        return Ok(SyncPresence {
            state: PresenceState::Offline,
            said: true,
        });
    }
    if who.is_suspended {
        return Ok(SyncPresence {
            state: PresenceState::Online,
            said: false,
        });
    }
    Ok(SyncPresence {
        state,
        said: set_presence.is_some(),
    })
}

/// Takes note that a user does something. They don't if somebody acts for them.
pub fn acts(app: &App, who: &Caller) {
    if let Some(device) = &who.device_id {
        app.store.acts(who.user, device);
    }
}
