//! Work that takes its time: it is written down, done piece by piece, and goes on after a restart.
//!
//! Of the processes on one database the one with the lease does it, one task after the other. Each piece must bear being
//! done twice. Another process, such as a command of the operator's, may write down more, or cancel what is under way.

mod leave;
mod redact;

use std::time::Duration;

use rhizome_edge::MatrixError;
use rhizome_storage::{Lease, Store, Task, TaskState};
use tokio_util::sync::CancellationToken;

use crate::App;

/// Lets a user leave all rooms; `what` is their id.
pub const LEAVE: &str = "leave rooms";
/// Redacts what a user has said; `what` is their id.
pub const REDACT: &str = "redact user";

const NAME: &str = "tasks";
/// How long the lease lasts without renewal.
const LENGTH: Duration = Duration::from_mins(2);
/// How often it is renewed, or asked for.
const RENEWAL: Duration = Duration::from_secs(10);
/// How often it is asked whether there is something to do.
const TICK: Duration = Duration::from_secs(1);
/// Between two pieces, so that others get their turn.
const PAUSE: Duration = Duration::from_millis(20);
/// What fails for the server's sake is tried so often, after pauses that double.
const TRIES: u32 = 6;

/// What one piece of work has come to.
struct Step {
    /// How much is done by now.
    progress: i64,
    /// Where it goes on; `None`: it is done.
    place: Option<String>,
}

/// Does what is to be done until `stop`, whenever this process has the lease.
///
/// # Errors
/// The database fails: to be begun again after a while.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), MatrixError> {
    loop {
        let Some(lease) = stop.run_until_cancelled(leased(&app.store)).await else {
            return Ok(());
        };
        let lease = lease?;
        let worked = work(&app, &lease, &stop).await;
        lease.release().await?;
        worked?;
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}

async fn leased(store: &Store) -> Result<Lease, MatrixError> {
    let length = store.is_shared().then_some(LENGTH);
    loop {
        if let Some(lease) = Lease::take(store, NAME, length).await? {
            return Ok(lease);
        }
        store.clock().sleep(RENEWAL).await;
    }
}

/// Until the lease is another's, or the stop.
async fn work(app: &App, lease: &Lease, stop: &CancellationToken) -> Result<(), MatrixError> {
    let clock = app.store.clock();
    let mut renewed = clock.monotonic();
    loop {
        if clock.monotonic().saturating_sub(renewed) >= RENEWAL {
            renewed = clock.monotonic();
            if !lease.renew().await? {
                return Ok(());
            }
        }
        let pause = match app.store.open_task(0).await? {
            Some(task) => {
                // What is done in one piece is done to its end: it may have told others already.
                piece(app, &task, stop).await?;
                PAUSE
            }
            None => TICK,
        };
        if stop.run_until_cancelled(clock.sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

/// Does one piece of a task, and writes down what has come of it.
async fn piece(app: &App, task: &Task, stop: &CancellationToken) -> Result<(), MatrixError> {
    let mut tries = 0;
    let stepped = loop {
        match step(app, task, tries == TRIES).await {
            Err(error) if error.status.is_server_error() && tries < TRIES => {
                tracing::warn!(%error, task = task.no, "a task can't go on now");
                let pause = app.store.clock().sleep(TICK * 2_u32.saturating_pow(tries));
                if stop.run_until_cancelled(pause).await.is_none() {
                    return Ok(());
                }
                tries += 1;
            }
            stepped => break stepped,
        }
    };
    match stepped {
        Ok(Step { progress, place }) => {
            let at = place.as_deref().unwrap_or(&task.place);
            let goes_on = app.store.task_goes_on(task.no, progress, at).await?;
            if goes_on && place.is_none() {
                app.store.end_task(task.no, TaskState::Done, None).await?;
                tracing::info!(task = task.no, kind = task.kind, progress, "a task is done");
            }
        }
        Err(error) => {
            tracing::error!(%error, task = task.no, kind = task.kind, "a task has failed");
            let (no, why) = (task.no, error.message.as_ref());
            (app.store)
                .end_task(no, TaskState::Failed, Some(why))
                .await?;
        }
    }
    Ok(())
}

/// `is_last`: whether it isn't tried once more.
async fn step(app: &App, task: &Task, is_last: bool) -> Result<Step, MatrixError> {
    match task.kind.as_str() {
        LEAVE => leave::step(app, task, is_last).await,
        REDACT => redact::step(app, task).await,
        other => Err(MatrixError::invalid_param(format!(
            "This version of the server knows no tasks of kind {other:?}"
        ))),
    }
}
