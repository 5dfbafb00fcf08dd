//! The end of an account.

use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use rhizome_edge::MatrixError;
use rhizome_federation::membership::leave;
use rhizome_protocol::Membership;
use rhizome_storage::{TaskState, UserNo};
use ruma::{
    UserId,
    api::client::account::{ThirdPartyIdRemovalStatus, deactivate::v3 as deactivate},
};

use crate::{
    App, Ruma,
    account::contact::bind,
    auth::uia::{self, Act},
    tasks,
};

/// How many rooms are left at once.
const ROOMS_AT_ONCE: usize = 8;

/// `POST /_matrix/client/v3/account/deactivate`
pub async fn deactivate(
    State(app): State<App>,
    Ruma {
        who,
        req,
        body,
        peer,
    }: Ruma<deactivate::Request>,
) -> Result<deactivate::Response, MatrixError> {
    let who = who.ok_or_else(MatrixError::missing_token)?;
    let act = Act {
        what: uia::DEACTIVATE,
        to: "",
        body: &body,
        lately_will_do: false,
    };
    uia::confirm(&app, &who, act, (req.auth.as_ref(), peer)).await?;
    // As long as it is known where they were bound; what isn't taken back doesn't hold the account.
    let unbound = bind::unbind_every(&app, &who, req.id_server.as_deref()).await?;
    // Written down with the end of the account: whatever happens now, the rooms are left.
    let task = (tasks::LEAVE, who.user_id.as_str());
    let ended = (app.store).deactivate_account_then(who.user, req.erase, task);
    let task = ended.await?;
    // Who asks expects to have left, so it is tried at once. What couldn't be left is tried again.
    if leave_all(&app, &who.user_id, who.user).await? {
        app.store.end_task(task, TaskState::Done, None).await?;
    }
    Ok(deactivate::Response::new(if unbound {
        ThirdPartyIdRemovalStatus::Success
    } else {
        ThirdPartyIdRemovalStatus::NoSupport
    }))
}

/// Leaves every room and rejects every invite, as far as that goes: an account that ends. `false` if one of them is to be
/// tried again.
async fn leave_all(app: &App, user_id: &UserId, user: UserNo) -> Result<bool, MatrixError> {
    let memberships = app.store.memberships_of(user).await?;
    let held = memberships.iter().copied().filter(|row| {
        matches!(
            row.membership,
            Membership::Join | Membership::Invite | Membership::Knock
        )
    });
    let held: Vec<_> = held.collect();
    let left = stream::iter(held)
        .map(|row| async move {
            let left = async {
                let room_id = app.store.room_id(row.room).await?;
                leave::leave(&app.federation, user_id, &room_id, None).await
            };
            let left = left.await;
            if let Err(error) = &left {
                tracing::warn!(room = %row.room, %error, "a deactivated user couldn't leave a room");
            }
            left.map_or_else(|error| !error.status.is_server_error(), |()| true)
        })
        .buffer_unordered(ROOMS_AT_ONCE);
    Ok(left.fold(true, |all, one| async move { all && one }).await)
}
