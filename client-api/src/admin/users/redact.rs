//! Redacting what a user has said: a task, which goes on after the answer.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::TaskState;
use ruma::OwnedRoomId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{asked, endpoint::endpoints, subject},
    tasks::{self, RedactRequest},
};

endpoints! {
    /// `POST`: redacts what a user of any server has said.
    PostRedact: POST "/_synapse/admin/v1/user/{user_id}/redact";
    /// `GET`: how far that is.
    GetStatus: GET "/_synapse/admin/v1/user/redact_status/{redact_id}";
}

/// How many events of a room are redacted if nothing is said of it.
const USUAL: usize = 1_000;
/// How many rooms can be named.
const MOST_ROOMS: usize = 1_000;
/// The longest reason, in bytes.
const LONGEST_REASON: usize = 4_096;

#[derive(Deserialize)]
struct Wish {
    rooms: Vec<OwnedRoomId>,
    reason: Option<String>,
    limit: Option<usize>,
    use_admin: Option<bool>,
    before_ts: Option<i64>,
    after_ts: Option<i64>,
}

/// `POST /_synapse/admin/v1/user/{userId}/redact`
pub async fn redact(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostRedact>>,
) -> Result<RawJson, MatrixError> {
    let user_id = subject::user_id(req.part(0))?;
    subject::anybody(&app, user_id.as_str()).await?;
    let wish: Wish = asked::body(&body)?;
    if wish.limit == Some(0) {
        return Err(MatrixError::invalid_param("limit must be 1 or more"));
    }
    if wish.rooms.len() > MOST_ROOMS {
        return Err(MatrixError::invalid_param(format!(
            "At most {MOST_ROOMS} rooms can be named; none means all"
        )));
    }
    if wish
        .reason
        .as_ref()
        .is_some_and(|reason| reason.len() > LONGEST_REASON)
    {
        return Err(MatrixError::invalid_param(format!(
            "A reason has at most {LONGEST_REASON} bytes"
        )));
    }
    let request = RedactRequest {
        by: Some(who.user_id.clone()),
        rooms: wish.rooms,
        reason: wish.reason,
        use_admin: wish.use_admin.unwrap_or(false),
        limit: Some(wish.limit.unwrap_or(USUAL)),
        after_ts: wish.after_ts,
        before_ts: wish.before_ts,
    };
    let request = serde_json::to_string(&request).map_err(|_| MatrixError::internal())?;
    let what = (tasks::REDACT, user_id.as_str());
    let added = app.store.add_task_of(what, &request, false).await?;
    let no = added.ok_or_else(MatrixError::internal)?;
    tracing::info!(by = %who.user_id, user = %user_id, task = no, "what a user has said is redacted");
    RawJson::of(&json!({ "redact_id": no.to_string() }))
}

/// `GET /_synapse/admin/v1/user/redact_status/{redactId}`
pub async fn status(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetStatus>>,
) -> Result<RawJson, MatrixError> {
    let unknown = || MatrixError::not_found("There is no such redact_id");
    let no = req.part(0).parse().map_err(|_| unknown())?;
    let task = app.store.task(no).await?;
    let task = task.filter(|task| task.kind == tasks::REDACT);
    let task = task.ok_or_else(unknown)?;
    let failed: Option<Value> = task
        .result
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    let status = asked::status(&task);
    RawJson::of(&match task.state {
        TaskState::Open => json!({ "status": status }),
        TaskState::Done => {
            json!({ "status": status, "failed_redactions": failed.unwrap_or_else(|| json!({})) })
        }
        TaskState::Failed | TaskState::Cancelled => {
            let why = task.error.as_deref().unwrap_or("It was cancelled");
            json!({ "status": "failed", "error": why })
        }
    })
}
