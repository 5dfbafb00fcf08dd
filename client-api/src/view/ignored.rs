//! Whose messages a user doesn't want to see (client-server API, "Ignoring users").

use std::collections::HashSet;

use rhizome_storage::{AccountData, Logged, Store, UserNo};
use ruma::OwnedUserId;

use crate::MatrixError;

/// The account data that holds the list.
pub const KIND: &str = "m.ignored_user_list";

/// A user's list, as the database has it.
pub async fn read(store: &Store, user: UserNo) -> Result<HashSet<OwnedUserId>, MatrixError> {
    Ok(parse(
        store.account_data(user, None, KIND).await?.as_deref(),
    ))
}

/// The users' numbers; who has none has sent nothing.
pub async fn numbers(
    store: &Store,
    users: &HashSet<OwnedUserId>,
) -> Result<Vec<UserNo>, MatrixError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let users: Vec<OwnedUserId> = users.iter().cloned().collect();
    Ok(store.known_users(&users).await?.into_values().collect())
}

/// The list that account data holds.
pub fn parse(data: Option<&Logged<AccountData>>) -> HashSet<OwnedUserId> {
    let content: Option<serde_json::Value> =
        data.and_then(|data| serde_json::from_str(&data.content).ok());
    let users = content
        .as_ref()
        .and_then(|content| content.get("ignored_users")?.as_object());
    users
        .map(|users| {
            users
                .keys()
                .filter_map(|user| user.as_str().try_into().ok())
                .collect()
        })
        .unwrap_or_default()
}
