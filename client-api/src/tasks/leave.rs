//! A user leaves all rooms, and refuses what they are invited to: their account has ended.

use rhizome_edge::MatrixError;
use rhizome_federation::membership::leave;
use rhizome_protocol::Membership;
use rhizome_storage::Task;
use ruma::UserId;

use super::Step;
use crate::App;

/// Leaves one more room. One that has something against it is passed over; so is one that couldn't be left the last time.
///
/// # Errors
/// What is to be tried again.
pub(super) async fn step(app: &App, task: &Task, is_last: bool) -> Result<Step, MatrixError> {
    let user_id = UserId::parse(task.what.as_str())
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let after: i64 = task.place.parse().unwrap_or(i64::MIN);
    let done = Step::done(task);
    let Some(user) = app.store.known_user(&user_id).await? else {
        return Ok(done);
    };
    // By the room's number, so that one that can't be left isn't tried for ever.
    let memberships = app.store.memberships_of(user).await?;
    let next = memberships
        .iter()
        .filter(|row| row.room.0 > after)
        .filter(|row| {
            matches!(
                row.membership,
                Membership::Join | Membership::Invite | Membership::Knock
            )
        })
        .min_by_key(|row| row.room);
    let Some(row) = next else {
        return Ok(done);
    };
    let room_id = app.store.room_id(row.room).await?;
    let left = leave::leave(&app.federation, &user_id, &room_id, None).await;
    if let Err(error) = &left {
        if error.status.is_server_error() && !is_last {
            return left.map(|()| done);
        }
        tracing::warn!(room = %row.room, %error, "a user whose account has ended couldn't leave a room");
    }
    Ok(Step {
        progress: task.progress + i64::from(left.is_ok()),
        place: Some(row.room.0.to_string()),
        result: None,
    })
}
