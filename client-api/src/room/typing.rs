//! Who is typing.

use std::time::Duration;

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_rooms::access::RoomAccess;
use ruma::api::client::typing::create_typing_event::v3::{Request, Response};
use serde::Deserialize;

use crate::{
    App, Caller, MatrixError, Ruma, account::presence::acts, auth::shadow, content,
    view::seen::reader,
};

/// How long somebody types who doesn't say it. Clients say it again every few seconds.
const TIMEOUT_MS: u64 = 30_000;

/// The body. ruma's wants a `timeout`.
#[derive(Debug, Deserialize)]
pub struct Typing {
    typing: bool,
    timeout: Option<u64>,
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
pub async fn typing(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<Request>>,
) -> Result<Response, MatrixError> {
    if req.part(1) != who.user_id {
        return Err(MatrixError::forbidden(
            "You can only say that you are typing yourself",
        ));
    }
    let told: Typing = serde_json::from_value(content::parse(&body)?.into())
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    tell(&app, &who, req.part(0), &told).await?;
    Ok(Response::new())
}

/// Takes up what a client says of its user's typing, by HTTP or by WebSocket.
pub async fn tell(
    app: &App,
    who: &Caller,
    room_id: &str,
    told: &Typing,
) -> Result<(), MatrixError> {
    acts(app, who);
    let room_id = content::room_id(room_id)?;
    let access = RoomAccess::of_member(&app.store, reader(who), &room_id).await?;
    if shadow::is_banned(app, &who.user_id).await? {
        return Ok(());
    }
    let timeout = told.timeout.unwrap_or(TIMEOUT_MS);
    let timeout = told.typing.then(|| Duration::from_millis(timeout));
    app.store
        .set_typing(access.head.room, &who.user_id, timeout);
    rhizome_federation::sender::typing::local(
        &app.federation,
        &room_id,
        &who.user_id,
        timeout.is_some(),
    )
    .await;
    Ok(())
}
