//! What happened in a room, as far as this server holds it: nobody else is asked for what it hasn't got.

use std::collections::HashSet;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_federation::fetch::moment::Moment;
use serde_json::json;

use crate::{
    App, Caller, Ruma,
    admin::{asked::Asked, endpoint::endpoints, subject},
    content,
    history::{context::around, messages, moment},
    place::point::point,
    space::hierarchy as spaces,
    view::{
        filter::{self, MAX_TIMELINE},
        reading::Reading,
    },
};

endpoints! {
    /// `GET`: a page of a room's history.
    GetMessages: GET "/_synapse/admin/v1/rooms/{room_id}/messages";
    /// `GET`: what happened around an event.
    GetContext: GET "/_synapse/admin/v1/rooms/{room_id}/context/{event_id}";
    /// `GET`: the event that is nearest to a moment.
    GetMoment: GET "/_synapse/admin/v1/rooms/{room_id}/timestamp_to_event";
    /// `GET`: the rooms that a space holds.
    GetHierarchy: GET "/_synapse/admin/v1/rooms/{room_id}/hierarchy";
}

/// The events of a page if nothing is said of it.
const USUAL: usize = 10;

async fn reading(app: &App, who: &Caller, room: &str) -> Result<Reading, MatrixError> {
    let head = subject::room(app, room).await?;
    let reading = Reading::of_operator(who, head);
    reading.ok_or_else(|| MatrixError::not_found("Nothing is known of the room yet"))
}

fn limit(asked: &Asked) -> Result<usize, MatrixError> {
    let limit = asked.number("limit")?;
    Ok(limit.map_or(USUAL, |limit| {
        usize::try_from(limit).unwrap_or(MAX_TIMELINE)
    }))
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/messages`
pub async fn messages(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<GetMessages>>,
) -> Result<RawJson, MatrixError> {
    let reading = reading(&app, &who, req.part(0)).await?;
    let asked = Asked::of(&req);
    let place = |name: &str| {
        let text = asked.text(name).filter(|text| !text.is_empty());
        text.map(point).transpose()
    };
    let wish = messages::Wish {
        from: place("from")?,
        to: place("to")?,
        backward: asked.backwards()?.unwrap_or(false),
        limit: limit(&asked)?.min(MAX_TIMELINE),
        filter: filter::of_query(req.query.as_deref())?,
    };
    messages::page(&app, &reading, &HashSet::new(), wish).await
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/context/{eventId}`
pub async fn context(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<GetContext>>,
) -> Result<RawJson, MatrixError> {
    let reading = reading(&app, &who, req.part(0)).await?;
    let event_id = content::event_id(req.part(1))?;
    let limit = limit(&Asked::of(&req))?;
    let filter = filter::of_query(req.query.as_deref())?;
    around(&app, &reading, &HashSet::new(), (&event_id, limit, filter)).await
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/timestamp_to_event`
pub async fn timestamp_to_event(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<GetMoment>>,
) -> Result<RawJson, MatrixError> {
    let reading = reading(&app, &who, req.part(0)).await?;
    let asked = Asked::of(&req);
    let moment = Moment {
        ts: asked.some_number("ts")?,
        forward: !asked.backwards()?.unwrap_or(false),
    };
    let event = moment::nearest(&app, &reading, &HashSet::new(), moment).await?;
    RawJson::of(&json!({
        "event_id": event.pdu.event_id(),
        "origin_server_ts": event.pdu.origin_server_ts(),
    }))
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/hierarchy`
pub async fn hierarchy(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetHierarchy>>,
) -> Result<RawJson, MatrixError> {
    let room_id = content::room_id(req.part(0))?;
    let asked = Asked::of(&req);
    let number = |name: &str| {
        let number = asked.number(name)?;
        Ok::<_, MatrixError>(number.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
    };
    let bounds = (number("limit")?, number("max_depth")?);
    spaces::of_operator(&app, &room_id, bounds, asked.text("from")).await
}
