//! Where users are, and what they have done of late.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_protocol::Membership;
use rhizome_storage::{MembershipRow, RoomNo};
use ruma::OwnedRoomId;
use serde_json::{Map, Value, json};

use crate::{
    App, Ruma,
    admin::{asked::Asked, endpoint::endpoints, subject},
};

endpoints! {
    /// `GET`: the rooms in which a user is.
    GetJoined: GET "/_synapse/admin/v1/users/{user_id}/joined_rooms";
    /// `GET`: a user's memberships in all rooms.
    GetMemberships: GET "/_synapse/admin/v1/users/{user_id}/memberships";
    /// `GET`: how many invites a user has sent since a moment.
    GetInvites: GET "/_synapse/admin/v1/users/{user_id}/sent_invite_count";
    /// `GET`: into how many rooms a user has come since a moment.
    GetJoins: GET "/_synapse/admin/v1/users/{user_id}/cumulative_joined_room_count";
}

/// `GET /_synapse/admin/v1/users/{userId}/joined_rooms`
///
/// Of a user of another server, as far as this one is there, too.
pub async fn joined(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetJoined>>,
) -> Result<RawJson, MatrixError> {
    let rows = memberships_of(&app, req.part(0)).await?;
    let joined = rows
        .iter()
        .filter(|(_, row)| row.membership == Membership::Join);
    let joined: Vec<&OwnedRoomId> = joined.map(|(room_id, _)| room_id).collect();
    RawJson::of(&json!({ "joined_rooms": joined, "total": joined.len() }))
}

/// `GET /_synapse/admin/v1/users/{userId}/memberships`
pub async fn memberships(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetMemberships>>,
) -> Result<RawJson, MatrixError> {
    let rows = memberships_of(&app, req.part(0)).await?;
    let each = rows.iter().map(|(room_id, row)| {
        let membership = Value::from(row.membership.as_str());
        (room_id.to_string(), membership)
    });
    let memberships: Map<String, Value> = each.collect();
    RawJson::of(&json!({ "memberships": memberships }))
}

async fn memberships_of(
    app: &App,
    user: &str,
) -> Result<Vec<(OwnedRoomId, MembershipRow)>, MatrixError> {
    let Some(user) = subject::anybody(app, user).await? else {
        return Ok(Vec::new());
    };
    let rows = app.store.memberships_of(user).await?;
    let rooms: Vec<RoomNo> = rows.iter().map(|row| row.room).collect();
    let ids = app.store.room_ids(&rooms).await?;
    Ok(ids.into_iter().zip(rows.iter().copied()).collect())
}

/// `GET /_synapse/admin/v1/users/{userId}/sent_invite_count`
pub async fn invites(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetInvites>>,
) -> Result<RawJson, MatrixError> {
    let from_ts = Asked::of(&req).some_number("from_ts")?;
    let (user_id, account) = subject::account(&app, req.part(0)).await?;
    let user = (account.user, &*user_id);
    let count = app.store.invites_sent(user, from_ts).await?;
    RawJson::of(&json!({ "invite_count": count }))
}

/// `GET /_synapse/admin/v1/users/{userId}/cumulative_joined_room_count`
pub async fn joins(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetJoins>>,
) -> Result<RawJson, MatrixError> {
    let from_ts = Asked::of(&req).some_number("from_ts")?;
    let (_, account) = subject::account(&app, req.part(0)).await?;
    let count = app.store.rooms_joined_since(account.user, from_ts).await?;
    RawJson::of(&json!({ "cumulative_joined_room_count": count }))
}
