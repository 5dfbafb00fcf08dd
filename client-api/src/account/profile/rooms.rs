//! A user's profile in their rooms: what member events say of it, and renewing them.

use futures_util::{StreamExt as _, stream};
use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{membership::restricted::AUTHORISED_VIA, send::SendOptions};
use rhizome_storage::{MembershipRow, UserNo};
use ruma::UserId;

use crate::{App, auth::shadow};

/// How many rooms are told of a change at once.
const ROOMS_AT_ONCE: usize = 8;

/// What a user's member events say of their profile: `displayname` and `avatar_url`.
pub async fn member_content(app: &App, user_id: &UserId) -> Result<Object, MatrixError> {
    let mut profile = app.store.profile(user_id).await?.unwrap_or_default();
    only_of_members(&mut profile);
    Ok(profile)
}

/// Leaves of a profile what member events say.
pub fn only_of_members(profile: &mut Object) {
    profile.retain(|key, _| matches!(key.as_str(), "displayname" | "avatar_url"));
}

/// Renews the user's member event in every room that they are in, also in those that were missed
/// when an earlier change failed half-way.
pub async fn tell(app: &App, user_id: &UserId, user: UserNo) -> Result<(), MatrixError> {
    if shadow::is_banned(app, user_id).await? {
        return Ok(());
    }
    let profile = member_content(app, user_id).await?;
    let memberships = app.store.memberships_of(user).await?;
    let joined = memberships
        .iter()
        .filter(|row| row.membership == Membership::Join);
    stream::iter(joined.copied())
        .for_each_concurrent(ROOMS_AT_ONCE, |row| {
            let profile = &profile;
            async move {
                if let Err(error) = tell_room(app, user_id, row, profile).await {
                    tracing::warn!(room = %row.room, %error, "a room wasn't told of a new profile");
                }
            }
        })
        .await;
    Ok(())
}

async fn tell_room(
    app: &App,
    user_id: &UserId,
    row: MembershipRow,
    profile: &Object,
) -> Result<(), MatrixError> {
    let event = match row.event {
        Some(no) => app.store.event_by_no(no).await?,
        None => None,
    };
    let Some(event) = event else { return Ok(()) };
    let mut content = event.pdu.content().clone();
    // These belong to the one act of joining, not to the membership.
    content.remove(AUTHORISED_VIA);
    content.remove("reason");
    content.remove("displayname");
    content.remove("avatar_url");
    content.extend(profile.clone());
    let draft = Draft {
        room_id: Some(event.pdu.room_id().to_owned()),
        sender: user_id.to_owned(),
        kind: "m.room.member".into(),
        state_key: Some(user_id.to_string()),
        content,
        redacts: None,
    };
    local::send(&app.federation, draft, SendOptions::default()).await?;
    Ok(())
}
