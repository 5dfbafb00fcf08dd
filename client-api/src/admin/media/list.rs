//! The files of a room, and of a user.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{MediaOrder, MediaRow};
use serde_json::{Value, json};

use super::shown;
use crate::{
    App, Ruma,
    admin::{
        asked::{Asked, Page},
        endpoint::endpoints,
        subject,
    },
};

endpoints! {
    /// `GET`: the files that a room's events name.
    GetOfRoom: GET "/_synapse/admin/v1/room/{room_id}/media";
    /// `GET`: what a user has uploaded.
    GetOfUser: GET "/_synapse/admin/v1/users/{user_id}/media";
    /// `DELETE`: deletes it, a page of it at a time.
    DeleteOfUser: DELETE "/_synapse/admin/v1/users/{user_id}/media";
}

/// The most files of a room that are told.
const MOST_OF_ROOM: usize = 100_000;

/// `GET /_synapse/admin/v1/room/{roomId}/media`
pub async fn of_room(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetOfRoom>>,
) -> Result<RawJson, MatrixError> {
    let head = subject::room(&app, req.part(0)).await?;
    let found = app.files.media.of_room(head.room).await?;
    let (mut local, mut remote) = (Vec::new(), Vec::new());
    let named = found.sent.into_iter().chain(found.mentioned);
    for (origin, id) in named.take(MOST_OF_ROOM) {
        let address = format!("mxc://{origin}/{id}");
        if app.config.server_name.as_str() == origin {
            local.push(address);
        } else {
            remote.push(address);
        }
    }
    RawJson::of(&json!({ "local": local, "remote": remote }))
}

/// `GET /_synapse/admin/v1/users/{userId}/media`
pub async fn of_user(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetOfUser>>,
) -> Result<RawJson, MatrixError> {
    let (files, total, page) = files(&app, req.part(0), &Asked::of(&req)).await?;
    let shown: Vec<Value> = files.iter().map(shown).collect();
    let mut answer = json!({ "media": shown, "total": total });
    if let Some(next) = page.next(files.len(), total) {
        answer["next_token"] = next.into();
    }
    RawJson::of(&answer)
}

/// `DELETE /_synapse/admin/v1/users/{userId}/media`
///
/// Also what is protected: who asks for this has seen it.
pub async fn delete_of_user(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteOfUser>>,
) -> Result<RawJson, MatrixError> {
    let (files, ..) = files(&app, req.part(0), &Asked::of(&req)).await?;
    let names = files
        .iter()
        .map(|row| (row.origin.as_str(), row.media_id.as_str()));
    let names: Vec<_> = names.collect();
    let deleted = app.files.media.delete(&names).await?;
    tracing::info!(by = %who.user_id, user = req.part(0), deleted, "files of a user were deleted");
    let ids: Vec<&str> = names.iter().map(|(_, id)| *id).collect();
    RawJson::of(&json!({ "deleted_media": ids, "total": deleted }))
}

async fn files(
    app: &App,
    user: &str,
    asked: &Asked,
) -> Result<(Vec<MediaRow>, usize, Page), MatrixError> {
    let (_, account) = subject::account(app, user).await?;
    let page = asked.page()?;
    // The newest come first, unless something is said.
    let is_said = asked.text("order_by").is_some() || asked.text("dir").is_some();
    let order = asked.order(MediaOrder::Created, order)?;
    let order = (order, asked.backwards()?.unwrap_or(!is_said));
    let found = app.store.media_page(account.user, order, page.bounds());
    let (files, total) = found.await?;
    Ok((files, total, page))
}

fn order(name: &str) -> Option<MediaOrder> {
    Some(match name {
        "media_id" => MediaOrder::Id,
        "upload_name" => MediaOrder::Name,
        "created_ts" => MediaOrder::Created,
        "last_access_ts" => MediaOrder::Accessed,
        "media_length" => MediaOrder::Size,
        "media_type" => MediaOrder::ContentType,
        "quarantined_by" => MediaOrder::Quarantined,
        "safe_from_quarantine" => MediaOrder::Protected,
        _ => return None,
    })
}
