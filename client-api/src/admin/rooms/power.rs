//! Power in a room, given by somebody of this server who has it.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_federation::local;
use rhizome_protocol::{
    Membership, Object,
    draft::Draft,
    power::{Level, Power},
};
use rhizome_rooms::{
    membership::{self, Action, MembershipChange},
    send::SendOptions,
    state::powers_at,
};
use rhizome_storage::RoomHead;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{asked, endpoint::endpoints, subject},
    member::member_content,
};

endpoints! {
    /// `POST`: makes somebody an administrator of a room.
    PostAdmin: POST "/_synapse/admin/v1/rooms/{room_id_or_alias}/make_room_admin";
}

const LEVELS: &str = "m.room.power_levels";
/// The level that a creator gives, whose own is no number, …
const CREATORS: i64 = 100;
/// … and so many of those who have power are looked at.
const MOST: usize = 200;

#[derive(Deserialize)]
struct Wish {
    user_id: Option<OwnedUserId>,
}

/// `POST /_synapse/admin/v1/rooms/{roomIdOrAlias}/make_room_admin`
///
/// They get the level of whoever of this server has the highest; if they aren't there and can't just come in, they are invited.
pub async fn make_room_admin(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostAdmin>>,
) -> Result<RawJson, MatrixError> {
    let head = subject::room_or_alias(&app, req.part(0)).await?;
    let wish: Wish = asked::body(&body)?;
    let user_id = wish.user_id.unwrap_or_else(|| who.user_id.clone());
    if user_id.server_name() == app.config.server_name {
        subject::living(&app, user_id.as_str()).await?;
    }
    let giver = giver(&app, &head, &user_id).await?;
    give(&app, &head, &giver, &user_id).await?;
    tracing::info!(
        by = %who.user_id, room = %head.room_id, user = %user_id, from = %giver.user_id, "power in a room was given"
    );
    invite(&app, &head, giver.user_id, user_id).await?;
    RawJson::of(&json!({}))
}

/// Who gives power, and how much.
struct Giver {
    user_id: OwnedUserId,
    /// Their own level.
    level: Level,
    /// The level that they give.
    gives: i64,
    /// What the levels are now.
    levels: Object,
    /// Whether whom it is for has it already.
    is_given: bool,
}

/// Whoever of this server's users in the room has the most power, if that suffices.
async fn giver(app: &App, head: &RoomHead, to: &UserId) -> Result<Giver, MatrixError> {
    let at = head
        .snapshot
        .ok_or_else(|| nobody("This server isn't in the room"))?;
    let state = powers_at(&app.store, at).await?;
    let power = Power::of(head.rules, &state);
    let needed = power.event(LEVELS, true);
    let here = power
        .named()
        .filter(|user| user.server_name() == app.config.server_name)
        .map(|user| (power.user(user), user));
    let mut here: Vec<(Level, &UserId)> = here
        .filter(|(level, _)| *level >= Level::Int(needed))
        .collect();
    // The most powerful first, and of equals always the same.
    here.sort_by(|one, other| other.cmp(one));
    for (level, user) in here.into_iter().take(MOST) {
        let now = membership::current(&app.rooms, &head.room_id, user).await?;
        if now != Some(Membership::Join) {
            continue;
        }
        let gives = match level {
            Level::Int(level) => level,
            Level::Infinite => needed.max(CREATORS),
        };
        let levels = state.iter().find(|event| event.is_state(LEVELS, ""));
        return Ok(Giver {
            user_id: user.to_owned(),
            level,
            gives,
            levels: levels.map_or_else(Object::new, |event| event.content().clone()),
            is_given: power.user(to) >= Level::Int(gives),
        });
    }
    Err(nobody(
        "Nobody of this server is in the room who may change its power levels",
    ))
}

fn nobody(why: &str) -> MatrixError {
    MatrixError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", why)
}

async fn give(
    app: &App,
    head: &RoomHead,
    giver: &Giver,
    user_id: &UserId,
) -> Result<(), MatrixError> {
    if giver.is_given {
        return Ok(());
    }
    let mut content = giver.levels.clone();
    let users = content
        .entry("users")
        .or_insert_with(|| Value::Object(Object::new()));
    let Value::Object(users) = users else {
        return Err(nobody("The room's power levels can't be read"));
    };
    users.insert(user_id.to_string(), giver.gives.into());
    if let (true, Level::Int(own)) = (giver.levels.is_empty(), giver.level) {
        // Without levels it is who has made the room that has power.
        users.insert(giver.user_id.to_string(), own.into());
    }
    let draft = Draft {
        room_id: Some(head.room_id.clone()),
        sender: giver.user_id.clone(),
        kind: LEVELS.into(),
        state_key: Some(String::new()),
        content,
        redacts: None,
    };
    let sent = local::send(&app.federation, draft, SendOptions::default()).await;
    match sent {
        Ok(_) => Ok(()),
        Err(error) if error.status == StatusCode::FORBIDDEN => Err(nobody(&error.message)),
        Err(error) => Err(error),
    }
}

/// Who isn't there and can't just come in is invited.
async fn invite(
    app: &App,
    head: &RoomHead,
    giver: OwnedUserId,
    user_id: OwnedUserId,
) -> Result<(), MatrixError> {
    let now = membership::current(&app.rooms, &head.room_id, &user_id).await?;
    if matches!(now, Some(Membership::Join | Membership::Invite)) {
        return Ok(());
    }
    let summary = app.store.room_summary(head.room).await?;
    if summary.join_rule.as_deref() == Some("public") {
        return Ok(());
    }
    let mut extra = Object::new();
    if user_id.server_name() == app.config.server_name {
        extra = member_content(app, &user_id).await?;
    }
    let change = MembershipChange {
        room_id: head.room_id.clone(),
        sender: giver,
        target: user_id,
        action: Action::Invite,
        reason: None,
        extra,
    };
    if let Some(draft) = membership::prepare(&app.rooms, change).await? {
        local::send(&app.federation, draft, SendOptions::default()).await?;
    }
    Ok(())
}
