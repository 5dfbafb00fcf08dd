//! What a room is and, if it is a space, what it holds, for servers that aren't in it
//! (<https://spec.matrix.org/v1.19/server-server-api/#spaces>).

use std::sync::Arc;

use axum::extract::State;
use rhizome_rooms::access::{Doors, previews_for_server};
use rhizome_storage::{RoomHead, RoomNo};
use ruma::{OwnedRoomId, ServerName, api::federation::space::get_hierarchy::v1};

use crate::{
    Federation, MatrixError, RawJson, Ruma, acl,
    spaces::{self, MAX_ANSWER, Ours},
};

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`
pub(super) async fn hierarchy(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<v1::Request>,
) -> Result<RawJson, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    // What another process has answered is known here too.
    fed.store().log().refresh().await?;
    let found = spaces::ours(&fed, std::slice::from_ref(&req.room_id)).await?;
    let found: Vec<&Ours> = found.values().collect();
    let may = may_know(&fed, &who, &found).await?;
    let Some((space, true)) = found.first().zip(may.first()) else {
        return Err(MatrixError::not_found(
            "This server doesn't know the room, or you may not know of it",
        ));
    };
    let named = space.entry.children(req.suggested_only);
    let named: Vec<OwnedRoomId> = named.map(|child| child.room_id.clone()).collect();
    let children = spaces::ours(&fed, &named).await?;
    // In the order of the space.
    let children: Vec<&Ours> = named.iter().filter_map(|id| children.get(id)).collect();
    let may = may_know(&fed, &who, &children).await?;

    let mut answer = String::from("{\"room\":");
    space.entry.write(&mut answer, req.suggested_only);
    answer.push_str(",\"children\":[");
    let mut first = true;
    let mut inaccessible = Vec::new();
    for (child, may) in children.iter().zip(may) {
        if !may {
            inaccessible.push(&child.entry.room_id);
        } else if answer.len() < MAX_ANSWER / 2 {
            let before = answer.len();
            if !first {
                answer.push(',');
            }
            child.entry.write(&mut answer, req.suggested_only);
            // A room that is too large for what is left isn't told of: it can be asked for by itself.
            if answer.len() > MAX_ANSWER / 4 * 3 {
                answer.truncate(before);
            } else {
                first = false;
            }
        }
    }
    let inaccessible = serde_json::to_string(&inaccessible).map_err(|error| {
        tracing::error!(%error, "ids of rooms can't be encoded");
        MatrixError::internal()
    })?;
    answer.push_str("],\"inaccessible_children\":");
    answer.push_str(&inaccessible);
    answer.push('}');
    Ok(RawJson::from_text(answer))
}

/// Of each of some rooms, whether the server may know what it is.
async fn may_know(
    fed: &Federation,
    server: &ServerName,
    rooms: &[&Ours],
) -> Result<Vec<bool>, MatrixError> {
    let doors: Vec<(RoomNo, &Doors)> = rooms
        .iter()
        .map(|room| (room.head.room, &room.entry.doors))
        .collect();
    let may = previews_for_server(fed.store(), fed.server_name(), server, &doors).await?;
    let heads: Vec<Arc<RoomHead>> = rooms.iter().map(|room| room.head.clone()).collect();
    let allowed = acl::allowed_in(fed, server, &heads).await?;
    let both = may.iter().zip(allowed);
    Ok(both.map(|(may, allowed)| *may && allowed).collect())
}
