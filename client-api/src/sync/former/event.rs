//! One event, of whichever room.

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use ruma::{api::auth_scheme::AccessToken, metadata};

use crate::{
    App, MatrixError, Ruma,
    content::event_id,
    history::event::{require_heard, visible_event},
    view::{ignored, json::Json, reading::Reading, seen::Style},
};

/// `GET /_matrix/client/v3/events/{eventId}`
pub struct OneEvent;
metadata! {
    @for OneEvent,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/events/{event_id}",
        1.1 => "/_matrix/client/v3/events/{event_id}",
    }
}

/// `GET /_matrix/client/v3/events/{eventId}`
pub async fn event(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<OneEvent>>,
) -> Result<RawJson, MatrixError> {
    let id = event_id(req.part(0))?;
    let event = app.store.event(&id).await?.ok_or_else(absent)?;
    let room = app.store.room_id(event.room).await?;
    let reading = Reading::of(&app, &who, &room).await.map_err(hidden)?;
    let seen = visible_event(&app, &reading, &id).await?;
    let ignored = ignored::read(&app.store, who.user).await?;
    require_heard(&seen, &ignored)?;
    let mut json = Json::with_capacity(1_024);
    let now = app.store.clock().now_ms();
    seen.write(&mut json, &reading.viewer, now, &Style::ROOM);
    Ok(RawJson(json.finish().into()))
}

fn absent() -> MatrixError {
    MatrixError::not_found("There is no such event, or you may not see it")
}

/// Of a room that there isn't for the reader, there are no events.
fn hidden(error: MatrixError) -> MatrixError {
    if error.errcode == "M_FORBIDDEN" {
        absent()
    } else {
        error
    }
}
