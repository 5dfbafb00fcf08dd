//! Account data: what clients store for their user, global and per room.

use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use rhizome_edge::RawJson;
use rhizome_protocol::Membership;
use rhizome_rooms::{access::RoomAccess, invites};
use rhizome_storage::{AccountData, DataChange, DataSize, Fact, RoomNo, WriteSet};
use ruma::{
    RoomId, UserId,
    api::client::config::{
        get_global_account_data, get_room_account_data, set_global_account_data,
        set_room_account_data,
    },
};

use crate::{
    App, Caller, MatrixError, Ruma,
    account_data::{self, DELETED, MAX_BYTES},
    push::rules,
    view::seen::reader,
};

/// The longest name of a type.
const MAX_KIND: usize = 255;

/// The most types that a user may have, of all rooms together, …
const MOST_TYPES: u64 = 50_000;
/// … and the most bytes in them.
const MOST_BYTES: u64 = 64 << 20;

/// Types that the server itself keeps: clients set them through other endpoints.
const SERVERS_OWN: [&str; 2] = ["m.fully_read", rules::KIND];

/// `PUT /_matrix/client/v3/user/{userId}/account_data/{type}`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<set_global_account_data::v3::Request>,
) -> Result<set_global_account_data::v3::Response, MatrixError> {
    own(&who, &req.user_id)?;
    write(&app, &who, None, &req.event_type.to_string(), &body).await?;
    Ok(set_global_account_data::v3::Response::new())
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn put_in_room(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<set_room_account_data::v3::Request>,
) -> Result<set_room_account_data::v3::Response, MatrixError> {
    own(&who, &req.user_id)?;
    let room = room_of(&app, &who, &req.room_id).await?;
    write(&app, &who, Some(room), &req.event_type.to_string(), &body).await?;
    Ok(set_room_account_data::v3::Response::new())
}

/// `GET /_matrix/client/v3/user/{userId}/account_data/{type}`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_global_account_data::v3::Request>,
) -> Result<RawJson, MatrixError> {
    own(&who, &req.user_id)?;
    let kind = req.event_type.to_string();
    if kind == rules::KIND {
        let stored = app.store.account_data(who.user, None, &kind).await?;
        let content = rules::account_data(&who.user_id, stored.as_deref())?;
        return Ok(RawJson(Bytes::copy_from_slice(content.as_bytes())));
    }
    read(&app, &who, None, &kind).await
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn get_in_room(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_room_account_data::v3::Request>,
) -> Result<RawJson, MatrixError> {
    own(&who, &req.user_id)?;
    let room = app
        .store
        .known_room(&req.room_id)
        .await?
        .ok_or_else(absent)?;
    read(&app, &who, Some(room), &req.event_type.to_string()).await
}

pub(crate) fn own(who: &Caller, user: &UserId) -> Result<(), MatrixError> {
    if who.user_id == user {
        Ok(())
    } else {
        Err(MatrixError::forbidden(
            "This is another user's account data",
        ))
    }
}

pub(crate) async fn room_of(
    app: &App,
    who: &Caller,
    room_id: &RoomId,
) -> Result<RoomNo, MatrixError> {
    // Bridges note what a room is for when they are invited to it. Whoever was in the room may keep notes on it, too.
    // What another process has answered is known here too.
    app.store.log().refresh().await?;
    if let Some(room) = app.store.known_room(room_id).await?
        && let Some(row) = app.store.membership(who.user, room).await?
        && matches!(row.membership, Membership::Invite | Membership::Knock)
    {
        return Ok(room);
    }
    let access = RoomAccess::of(&app.store, reader(who), room_id).await?;
    Ok(access.head.room)
}

fn absent() -> MatrixError {
    MatrixError::not_found("There is no account data of this type")
}

async fn read(
    app: &App,
    who: &Caller,
    room: Option<RoomNo>,
    kind: &str,
) -> Result<RawJson, MatrixError> {
    let user = who.user;
    let data = app
        .store
        .account_data(user, room, kind)
        .await?
        .filter(|data| account_data::stands(data))
        .ok_or_else(absent)?;
    Ok(RawJson(Bytes::copy_from_slice(data.content.as_bytes())))
}

/// Deletes a type; that there is none is fine.
pub(crate) async fn delete(
    app: &App,
    who: &Caller,
    room: Option<RoomNo>,
    kind: &str,
) -> Result<(), MatrixError> {
    let known = app.store.account_data(who.user, room, kind).await?;
    if known.is_none() && !SERVERS_OWN.contains(&kind) {
        return Ok(());
    }
    write(
        app,
        who,
        room,
        kind,
        &Bytes::from_static(DELETED.as_bytes()),
    )
    .await
}

async fn write(
    app: &App,
    who: &Caller,
    room: Option<RoomNo>,
    kind: &str,
    body: &Bytes,
) -> Result<(), MatrixError> {
    if SERVERS_OWN.contains(&kind) {
        return Err(MatrixError::new(
            http::StatusCode::METHOD_NOT_ALLOWED,
            "M_BAD_JSON",
            format!("{kind} is set through an endpoint of its own"),
        ));
    }
    if kind.len() > MAX_KIND {
        return Err(MatrixError::invalid_param(format!(
            "A type has at most {MAX_KIND} bytes"
        )));
    }
    if body.len() > MAX_BYTES {
        return Err(MatrixError::too_large(format!(
            "Account data has at most {MAX_BYTES} bytes"
        )));
    }
    let content: Arc<str> = object_text(body)?.into();
    if let Some(fault) = invites::fault(kind, &content).filter(|_| room.is_none()) {
        return Err(MatrixError::invalid_param(fault));
    }
    let known = app.store.account_data(who.user, room, kind).await?;
    if known.is_none() && *content == *DELETED {
        // There is nothing to delete.
        return Ok(());
    }
    let before = known.map(|known| known.content.len());
    require_place(app, who, before, content.len()).await?;
    let fact = Fact::AccountData(DataChange {
        data: AccountData {
            user: who.user,
            room,
            kind: kind.to_owned(),
            content,
        },
        expect: None,
    });
    app.store.commit(WriteSet::from(vec![fact])).await?;
    Ok(())
}

/// Makes sure that a user has a bounded number of types, and a bounded number of bytes in them. What is there may always
/// change for what isn't longer than it was `before`.
async fn require_place(
    app: &App,
    who: &Caller,
    before: Option<usize>,
    bytes: usize,
) -> Result<(), MatrixError> {
    if before.is_some_and(|before| bytes <= before) {
        return Ok(());
    }
    let used = app.store.account_data_size(who.user).await?;
    if is_full(used, before, bytes) {
        return Err(MatrixError::too_large(format!(
            "Account data has at most {MOST_TYPES} types, of all rooms, and {MOST_BYTES} bytes: delete some"
        )));
    }
    Ok(())
}

/// Whether so many bytes, in the place of those `before` or of nothing, are too much.
fn is_full(used: DataSize, before: Option<usize>, bytes: usize) -> bool {
    let others = used.bytes.saturating_sub(before.unwrap_or_default() as u64);
    before.is_none() && used.types >= MOST_TYPES || others.saturating_add(bytes as u64) > MOST_BYTES
}

/// The body as it came, made sure to be a JSON object that every reader of it can take.
fn object_text(body: &[u8]) -> Result<String, MatrixError> {
    let text =
        std::str::from_utf8(body).map_err(|_| MatrixError::not_json("The body isn't UTF-8"))?;
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(object)) if object.is_empty() => Ok(DELETED.to_owned()),
        Ok(serde_json::Value::Object(_)) => Ok(text.trim().to_owned()),
        Ok(_) => Err(MatrixError::bad_json("Account data is a JSON object")),
        Err(_) => Err(MatrixError::not_json("The body isn't JSON")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_bounded_types_and_bytes() {
        let is_full = |types, bytes, more| is_full(DataSize { types, bytes }, None, more);
        let longer = |bytes, before, more| {
            let types = MOST_TYPES;
            super::is_full(DataSize { types, bytes }, Some(before), more)
        };
        assert!(!longer(MOST_BYTES, 10, 10));
        assert!(longer(MOST_BYTES, 10, 11));
        assert!(!is_full(MOST_TYPES - 1, 0, 1));
        assert!(is_full(MOST_TYPES, 0, 1));
        assert!(!is_full(0, MOST_BYTES - 1, 1));
        assert!(is_full(0, MOST_BYTES, 1));
    }
}
