//! The server itself: its version, its tasks, who fills its disk.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Table, Undecoded};
use rhizome_storage::{Task, TaskQuery, TaskState, UploaderOrder, UploaderQuery};
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{
        asked::{self, Asked},
        endpoint::endpoints,
    },
};

endpoints! {
    /// `GET`: the server's version.
    GetVersion: GET "/_synapse/admin/v1/server_version";
    /// `GET`: the newest tasks.
    GetTasks: GET "/_synapse/admin/v1/scheduled_tasks";
    /// `GET`: who has uploaded how much.
    GetMedia: GET "/_synapse/admin/v1/statistics/users/media";
}

/// The most tasks that are told of.
const MOST_TASKS: usize = 100;

/// What there is for the server.
pub fn serve(table: Table<App>) -> Table<App> {
    table.serve(version).serve(tasks).serve(media)
}

/// `GET /_synapse/admin/v1/server_version`
pub async fn version(
    State(_): State<App>,
    Ruma { .. }: Ruma<Undecoded<GetVersion>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "server_version": concat!("Rhizome ", env!("CARGO_PKG_VERSION")) }))
}

/// `GET /_synapse/admin/v1/scheduled_tasks`
pub async fn tasks(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetTasks>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let text = |name: &str| asked.text(name).map(ToOwned::to_owned);
    // As it is called now, and as it was once.
    let (state, begun) = match asked.text("status").or_else(|| asked.text("job_status")) {
        None => (None, None),
        Some(name) => {
            state(name).ok_or_else(|| MatrixError::invalid_param("No task has such a status"))?
        }
    };
    let which = TaskQuery {
        kind: text("action_name"),
        what: text("resource_id"),
        state,
        begun,
        changed_before_ms: asked.number("max_timestamp")?,
    };
    let tasks = app.store.tasks_of(&which, MOST_TASKS).await?;
    let shown: Vec<Value> = tasks.iter().map(shown).collect();
    RawJson::of(&json!({ "scheduled_tasks": shown }))
}

/// What a state is called by tools.
fn state(name: &str) -> Option<(Option<TaskState>, Option<bool>)> {
    Some(match name {
        "scheduled" => (Some(TaskState::Open), Some(false)),
        "active" => (Some(TaskState::Open), Some(true)),
        "complete" => (Some(TaskState::Done), None),
        "failed" => (Some(TaskState::Failed), None),
        "cancelled" => (Some(TaskState::Cancelled), None),
        _ => return None,
    })
}

fn shown(task: &Task) -> Value {
    let result = task.result.as_deref();
    let result = result.and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "id": task.no.to_string(),
        "action": task.kind,
        "status": asked::status(task),
        "timestamp_ms": task.changed_ms,
        "resource_id": task.what,
        "result": result,
        "error": task.error,
    })
}

/// `GET /_synapse/admin/v1/statistics/users/media`
pub async fn media(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetMedia>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let page = asked.page()?;
    let order = asked.order(UploaderOrder::UserId, order)?;
    let order = (order, asked.backwards()?.unwrap_or(false));
    let which = UploaderQuery {
        has: asked.words("search_term")?.map(ToOwned::to_owned),
        from_ms: asked.number("from_ts")?,
        until_ms: asked.number("until_ts")?,
    };
    if let (Some(from), Some(until)) = (which.from_ms, which.until_ms)
        && until <= from
    {
        return Err(MatrixError::invalid_param("until_ts is after from_ts"));
    }
    let found = app.store.uploader_page(&which, order, page.bounds());
    let (uploaders, total) = found.await?;
    let nos: Vec<_> = uploaders.iter().map(|one| one.user).collect();
    let ids = app.store.users(&nos).await?;
    let profiles = app.store.profiles(&nos).await?;
    let shown = uploaders.iter().zip(&ids).map(|(one, id)| {
        let profile = profiles.get(&one.user);
        json!({
            "user_id": id,
            "displayname": profile.and_then(|profile| profile.get("displayname")),
            "media_count": one.files,
            "media_length": one.bytes,
        })
    });
    let shown: Vec<Value> = shown.collect();
    let mut answer = json!({ "users": shown, "total": total });
    if let Some(next) = page.next(uploaders.len(), total) {
        answer["next_token"] = next.into();
    }
    RawJson::of(&answer)
}

fn order(name: &str) -> Option<UploaderOrder> {
    Some(match name {
        "user_id" => UploaderOrder::UserId,
        "displayname" => UploaderOrder::Name,
        "media_count" => UploaderOrder::Files,
        "media_length" => UploaderOrder::Bytes,
        _ => return None,
    })
}
