//! Conversations with one person (client-server API, "Direct Messaging").

use std::collections::BTreeSet;

use rhizome_storage::{Store, UserNo};
use ruma::OwnedRoomId;
use serde_json::Value;

use crate::MatrixError;

/// The rooms that a user's `m.direct` names.
pub async fn rooms_of(store: &Store, user: UserNo) -> Result<BTreeSet<OwnedRoomId>, MatrixError> {
    let data = store.account_data(user, None, "m.direct").await?;
    Ok(data.map(|data| rooms_in(&data.content)).unwrap_or_default())
}

fn rooms_in(content: &str) -> BTreeSet<OwnedRoomId> {
    let content: Value = serde_json::from_str(content).unwrap_or_default();
    let rooms = content
        .as_object()
        .into_iter()
        .flat_map(|users| users.values());
    let rooms = rooms.filter_map(Value::as_array).flatten();
    rooms
        .filter_map(|room| OwnedRoomId::try_from(room.as_str()?).ok())
        .collect()
}
