//! Replacing a room by one of another version.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_rooms::{access::RoomAccess, upgrade::plan::UpgradeRoom};
use ruma::api::client::room::upgrade_room::v3 as upgrade_room;

use crate::{
    App, Ruma,
    account::{newcomers, profile::rooms::member_content},
    auth::shadow,
    view::seen::reader,
};

/// `POST /_matrix/client/v3/rooms/{roomId}/upgrade`
pub async fn upgrade(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<upgrade_room::Request>,
) -> Result<upgrade_room::Response, MatrixError> {
    RoomAccess::of_member(&app.store, reader(&who), &req.room_id).await?;
    let request = UpgradeRoom {
        room_id: req.room_id,
        user_profile: member_content(&app, &who.user_id).await?,
        user: who.user_id,
        version: req.new_version,
        additional_creators: req.additional_creators,
    };
    if shadow::is_banned(&app, &request.user).await? {
        return Err(MatrixError::forbidden("You may not upgrade the room"));
    }
    newcomers::take(&app, &request.user, 1, 0).await?;
    let replacement = local::upgrade(&app.federation, &request).await?;
    Ok(upgrade_room::Response::new(replacement))
}
