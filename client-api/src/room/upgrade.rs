//! Replacing a room by one of another version.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_rooms::{access::RoomAccess, upgrade::plan::UpgradeRoom};
use ruma::api::client::room::upgrade_room::v3 as upgrade_room;

use crate::{
    App, Ruma,
    account::newcomers,
    auth::shadow,
    member::member_content,
    view::{complete, seen::reader},
};

/// `POST /_matrix/client/v3/rooms/{roomId}/upgrade`
pub async fn upgrade(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<upgrade_room::Request>,
) -> Result<upgrade_room::Response, MatrixError> {
    let room = RoomAccess::of_member(&app.store, reader(&who), &req.room_id).await?;
    // Who is banned there is to be banned in the next one.
    complete::wait(&app, &room.head).await?;
    let request = UpgradeRoom {
        room_id: req.room_id,
        user_profile: member_content(&app, &who.user_id).await?,
        user: who.user_id.clone(),
        version: req.new_version,
        additional_creators: req.additional_creators,
    };
    newcomers::take(&app, &who, 1, 0).await?;
    if shadow::is_banned(&app, &request.user).await? {
        return Err(MatrixError::forbidden("You may not upgrade the room"));
    }
    let replacement = local::upgrade(&app.federation, &request).await?;
    Ok(upgrade_room::Response::new(replacement))
}
