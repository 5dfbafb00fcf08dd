//! Telling the operator of what is improper (<https://spec.matrix.org/v1.19/client-server-api/#reporting-content>).
//! Reports wait in the database until the operator dismisses them.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_storage::NewReport;
use ruma::api::client::{
    reporting::report_user::v3 as of_user,
    room::{report_content::v3 as of_event, report_room::v3 as of_room},
};

use crate::{
    App, Caller, Ruma,
    history::event::{absent, visible_event},
    view::reading::Reading,
};

/// The longest reason, in bytes.
const MAX_REASON: usize = 4_096;
/// How many reports of one user may wait. Whoever has more to tell waits for the operator, …
const MAX_WAITING: i64 = 100;
/// … and asks again no sooner than this.
const PATIENCE_MS: u64 = 3_600_000;

/// `POST /_matrix/client/v3/rooms/{roomId}/report`
///
/// The answer is the same whether there is such a room: who asks needn't be in it.
pub async fn room(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<of_room::Request>,
) -> Result<of_room::Response, MatrixError> {
    let report = NewReport {
        room_id: Some(req.room_id),
        ..NewReport::of(who.user, req.reason)
    };
    keep(&app, &who, report).await?;
    Ok(of_room::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}`
///
/// Only for who is in the room, of what they see there. That there is no such room or event looks the same.
pub async fn event(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<of_event::Request>,
) -> Result<of_event::Response, MatrixError> {
    let reading = match Reading::of(&app, &who, &req.room_id).await {
        Ok(reading) if reading.room.standing.is_member() => reading,
        Ok(_) => return Err(absent()),
        Err(error) if error.errcode == "M_FORBIDDEN" => return Err(absent()),
        Err(error) => return Err(error),
    };
    let seen = visible_event(&app, &reading, &req.event_id).await?;
    let pdu = &seen.event.pdu;
    let report = NewReport {
        room_id: Some(req.room_id),
        event_id: Some(req.event_id),
        user_id: Some(pdu.sender().to_owned()),
        // As it is now: whoever sent it may redact it before the operator looks.
        event: Some(pdu.json().to_string()),
        ..NewReport::of(who.user, req.reason.unwrap_or_default())
    };
    keep(&app, &who, report).await?;
    Ok(of_event::Response::new())
}

/// `POST /_matrix/client/v3/users/{userId}/report`
///
/// The answer is the same whether there is such a user.
pub async fn user(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<of_user::Request>,
) -> Result<of_user::Response, MatrixError> {
    let report = NewReport {
        user_id: Some(req.user_id),
        ..NewReport::of(who.user, req.reason)
    };
    keep(&app, &who, report).await?;
    Ok(of_user::Response::new())
}

async fn keep(app: &App, who: &Caller, report: NewReport) -> Result<(), MatrixError> {
    if report.reason.len() > MAX_REASON {
        return Err(MatrixError::too_large(format!(
            "A reason has at most {MAX_REASON} bytes"
        )));
    }
    let Some(no) = app.store.add_report(&report, MAX_WAITING).await? else {
        return Err(MatrixError::limit_exceeded(PATIENCE_MS));
    };
    tracing::info!(report = no, by = %who.user_id, "something was reported");
    Ok(())
}
