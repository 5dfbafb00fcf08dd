//! Who is in a room, and its state.

use axum::extract::State;
use rhizome_edge::{Content, MatrixError, RawJson, Undecoded};
use serde_json::json;

use crate::{
    App, Ruma,
    admin::{asked::Asked, endpoint::endpoints, subject},
    room::whole::Whole,
    view::seen::Viewer,
};

endpoints! {
    /// `GET`: who is joined to a room.
    GetMembers: GET "/_synapse/admin/v1/rooms/{room_id}/members";
    /// `GET`: a room's state.
    GetState: GET "/_synapse/admin/v1/rooms/{room_id}/state";
}

/// The most members of an answer: tools know of no pages, but large rooms are none of memory's business.
const MOST: usize = 10_000;

/// `GET /_synapse/admin/v1/rooms/{roomId}/members`
pub async fn members(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetMembers>>,
) -> Result<RawJson, MatrixError> {
    let head = subject::room(&app, req.part(0)).await?;
    let page = Asked::of(&req).page_of(MOST, MOST)?;
    let users = app.store.joined_page(head.room, page.bounds()).await?;
    let total = usize::try_from(head.joined).unwrap_or(0);
    let members = app.store.users(&users).await?;
    let mut answer = json!({ "members": members, "total": total });
    if let Some(next) = page.next(users.len(), total) {
        answer["next_token"] = next.into();
    }
    RawJson::of(&answer)
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/state`
pub async fn state(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<GetState>>,
) -> Result<Content, MatrixError> {
    let head = subject::room(&app, req.part(0)).await?;
    let wanted = Asked::of(&req).text("type").map(ToOwned::to_owned);
    let mut entries = match head.snapshot {
        Some(at) => app.store.state_all(at).await?,
        None => Vec::new(),
    };
    if let Some(kind) = wanted.filter(|kind| !kind.is_empty()) {
        let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
        let keys = app.store.keys(&keys).await?;
        let mut is_wanted = keys.iter().map(|key| key.kind == kind);
        entries.retain(|_| is_wanted.next() == Some(true));
    }
    let events = entries.into_iter().map(|(_, event)| event).collect();
    let around = ("{\"state\":[", "]}");
    Whole::new(&app, Viewer::of(&who), events, around)
        .tell()
        .await
}
