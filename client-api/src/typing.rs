//! Who is typing.

use axum::extract::State;
use ruma::api::client::typing::create_typing_event::v3::{Request, Response, Typing};

use crate::{App, MatrixError, Ruma, pager::Reading};

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
pub async fn typing(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Request>,
) -> Result<Response, MatrixError> {
    if req.user_id != who.user_id {
        return Err(MatrixError::forbidden(
            "You can only say that you are typing yourself",
        ));
    }
    let reading = Reading::of(&app, &who, &req.room_id).await?;
    if !reading.is_member() {
        return Err(MatrixError::forbidden("You aren't a member of the room"));
    }
    let timeout = match req.state {
        Typing::Yes(info) => Some(info.timeout),
        Typing::No => None,
    };
    app.store
        .set_typing(reading.head.room, &who.user_id, timeout);
    rhizome_federation::typing::local(
        &app.federation,
        &req.room_id,
        &who.user_id,
        timeout.is_some(),
    )
    .await;
    Ok(Response::new())
}
