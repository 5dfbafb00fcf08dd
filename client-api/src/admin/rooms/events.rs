//! Events: the last ones of a room, and any that this server holds.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{EventNo, StoredEvent};
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{endpoint::endpoints, subject},
    content,
};

endpoints! {
    /// `GET`: the forward extremities of a room.
    GetExtremities: GET "/_synapse/admin/v1/rooms/{room_id_or_alias}/forward_extremities";
    /// `GET`: an event.
    GetEvent: GET "/_synapse/admin/v1/fetch_event/{event_id}";
}

/// `GET /_synapse/admin/v1/rooms/{roomIdOrAlias}/forward_extremities`
pub async fn extremities(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetExtremities>>,
) -> Result<RawJson, MatrixError> {
    let head = subject::room_or_alias(&app, req.part(0)).await?;
    let nos: Vec<EventNo> = head.extremities.iter().map(|end| end.no).collect();
    let events = app.store.events_by_no(&nos).await?;
    let results: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({
                "event_id": event.pdu.event_id(),
                "state_group": event.state_after.map(|at| at.0),
                "depth": event.depth,
                // When it came isn't kept; that is what its sender says.
                "received_ts": event.pdu.origin_server_ts(),
            })
        })
        .collect();
    RawJson::of(&json!({ "count": results.len(), "results": results }))
}

/// `GET /_synapse/admin/v1/fetch_event/{eventId}`
///
/// As servers exchange it. Redacted, it says what it says since; so does one of somebody whose content was erased.
pub async fn fetch(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetEvent>>,
) -> Result<RawJson, MatrixError> {
    let event_id = content::event_id(req.part(0))?;
    let event = app.store.event(&event_id).await?;
    let event = event.ok_or_else(|| MatrixError::not_found("This server has no such event"))?;
    let erasures = app.store.erasures().await?;
    let is_erased = erasures.of(event.pdu.sender()).is_some() && event.pdu.state_key().is_none();
    let shown = if is_erased {
        raw(&event.without_content())?
    } else {
        raw(&event)?
    };
    RawJson::of(&json!({ "event": shown }))
}

fn raw(event: &StoredEvent) -> Result<Value, MatrixError> {
    let text = event.pdu.json();
    let mut shown: Value = serde_json::from_str(text).map_err(|_| MatrixError::internal())?;
    shown["event_id"] = event.pdu.event_id().as_str().into();
    Ok(shown)
}
