//! Rooms into which nobody here comes.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::Block;
use ruma::{OwnedUserId, RoomId};
use serde::Deserialize;
use serde_json::json;

use crate::{
    App, Ruma,
    admin::{asked, endpoint::endpoints},
    content, tasks,
};

endpoints! {
    /// `GET`: whether a room is blocked.
    GetBlock: GET "/_synapse/admin/v1/rooms/{room_id}/block";
    /// `PUT`: blocks it, or lets people in again.
    PutBlock: PUT "/_synapse/admin/v1/rooms/{room_id}/block";
}

#[derive(Deserialize)]
struct Wish {
    block: bool,
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/block`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetBlock>>,
) -> Result<RawJson, MatrixError> {
    let room_id = content::room_id(req.part(0))?;
    let block = app.store.block_of(Block::ROOM, room_id.as_str()).await?;
    RawJson::of(&match block {
        None => json!({ "block": false }),
        // Who has blocked it is known if it was one of them.
        Some(block) => json!({ "block": true, "user_id": by(&block) }),
    })
}

fn by(block: &Block) -> Option<OwnedUserId> {
    let name = block.reason.strip_prefix(tasks::BY)?;
    OwnedUserId::try_from(name).ok()
}

/// `PUT /_synapse/admin/v1/rooms/{roomId}/block`
///
/// This server needn't know the room.
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PutBlock>>,
) -> Result<RawJson, MatrixError> {
    let room_id = content::room_id(req.part(0))?;
    let wish: Wish = asked::body(&body)?;
    set(&app, &who.user_id, &room_id, wish.block).await?;
    RawJson::of(&json!({ "block": wish.block }))
}

async fn set(
    app: &App,
    by: &OwnedUserId,
    room_id: &RoomId,
    blocked: bool,
) -> Result<(), MatrixError> {
    if blocked {
        tasks::block(app, room_id, by).await?;
    } else {
        app.store.unblock(Block::ROOM, room_id.as_str()).await?;
    }
    tracing::info!(%by, room = %room_id, blocked, "a room was blocked, or unblocked");
    Ok(())
}
