//! A user's delayed events, told to the user.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{DelayId, DelayedEvent};
use ruma::{OwnedEventId, OwnedRoomId, api::auth_scheme::AccessToken, metadata};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{App, Ruma};

/// `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events`
pub struct List;
metadata! {
    @for List,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events",
}

/// `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}`
pub struct Get;
metadata! {
    @for Get,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
}

/// A delayed event, as its user sees it.
#[derive(Serialize)]
struct Shown<'a> {
    delay_id: &'a str,
    room_id: &'a OwnedRoomId,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    delay_ms: i64,
    scheduled_at: i64,
    /// These two as clients of earlier versions of the proposal know them.
    delay: i64,
    running_since: i64,
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a OwnedEventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finalised_ts: Option<i64>,
}

#[derive(Serialize)]
struct Listed<'a> {
    delayed_events: Vec<Shown<'a>>,
}

impl<'a> Shown<'a> {
    fn of(event: &'a DelayedEvent) -> Result<Self, MatrixError> {
        let end = event.end.as_ref();
        let error = end.and_then(|end| end.error.as_deref());
        Ok(Self {
            delay_id: event.id.expose(),
            room_id: &event.room_id,
            kind: &event.kind,
            state_key: event.state_key.as_deref(),
            delay_ms: event.delay_ms,
            scheduled_at: event.scheduled_ms,
            delay: event.delay_ms,
            running_since: event.scheduled_ms,
            content: raw(&event.content)?,
            error: error.map(raw).transpose()?,
            event_id: end.and_then(|end| end.event_id.as_ref()),
            finalised_ts: end.map(|end| end.at_ms),
        })
    }
}

/// What was stored is JSON.
fn raw(text: &str) -> Result<&RawValue, MatrixError> {
    serde_json::from_str(text).map_err(|_| MatrixError::internal())
}

/// `GET …/delayed_events`
pub async fn list(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<Undecoded<List>>,
) -> Result<RawJson, MatrixError> {
    let events = app.store.delayed_events(who.user).await?;
    let shown = events.iter().map(Shown::of);
    RawJson::of(&Listed {
        delayed_events: shown.collect::<Result<_, _>>()?,
    })
}

/// `GET …/delayed_events/{delay_id}`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<Get>>,
) -> Result<RawJson, MatrixError> {
    let found = app.store.delayed_event(&DelayId::of(req.part(0))).await?;
    let own = found.filter(|event| event.user == who.user);
    let event = own.ok_or_else(|| MatrixError::not_found("There is no such delayed event"))?;
    RawJson::of(&Shown::of(&event)?)
}
