//! Users of this server are brought into a room.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_federation::{local, membership::join as joining, query};
use rhizome_protocol::Membership;
use rhizome_rooms::{
    membership::{self, Action, MembershipChange},
    send::SendOptions,
};
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomAliasId, RoomId, RoomOrAliasId, ServerName,
    UserId,
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    App, Ruma,
    admin::{
        asked::{self, Asked},
        endpoint::endpoints,
        subject,
    },
    auth::shadow,
    content,
    member::member_content,
};

endpoints! {
    /// `POST`: lets a user of this server join a room.
    PostJoin: POST "/_synapse/admin/v1/join/{room_id_or_alias}";
}

/// How many servers can be named to join through.
const MAX_VIA: usize = 20;

#[derive(Deserialize)]
struct Wish {
    user_id: OwnedUserId,
}

/// `POST /_synapse/admin/v1/join/{roomIdOrAlias}`
///
/// Into a room where not everybody may come the administrator invites them first, who has to be there.
pub async fn join(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostJoin>>,
) -> Result<RawJson, MatrixError> {
    let wish: Wish = asked::body(&body)?;
    subject::living(&app, wish.user_id.as_str()).await?;
    let asked = Asked::of(&req);
    let named = asked
        .all("server_name")
        .filter_map(|server| ServerName::parse(server).ok());
    let named: Vec<OwnedServerName> = named.take(MAX_VIA).collect();
    let (room_id, via) = room(&app, req.part(0), named).await?;
    invite(&app, &who.user_id, &room_id, &wish.user_id).await?;
    let mut content = member_content(&app, &wish.user_id).await?;
    shadow::quiet(&app, &wish.user_id, &mut content).await?;
    let target = <&RoomOrAliasId>::from(&*room_id);
    joining::join(&app.federation, &wish.user_id, target, &via, content).await?;
    tracing::info!(by = %who.user_id, room = %room_id, user = %wish.user_id, "a user was brought into a room");
    RawJson::of(&json!({ "room_id": room_id }))
}

/// The room, and whom to ask to be let in.
async fn room(
    app: &App,
    text: &str,
    mut via: Vec<OwnedServerName>,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), MatrixError> {
    let Ok(alias) = RoomAliasId::parse(text) else {
        return Ok((content::room_id(text)?, via));
    };
    if alias.server_name() == app.config.server_name {
        let found = app.store.alias(&alias).await?;
        let found = found.ok_or_else(|| MatrixError::not_found("There is no such alias here"))?;
        return Ok((found.room_id, via));
    }
    // Boxed: mostly it is a room's id.
    let (room_id, servers) = Box::pin(query::alias(&app.federation, &alias)).await?;
    via.extend(servers.into_iter().take(MAX_VIA));
    Ok((room_id, via))
}

/// Invites them where not everybody may come in, as far as this server knows the room.
async fn invite(
    app: &App,
    by: &UserId,
    room_id: &RoomId,
    user_id: &OwnedUserId,
) -> Result<(), MatrixError> {
    let Some(head) = app
        .store
        .room(room_id)
        .await?
        .filter(|head| head.joined > 0)
    else {
        return Ok(());
    };
    let summary = app.store.room_summary(head.room).await?;
    let now = membership::current(&app.rooms, room_id, user_id).await?;
    let is_open = summary.join_rule.as_deref() == Some("public");
    if is_open || by == user_id || matches!(now, Some(Membership::Join | Membership::Invite)) {
        return Ok(());
    }
    let change = MembershipChange {
        room_id: room_id.to_owned(),
        sender: by.to_owned(),
        target: user_id.clone(),
        action: Action::Invite,
        reason: None,
        extra: member_content(app, user_id).await?,
    };
    if let Some(draft) = membership::prepare(&app.rooms, change).await? {
        local::send(&app.federation, draft, SendOptions::default()).await?;
    }
    Ok(())
}
