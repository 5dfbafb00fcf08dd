//! Presence of other servers' users (<https://spec.matrix.org/v1.19/server-server-api/#presence>).

use rhizome_protocol::Membership;
use rhizome_storage::{PresenceState, PresenceUpdate, UserNo};
use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Federation, MatrixError};

/// The most users of one transaction that are looked at.
pub(super) const MAX_USERS: usize = 500;
/// The longest message, in bytes: a longer one is left out.
const MAX_MESSAGE: usize = 4_096;

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    push: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Pushed {
    user_id: OwnedUserId,
    presence: String,
    #[serde(default)]
    status_msg: Option<String>,
    #[serde(default)]
    last_active_ago: Option<u64>,
    #[serde(default)]
    currently_active: Option<bool>,
}

/// Takes what `origin` says of its users who share a room with somebody here; `left` is how much of it is still looked
/// at.
pub(super) async fn take(
    fed: &Federation,
    origin: &ServerName,
    content: &RawValue,
    left: &mut usize,
) -> Result<(), MatrixError> {
    if !fed.store().has_presence() {
        return Ok(());
    }
    let content: Content<'_> = match serde_json::from_str(content.get()) {
        Ok(content) => content,
        Err(error) => {
            tracing::debug!(%origin, %error, "malformed m.presence");
            return Ok(());
        }
    };
    for pushed in content.push {
        let Some(one_less) = left.checked_sub(1) else {
            break;
        };
        *left = one_less;
        // More isn't worth a repetition of the transaction: what is so now is said again soon.
        if fed.budgets().presence(origin).is_err() {
            tracing::debug!(%origin, "too much presence");
            *left = 0;
            break;
        }
        match serde_json::from_str::<Pushed>(pushed.get()) {
            Ok(pushed) if pushed.user_id.server_name() == origin => one(fed, pushed).await?,
            Ok(_) => {}
            Err(error) => tracing::debug!(%origin, %error, "malformed presence"),
        }
    }
    Ok(())
}

async fn one(fed: &Federation, pushed: Pushed) -> Result<(), MatrixError> {
    let Some(state) = PresenceState::named(&pushed.presence) else {
        return Ok(());
    };
    let Some(user) = fed.store().known_user(&pushed.user_id).await? else {
        return Ok(());
    };
    if !shares_a_room(fed, user).await? {
        return Ok(());
    }
    let update = PresenceUpdate {
        state,
        message: (pushed.status_msg).filter(|message| message.len() <= MAX_MESSAGE),
        last_active_ago: pushed.last_active_ago,
        currently_active: pushed.currently_active.unwrap_or_default(),
    };
    Ok(fed.store().hear_presence(user, update).await?)
}

/// Whether another server's user is in a room with somebody here.
async fn shares_a_room(fed: &Federation, user: UserNo) -> Result<bool, MatrixError> {
    let rows = fed.store().memberships_of(user).await?;
    for row in rows.iter() {
        if row.membership == Membership::Join {
            let servers = fed.store().joined_servers(row.room).await?;
            if servers.iter().any(|name| name == fed.server_name()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
