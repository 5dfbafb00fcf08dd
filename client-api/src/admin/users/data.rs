//! What users have set up: pushers and account data.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{Pos, RoomNo};
use serde_json::{Map, Value, json};

use crate::{
    App, Ruma,
    account_data::stands,
    admin::{endpoint::endpoints, subject},
    push::pushers,
};

endpoints! {
    /// `GET`: a user's pushers.
    GetPushers: GET "/_synapse/admin/v1/users/{user_id}/pushers";
    /// `GET`: a user's account data.
    GetData: GET "/_synapse/admin/v1/users/{user_id}/accountdata";
}

/// What a pusher's data may hold that is a secret: with it others could tell the device something.
const SECRETS: [&str; 2] = ["auth", "auth_secret"];

/// `GET /_synapse/admin/v1/users/{userId}/pushers`
pub async fn pushers(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetPushers>>,
) -> Result<RawJson, MatrixError> {
    let (_, account) = subject::account(&app, req.part(0)).await?;
    let pushers = app.store.pushers(account.user).await?;
    let shown = pushers.iter().map(|pusher| {
        let mut shown = pushers::told(pusher);
        if let Some(data) = shown["data"].as_object_mut() {
            data.retain(|key, _| !SECRETS.contains(&key.as_str()));
        }
        shown
    });
    let shown: Vec<Value> = shown.collect();
    RawJson::of(&json!({ "pushers": shown, "total": pushers.len() }))
}

/// `GET /_synapse/admin/v1/users/{userId}/accountdata`
///
/// As it is kept, which is bounded for each user.
pub async fn account_data(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetData>>,
) -> Result<RawJson, MatrixError> {
    let (_, account) = subject::account(&app, req.part(0)).await?;
    let upto = app.store.log().refresh().await?;
    let data = app.store.account_data_since(account.user, Pos(0), upto);
    let data = data.await?;
    let rooms = data.iter().filter_map(|one| one.room);
    let mut rooms: Vec<RoomNo> = rooms.collect();
    rooms.sort_unstable();
    rooms.dedup();
    let ids = app.store.room_ids(&rooms).await?;
    let (mut global, mut by_room) = (Map::new(), Map::new());
    for one in data.iter().filter(|one| stands(one)) {
        // It was JSON when it was written.
        let content: Value = serde_json::from_str(&one.content).unwrap_or_default();
        let of = match one.room {
            None => &mut global,
            Some(room) => {
                let at = rooms.binary_search(&room).unwrap_or_default();
                let Some(id) = ids.get(at) else { continue };
                let of = by_room.entry(id.to_string()).or_insert_with(|| json!({}));
                let Some(of) = of.as_object_mut() else {
                    continue;
                };
                of
            }
        };
        of.insert(one.kind.clone(), content);
    }
    RawJson::of(&json!({ "account_data": { "global": global, "rooms": by_room } }))
}
