//! Join, knock, invite, leave, kick, ban, unban, forget.

use axum::extract::State;
use http::StatusCode;
use rhizome_federation::{
    MatrixError, local,
    membership::{join, knock, leave},
    services,
};
use rhizome_protocol::{Membership, Object};
use rhizome_rooms::{
    Error,
    membership::{self, Action, MembershipChange, restricted::AUTHORISED_VIA},
    redact_banned,
    send::SendOptions,
};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomOrAliasId, ServerName, UserId,
    api::client::knock::knock_room::v3 as knock_room,
    api::client::membership::{
        ban_user::v3 as ban,
        forget_room::v3 as forget,
        invite_user::v3::{self as invite, InvitationRecipient},
        join_room_by_id::v3 as join_by_id,
        join_room_by_id_or_alias::v3 as join_by_any,
        joined_rooms::v3 as joined_rooms,
        kick_user::v3 as kick,
        leave_room::v3 as leave_room,
        unban_user::v3 as unban,
    },
};

use serde_json::Value;

use crate::{
    App, Caller, Ruma,
    account::{guests, newcomers},
    auth::shadow,
    content,
    member::member_content,
    room::{by_address::ByAddress, notices},
    view::complete,
};

/// How many servers a request may name to join through.
const MAX_VIA: usize = 20;
/// Members of a join's body that are no content, or content that only servers may set.
const NOT_THE_CLIENTS: [&str; 2] = ["membership", AUTHORISED_VIA];

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
pub async fn join_by_id(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<join_by_id::Request>,
) -> Result<join_by_id::Response, MatrixError> {
    guests::require_open(&app, &who, &req.room_id).await?;
    let room = <&RoomOrAliasId>::from(&*req.room_id);
    let room_id = join_room(&app, &who, room, Vec::new(), &body).await?;
    Ok(join_by_id::Response::new(room_id))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
pub async fn join(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<join_by_any::Request>,
) -> Result<join_by_any::Response, MatrixError> {
    let room_id = join_room(&app, &who, &req.room_id_or_alias, req.via, &body).await?;
    Ok(join_by_any::Response::new(room_id))
}

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
pub async fn knock(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<knock_room::Request>,
) -> Result<knock_room::Response, MatrixError> {
    if shadow::is_banned(&app, &who.user_id).await? {
        return Err(MatrixError::forbidden("You can't knock on this room"));
    }
    let mut via = req.via;
    via.truncate(MAX_VIA);
    let mut content = member_content(&app, &who.user_id).await?;
    if let Some(reason) = req.reason {
        content.insert("reason".to_owned(), reason.into());
    }
    let room_id = knock::knock(
        &app.federation,
        &who.user_id,
        &req.room_id_or_alias,
        &via,
        content,
    )
    .await?;
    Ok(knock_room::Response::new(room_id))
}

async fn join_room(
    app: &App,
    who: &Caller,
    room: &RoomOrAliasId,
    mut via: Vec<ruma::OwnedServerName>,
    body: &[u8],
) -> Result<OwnedRoomId, MatrixError> {
    via.truncate(MAX_VIA);
    // Who invited us is in the room, or was.
    if let Some(server) = inviting_server(app, who, room).await?
        && !via.contains(&server)
    {
        via.push(server);
    }
    // What else a client says of its joining, a reason among it, becomes part of the event.
    let mut content = content::parse(body)?;
    let signed = content.remove("third_party_signed");
    content.retain(|key, _| !NOT_THE_CLIENTS.contains(&key.as_str()));
    if let Some(signed) = signed {
        Box::pin(take_up(app, who, room, signed)).await?;
    }
    content.append(&mut member_content(app, &who.user_id).await?);
    shadow::quiet(app, &who.user_id, &mut content).await?;
    join::join(&app.federation, &who.user_id, room, &via, content).await
}

/// Who joins shows what an identity server has signed: that they are whom a third-party invite is for. They are invited
/// first.
async fn take_up(
    app: &App,
    who: &Caller,
    room: &RoomOrAliasId,
    signed: Value,
) -> Result<(), MatrixError> {
    let wrong = |what: &str| MatrixError::bad_json(format!("third_party_signed: {what}"));
    let Value::Object(signed) = signed else {
        return Err(wrong("an object is expected"));
    };
    let sender = signed.get("sender").and_then(Value::as_str);
    let sender = sender.and_then(|sender| OwnedUserId::try_from(sender).ok());
    let sender = sender.ok_or_else(|| wrong("sender is no user"))?;
    let room_id = <&ruma::RoomId>::try_from(room);
    let room_id = room_id.map_err(|_| wrong("it goes with the room's id, not with an alias"))?;
    app.federation
        .take_up_third_party_invite(&who.user_id, room_id, &sender, signed)
        .await
}

async fn inviting_server(
    app: &App,
    who: &Caller,
    room: &RoomOrAliasId,
) -> Result<Option<ruma::OwnedServerName>, MatrixError> {
    let Ok(room_id) = <&ruma::RoomId>::try_from(room) else {
        return Ok(None);
    };
    let Some(no) = app.store.known_room(room_id).await? else {
        return Ok(None);
    };
    let Some(invite) = app.store.remote_invite(who.user, no).await? else {
        return Ok(None);
    };
    Ok(Some(invite.sender.server_name().to_owned()))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/invite`
pub async fn invite(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<invite::Request>,
) -> Result<invite::Response, MatrixError> {
    newcomers::take(&app, &who, 0, 1).await?;
    let room_id = req.room_id;
    match req.recipient {
        InvitationRecipient::UserId(invited) => {
            invite_user(&app, &who, room_id, invited.user_id, invited.reason).await?;
        }
        InvitationRecipient::ThirdPartyId(asked) => {
            // Boxed: seldom asked for, and larger than what is.
            let by_address = ByAddress::read(&app, asked)?;
            Box::pin(invite_by_address(&app, &who, room_id, &by_address)).await?;
        }
        _ => return Err(MatrixError::bad_json("Nobody is said to be invited")),
    }
    Ok(invite::Response::new())
}

/// Invites somebody by their id.
async fn invite_user(
    app: &App,
    who: &Caller,
    room_id: OwnedRoomId,
    invited: OwnedUserId,
    reason: Option<String>,
) -> Result<(), MatrixError> {
    let mut extra = Object::new();
    if is_ours(app, invited.server_name()) {
        made_by_service(app, who, &invited).await;
        extra = member_content(app, &invited).await?;
    }
    let wish = Wish {
        action: Action::Invite,
        reason,
        extra,
    };
    change(app, who, room_id, invited, wish).await
}

/// Lets the application services in whose namespaces an unknown user is make the account before they are invited. Whether
/// they do, and whether they answer, is no matter: they hear of the invite.
pub(super) async fn made_by_service(app: &App, who: &Caller, user: &UserId) {
    let by = who.service.as_ref().map(|service| service.id.as_str());
    if let Err(error) = services::user(&app.federation, user, by).await {
        tracing::info!(%user, %error, "an invited user isn't known");
    }
}

/// Invites somebody by their address.
pub(super) async fn invite_by_address(
    app: &App,
    who: &Caller,
    room_id: OwnedRoomId,
    by_address: &ByAddress,
) -> Result<(), MatrixError> {
    if shadow::is_banned(app, &who.user_id).await? {
        return shadow::event(app, who, &room_id, None).await.map(drop);
    }
    match by_address.invited(app, who, &room_id).await? {
        Some(user) => invite_user(app, who, room_id, user, None).await,
        None => Ok(()),
    }
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
pub async fn leave(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<leave_room::Request>,
) -> Result<leave_room::Response, MatrixError> {
    notices::may_leave(&app, &who, &req.room_id).await?;
    let banned = shadow::is_banned(&app, &who.user_id).await?;
    let reason = req.reason.filter(|_| !banned);
    leave::leave(&app.federation, &who.user_id, &req.room_id, reason).await?;
    Ok(leave_room::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/kick`
pub async fn kick(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<kick::Request>,
) -> Result<kick::Response, MatrixError> {
    if req.user_id == who.user_id {
        notices::may_leave(&app, &who, &req.room_id).await?;
    }
    let wish = Wish {
        extra: redactions(&body),
        ..Wish::new(Action::Kick, req.reason)
    };
    change(&app, &who, req.room_id, req.user_id, wish).await?;
    Ok(kick::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/ban`
pub async fn ban(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<ban::Request>,
) -> Result<ban::Response, MatrixError> {
    let wish = Wish {
        extra: redactions(&body),
        ..Wish::new(Action::Ban, req.reason)
    };
    change(&app, &who, req.room_id, req.user_id, wish).await?;
    Ok(ban::Response::new())
}

/// What a request to kick or ban says of redacting what the user has sent.
fn redactions(body: &[u8]) -> Object {
    let mut asked: Object = serde_json::from_slice(body).unwrap_or_default();
    asked.retain(|field, value| {
        redact_banned::FIELDS.contains(&field.as_str()) && value.is_boolean()
    });
    asked
}

/// `POST /_matrix/client/v3/rooms/{roomId}/unban`
pub async fn unban(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<unban::Request>,
) -> Result<unban::Response, MatrixError> {
    let wish = Wish::new(Action::Unban, req.reason);
    change(&app, &who, req.room_id, req.user_id, wish).await?;
    Ok(unban::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/forget`
pub async fn forget(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<forget::Request>,
) -> Result<forget::Response, MatrixError> {
    // The code is the specification's for this endpoint.
    membership::forget(&app.rooms, &req.room_id, &who.user_id)
        .await
        .map_err(|error| match error {
            Error::BadState(text) => MatrixError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", text),
            error => error.into(),
        })?;
    Ok(forget::Response::new())
}

/// `GET /_matrix/client/v3/joined_rooms`
pub async fn joined_rooms(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<joined_rooms::Request>,
) -> Result<joined_rooms::Response, MatrixError> {
    let mut joined = Vec::new();
    for row in app.store.memberships_of(who.user).await?.iter() {
        if row.membership == Membership::Join {
            joined.push(app.store.room_id(row.room).await?);
        }
    }
    Ok(joined_rooms::Response::new(joined))
}

/// Whether state of this type and content invites somebody, which is counted as such however it is asked for.
pub(crate) fn is_invite(kind: &str, content: &Object) -> bool {
    let membership = content.get("membership").and_then(Value::as_str);
    kind == "m.room.member" && membership == Some(Membership::Invite.as_str())
}

struct Wish {
    action: Action,
    reason: Option<String>,
    extra: Object,
}

impl Wish {
    fn new(action: Action, reason: Option<String>) -> Self {
        Self {
            action,
            reason,
            extra: Object::new(),
        }
    }
}

async fn change(
    app: &App,
    who: &Caller,
    room_id: OwnedRoomId,
    target: OwnedUserId,
    wish: Wish,
) -> Result<(), MatrixError> {
    let Wish {
        action,
        mut reason,
        mut extra,
    } = wish;
    if shadow::is_banned(app, &who.user_id).await? {
        if action == Action::Kick && target == who.user_id {
            (reason, extra) = (None, Object::new());
        } else {
            return shadow::event(app, who, &room_id, None).await.map(drop);
        }
    }
    if target != who.user_id {
        complete::wait_for(app, &room_id, &target).await?;
    }
    let sender = who.user_id.clone();
    let change = MembershipChange {
        room_id,
        sender,
        target,
        action,
        reason,
        extra,
    };
    if let Some(draft) = membership::prepare(&app.rooms, change).await? {
        local::send(&app.federation, draft, SendOptions::default()).await?;
    }
    Ok(())
}

fn is_ours(app: &App, server: &ServerName) -> bool {
    server == app.config.server_name
}
