//! One event.

use std::collections::HashSet;

use axum::extract::State;
use rhizome_edge::{RawJson, Undecoded};
use rhizome_storage::StoredEvent;
use ruma::{EventId, OwnedUserId, api::client::room::get_room_event::v3};

use crate::{
    App, MatrixError, Ruma,
    history::unredacted,
    view::{
        bundle::Bundler,
        dress, ignored,
        json::Json,
        reading::Reading,
        scan::Budget,
        seen::{Seen, Style},
    },
};

/// `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
pub async fn event(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let whole = unredacted::is_asked(req.query.as_deref())?;
    let req = req.decode()?;
    let reading = Reading::of(&app, &who, &req.room_id)
        .await
        .map_err(hidden)?;
    let mut seen = visible_event(&app, &reading, &req.event_id).await?;
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    require_heard(&seen, &ignored)?;
    if whole {
        unredacted::restore(&app, (&who, &reading), &mut seen).await?;
    }
    let mut seen = [seen];
    let budget = Budget::with(app.config.max_timeline_bytes, &seen);
    let bundler = Bundler {
        store: &app.store,
        viewer: &reading.viewer,
        ignored: &ignored,
        budget: &budget,
    };
    let end = reading.room.end(&app.store);
    bundler.in_room(&reading, end, &mut seen).await?;
    let [seen] = seen;
    let mut json = Json::with_capacity(1_024);
    seen.write(
        &mut json,
        &reading.viewer,
        app.store.clock().now_ms(),
        &Style::ROOM,
    );
    Ok(RawJson(json.finish().into()))
}

/// The event, if the reader may see it; whether it exists otherwise isn't told.
pub async fn visible_event(
    app: &App,
    reading: &Reading,
    event_id: &EventId,
) -> Result<Seen, MatrixError> {
    let here = |event: &StoredEvent| event.room == reading.room.head.room && event.is_history();
    let event = app
        .store
        .event(event_id)
        .await?
        .filter(|event| here(event))
        .ok_or_else(absent)?;
    let seen = dress::visible(
        &app.store,
        &reading.viewer,
        &reading.room.standing,
        vec![event],
    )
    .await?;
    seen.into_iter().next().ok_or_else(absent)
}

/// Makes sure that it isn't something said by somebody whom the reader ignores: whoever answers to it brings it up.
pub fn require_heard(seen: &Seen, ignored: &HashSet<OwnedUserId>) -> Result<(), MatrixError> {
    let pdu = &seen.event.pdu;
    if pdu.state_key().is_none() && ignored.contains(pdu.sender()) {
        return Err(absent());
    }
    Ok(())
}

/// There is no such event, as far as the reader is told.
pub fn absent() -> MatrixError {
    MatrixError::not_found("There is no such event, or you may not see it")
}

/// Who may not read the room isn't told whether there is the event.
pub fn hidden(error: MatrixError) -> MatrixError {
    if error.errcode == "M_FORBIDDEN" {
        absent()
    } else {
        error
    }
}
