//! What users have reported. What is done with isn't listed, and an administrator's tool that is done with a report deletes it.

use std::collections::HashMap;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Table, Undecoded};
use rhizome_storage::{Report, ReportQuery, Reported, RoomSummary};
use ruma::OwnedRoomId;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::{
    App, Caller, Ruma,
    admin::{
        asked::{Asked, Page},
        endpoint::endpoints,
    },
};

endpoints! {
    /// `GET`: events that were reported.
    GetEvents: GET "/_synapse/admin/v1/event_reports";
    /// `GET`: one such report.
    GetEvent: GET "/_synapse/admin/v1/event_reports/{report_id}";
    /// `DELETE`: deletes it.
    DeleteEvent: DELETE "/_synapse/admin/v1/event_reports/{report_id}";
    /// `GET`: users who were reported.
    GetUsers: GET "/_synapse/admin/v1/user_reports";
    /// `GET`: one such report.
    GetUser: GET "/_synapse/admin/v1/user_reports/{report_id}";
    /// `DELETE`: deletes it.
    DeleteUser: DELETE "/_synapse/admin/v1/user_reports/{report_id}";
}

/// What there is for reports.
pub fn serve(table: Table<App>) -> Table<App> {
    table
        .serve(events)
        .serve(event)
        .serve(delete_event)
        .serve(users)
        .serve(user)
        .serve(delete_user)
}

/// `GET /_synapse/admin/v1/event_reports`
pub async fn events(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetEvents>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let which = ReportQuery {
        of: Reported::Event,
        reporter_has: some(&asked, "user_id"),
        user_has: some(&asked, "event_sender_user_id"),
        room_has: some(&asked, "room_id"),
    };
    let (reports, total, page) = list(&app, &asked, &which).await?;
    let rooms = rooms_of(&app, &reports).await?;
    let shown: Vec<Value> = reports
        .iter()
        .map(|report| shown_event(report, &rooms))
        .collect();
    answer("event_reports", &shown, total, page)
}

/// `GET /_synapse/admin/v1/event_reports/{reportId}`
pub async fn event(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetEvent>>,
) -> Result<RawJson, MatrixError> {
    let report = one(&app, req.part(0), Reported::Event).await?;
    let rooms = rooms_of(&app, std::slice::from_ref(&report)).await?;
    let mut shown = shown_event(&report, &rooms);
    shown["event_json"] = event_json(&app, &report).await?;
    RawJson::of(&shown)
}

/// `DELETE /_synapse/admin/v1/event_reports/{reportId}`
pub async fn delete_event(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteEvent>>,
) -> Result<RawJson, MatrixError> {
    delete(&app, &who, req.part(0), Reported::Event).await
}

/// `GET /_synapse/admin/v1/user_reports`
pub async fn users(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetUsers>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let which = ReportQuery {
        of: Reported::User,
        reporter_has: some(&asked, "user_id"),
        user_has: some(&asked, "target_user_id"),
        room_has: None,
    };
    let (reports, total, page) = list(&app, &asked, &which).await?;
    let shown: Vec<Value> = reports.iter().map(shown_user).collect();
    answer("user_reports", &shown, total, page)
}

/// `GET /_synapse/admin/v1/user_reports/{reportId}`
pub async fn user(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetUser>>,
) -> Result<RawJson, MatrixError> {
    let report = one(&app, req.part(0), Reported::User).await?;
    RawJson::of(&shown_user(&report))
}

/// `DELETE /_synapse/admin/v1/user_reports/{reportId}`
pub async fn delete_user(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteUser>>,
) -> Result<RawJson, MatrixError> {
    delete(&app, &who, req.part(0), Reported::User).await
}

/// What an id is to have in it, if something is said of it.
fn some(asked: &Asked, name: &str) -> Option<String> {
    let text = asked.text(name).filter(|text| !text.is_empty());
    text.map(ToOwned::to_owned)
}

async fn list(
    app: &App,
    asked: &Asked,
    which: &ReportQuery,
) -> Result<(Vec<Report>, usize, Page), MatrixError> {
    let page = asked.page()?;
    let backwards = asked.backwards()?.unwrap_or(true);
    let found = app.store.report_page(which, backwards, page.bounds());
    let (reports, total) = found.await?;
    Ok((reports, total, page))
}

fn answer(name: &str, shown: &[Value], total: usize, page: Page) -> Result<RawJson, MatrixError> {
    let mut answer = json!({ name: shown, "total": total });
    if let Some(next) = page.next(shown.len(), total) {
        answer["next_token"] = next.into();
    }
    RawJson::of(&answer)
}

async fn one(app: &App, no: &str, of: Reported) -> Result<Report, MatrixError> {
    let no = no.parse::<i64>().ok().filter(|no| *no >= 0);
    let no =
        no.ok_or_else(|| MatrixError::invalid_param("The report's id is a number, 0 or more"))?;
    let report = app.store.report(no).await?;
    let report = report.filter(|report| report.reported() == Some(of));
    report.ok_or_else(|| MatrixError::not_found("There is no such report"))
}

async fn delete(app: &App, who: &Caller, no: &str, of: Reported) -> Result<RawJson, MatrixError> {
    let report = one(app, no, of).await?;
    app.store.dismiss_reports(&[report.no]).await?;
    tracing::info!(by = %who.user_id, report = report.no, "a report was deleted");
    RawJson::of(&json!({}))
}

type Rooms = HashMap<OwnedRoomId, Arc<RoomSummary>>;

/// What the rooms are called in which something was reported.
async fn rooms_of(app: &App, reports: &[Report]) -> Result<Rooms, MatrixError> {
    let ids = reports.iter().filter_map(|report| report.room_id.clone());
    let ids: Vec<OwnedRoomId> = ids.collect();
    let known = app.store.known_rooms(&ids).await?;
    let nos: Vec<_> = known.values().copied().collect();
    let summaries = app.store.room_summaries(&nos).await?;
    let named = known
        .into_iter()
        .filter_map(|(id, no)| Some((id, summaries.get(&no)?.clone())));
    Ok(named.collect())
}

fn shown_event(report: &Report, rooms: &Rooms) -> Value {
    let room = report.room_id.as_ref().and_then(|id| rooms.get(id));
    json!({
        "id": report.no,
        "received_ts": report.received_ms,
        "room_id": report.room_id,
        "name": room.and_then(|room| room.name.as_deref()),
        "canonical_alias": room.and_then(|room| room.alias.as_deref()),
        "event_id": report.event_id,
        "user_id": report.reporter,
        "sender": report.user_id,
        "reason": report.reason,
        // Nobody is asked for one any more.
        "score": null,
    })
}

fn shown_user(report: &Report) -> Value {
    json!({
        "id": report.no,
        "received_ts": report.received_ms,
        "target_user_id": report.user_id,
        "user_id": report.reporter,
        "reason": report.reason,
    })
}

/// The event as it was reported; once that is done with, as it is now.
async fn event_json(app: &App, report: &Report) -> Result<Value, MatrixError> {
    if let Some(text) = &report.event {
        return serde_json::from_str(text).map_err(|_| MatrixError::internal());
    }
    let Some(id) = &report.event_id else {
        return Ok(Value::Null);
    };
    match app.store.event(id).await? {
        Some(event) => serde_json::from_str(event.pdu.json()).map_err(|_| MatrixError::internal()),
        None => Ok(Value::Null),
    }
}
