//! Rooms are shut for the users of this server: a task, which goes on after a restart.
//!
//! What such a request calls to purge is to delete the room's events. Those stay here: they may be needed by other rooms'
//! histories, by reports, and by who is let in again. What leads to the room goes.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{Task, TaskQuery, TaskState};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App, Caller, Ruma,
    admin::{asked, endpoint::endpoints, subject},
    content,
    tasks::{self, ShutRequest, ShutResult},
};

endpoints! {
    /// `DELETE`: shuts a room, and answers when that is done.
    DeleteV1: DELETE "/_synapse/admin/v1/rooms/{room_id}";
    /// `DELETE`: shuts a room in the background.
    DeleteV2: DELETE "/_synapse/admin/v2/rooms/{room_id}";
    /// `GET`: what has become of that, by the room.
    GetOfRoom: GET "/_synapse/admin/v2/rooms/{room_id}/delete_status";
    /// `GET`: the same, of one request.
    GetById: GET "/_synapse/admin/v2/rooms/delete_status/{delete_id}";
}

/// The longest name and message, in bytes.
const LONGEST: (usize, usize) = (255, 16_384);
/// How many requests for one room are told of.
const TOLD: usize = 100;
/// How long somebody waits for the end, …
const PATIENCE: Duration = Duration::from_mins(2);
/// … and how often it is looked for.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Wish {
    new_room_user_id: Option<OwnedUserId>,
    room_name: Option<String>,
    message: Option<String>,
    #[serde(default)]
    block: bool,
    #[serde(default = "yes")]
    purge: bool,
    /// What can't be purged needs no force.
    #[serde(default, rename = "force_purge")]
    _force_purge: bool,
}

fn yes() -> bool {
    true
}

/// `DELETE /_synapse/admin/v1/rooms/{roomId}`
pub async fn v1(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<DeleteV1>>,
) -> Result<RawJson, MatrixError> {
    let no = shut(&app, &who, req.part(0), &body).await?;
    let clock = app.store.clock();
    let until = clock.monotonic() + PATIENCE;
    loop {
        let task = app
            .store
            .task(no)
            .await?
            .ok_or_else(MatrixError::internal)?;
        match task.state {
            TaskState::Done => return RawJson::of(&ShutResult::of(&task)),
            TaskState::Failed | TaskState::Cancelled => {
                let why = task.error.unwrap_or_else(|| "It was cancelled".to_owned());
                return Err(unknown(StatusCode::INTERNAL_SERVER_ERROR, why));
            }
            TaskState::Open => {}
        }
        if clock.monotonic() >= until || app.shutdown.is_cancelled() {
            return Err(unknown(
                StatusCode::GATEWAY_TIMEOUT,
                "It goes on: delete_status tells how far it is".to_owned(),
            ));
        }
        clock.sleep(PAUSE).await;
    }
}

/// `DELETE /_synapse/admin/v2/rooms/{roomId}`
pub async fn v2(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<DeleteV2>>,
) -> Result<RawJson, MatrixError> {
    let no = shut(&app, &who, req.part(0), &body).await?;
    RawJson::of(&json!({ "delete_id": no.to_string() }))
}

/// Writes down that a room is to be shut: the number of the task.
async fn shut(app: &App, who: &Caller, room: &str, body: &[u8]) -> Result<i64, MatrixError> {
    let room_id = content::room_id(room)?;
    let request = request(app, who, asked::body(body)?).await?;
    if !request.block {
        subject::known_room(app, &room_id).await?;
    }
    let text = serde_json::to_string(&request).map_err(|_| MatrixError::internal())?;
    let what = (tasks::SHUT, room_id.as_str());
    let Some(no) = app.store.add_task_of(what, &text, true).await? else {
        return Err(unknown(
            StatusCode::BAD_REQUEST,
            "The room is being shut already".to_owned(),
        ));
    };
    if request.block {
        // From now on, however long the rest takes.
        tasks::block(app, &room_id, &who.user_id).await?;
    }
    tracing::info!(
        by = %who.user_id, room = %room_id, task = no, block = request.block, "a room is shut"
    );
    Ok(no)
}

async fn request(app: &App, who: &Caller, wish: Wish) -> Result<ShutRequest, MatrixError> {
    if let Some(creator) = &wish.new_room_user_id {
        subject::living(app, creator.as_str()).await?;
    }
    let is_longer =
        |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| text.len() > most);
    if is_longer(&wish.room_name, LONGEST.0) || is_longer(&wish.message, LONGEST.1) {
        return Err(MatrixError::invalid_param(format!(
            "room_name has at most {} bytes, message {}",
            LONGEST.0, LONGEST.1
        )));
    }
    Ok(ShutRequest {
        by: who.user_id.clone(),
        new_room_user_id: wish.new_room_user_id,
        room_name: wish.room_name,
        message: wish.message,
        block: wish.block,
        purge: wish.purge,
    })
}

/// `GET /_synapse/admin/v2/rooms/{roomId}/delete_status`
pub async fn of_room(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetOfRoom>>,
) -> Result<RawJson, MatrixError> {
    let room_id: OwnedRoomId = content::room_id(req.part(0))?;
    let which = TaskQuery {
        kind: Some(tasks::SHUT.to_owned()),
        what: Some(room_id.to_string()),
        ..TaskQuery::default()
    };
    let tasks = app.store.tasks_of(&which, TOLD).await?;
    if tasks.is_empty() {
        return Err(MatrixError::not_found("The room isn't being shut"));
    }
    let results: Vec<Value> = tasks.iter().map(shown).collect();
    RawJson::of(&json!({ "results": results }))
}

/// `GET /_synapse/admin/v2/rooms/delete_status/{deleteId}`
pub async fn by_id(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetById>>,
) -> Result<RawJson, MatrixError> {
    let none = || MatrixError::not_found("There is no such delete_id");
    let no = req.part(0).parse().map_err(|_| none())?;
    let task = app.store.task(no).await?;
    let task = task.filter(|task| task.kind == tasks::SHUT);
    RawJson::of(&shown(&task.ok_or_else(none)?))
}

fn shown(task: &Task) -> Value {
    let mut shown = json!({
        "delete_id": task.no.to_string(),
        "room_id": task.what,
        "status": asked::status(task),
        "shutdown_room": ShutResult::of(task),
    });
    if let Some(why) = &task.error {
        shown["error"] = why.as_str().into();
    }
    shown
}

fn unknown(status: StatusCode, message: String) -> MatrixError {
    MatrixError::new(status, "M_UNKNOWN", message)
}
