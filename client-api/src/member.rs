//! What member events say of a user of this server.

use rhizome_edge::MatrixError;
use rhizome_protocol::Object;
use ruma::UserId;

use crate::App;

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
