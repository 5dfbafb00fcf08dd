//! Work that takes its time: it is written down, done piece by piece, and goes on after a restart.
//!
//! Of the processes on one database the one with the lease does it, a piece of each task in turn. Each piece must bear being
//! done twice. Another process, such as a command of the operator's, may write down more, or cancel what is under way.

mod approved;
mod leave;
mod redact;
mod shut;

use std::{collections::HashMap, time::Duration};

use rhizome_edge::MatrixError;
use rhizome_storage::{Lease, Store, Task, TaskState};
use tokio_util::sync::CancellationToken;

pub use redact::RedactRequest;
pub use shut::{BY, ShutRequest, ShutResult, block};

use crate::App;

/// Lets a user leave all rooms; `what` is their id.
pub const LEAVE: &str = "leave rooms";
/// Redacts what a user has said; `what` is their id, the request, if there is one, a [`RedactRequest`].
pub const REDACT: &str = "redact user";

/// Lets all users of this server leave a room; `what` is its id, the request a [`ShutRequest`], the result a [`ShutResult`].
pub const SHUT: &str = "shut room";

/// Tells a user by mail that their account is approved; `what` is their id.
pub const APPROVED: &str = "tell approved";

const NAME: &str = "tasks";
/// How long the lease lasts without renewal.
const LENGTH: Duration = Duration::from_mins(2);
/// How often it is renewed, or asked for.
const RENEWAL: Duration = Duration::from_secs(10);
/// How often it is asked whether another process has written something down.
const IDLE: Duration = Duration::from_secs(10);
/// How soon what couldn't be done is tried again, at first.
const TICK: Duration = Duration::from_secs(1);
/// The place of a task that is begun, and of which nothing is done yet: who asks for the same now asks for another one.
const BEGUN: &str = "-";
/// Between two pieces, so that others get their turn.
const PAUSE: Duration = Duration::from_millis(20);
/// What fails for the server's sake is tried so often, after pauses that double, …
const TRIES: u32 = 6;
/// … and a mail so often, as mail servers are away for an hour.
const TRIES_OF_MAILS: u32 = 12;

/// What one piece of work has come to.
struct Step {
    /// How much is done by now.
    progress: i64,
    /// Where it goes on; `None`: it is done.
    place: Option<String>,
    /// What has come of it so far, as its kind tells it; `None`: as before.
    result: Option<String>,
}

impl Step {
    /// There is nothing more to do.
    fn done(task: &Task) -> Self {
        Self {
            progress: task.progress,
            place: None,
            result: None,
        }
    }
}

/// Which task had the last turn, and which wait because they failed.
#[derive(Default)]
struct Turns {
    last: i64,
    failed: HashMap<i64, Failed>,
}

/// How often a task has failed, and until when it waits.
#[derive(Default)]
struct Failed {
    times: u32,
    until: Duration,
}

impl Turns {
    /// The open task whose turn it is.
    async fn next(&mut self, store: &Store) -> Result<Option<Task>, MatrixError> {
        let now = store.clock().monotonic();
        let mut from_the_first = self.last == 0;
        loop {
            match store.open_task(self.last).await? {
                Some(task) => {
                    self.last = task.no;
                    let failed = self.failed.get(&task.no);
                    if failed.is_none_or(|failed| failed.until <= now) {
                        return Ok(Some(task));
                    }
                }
                None if from_the_first => {
                    self.last = 0;
                    return Ok(None);
                }
                None => (self.last, from_the_first) = (0, true),
            }
        }
    }

    /// How long a task waits that has failed once more; `None`: often enough.
    fn fails(&mut self, task: &Task, now: Duration) -> Option<Duration> {
        let failed = self.failed.entry(task.no).or_default();
        if failed.times >= tries(task) {
            return None;
        }
        let pause = TICK * 2_u32.saturating_pow(failed.times);
        (failed.times, failed.until) = (failed.times + 1, now + pause);
        Some(pause)
    }
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
    let (mut renewed, mut turns) = (clock.monotonic(), Turns::default());
    loop {
        if clock.monotonic().saturating_sub(renewed) >= RENEWAL {
            renewed = clock.monotonic();
            if !lease.renew().await? {
                return Ok(());
            }
        }
        let next = turns.next(&app.store).await?;
        let pause = match &next {
            Some(task) => {
                // What is done in one piece is done to its end: it may have told others already.
                piece(app, task, &mut turns).await?;
                PAUSE
            }
            None if turns.failed.is_empty() => IDLE,
            None => TICK,
        };
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = app.store.task_added(), if next.is_none() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Does one piece of a task, and writes down what has come of it.
async fn piece(app: &App, task: &Task, turns: &mut Turns) -> Result<(), MatrixError> {
    if task.place.is_empty() {
        // What it is about is settled from here on, and is read again with its next turn.
        let (no, progress) = (task.no, task.progress);
        app.store.task_goes_on(no, progress, BEGUN).await?;
        return Ok(());
    }
    let failed = turns.failed.get(&task.no);
    let is_last = failed.is_some_and(|failed| failed.times >= tries(task));
    let stepped = step(app, task, is_last).await;
    let now = app.store.clock().monotonic();
    if let Err(error) = &stepped
        && error.status.is_server_error()
        && turns.fails(task, now).is_some()
    {
        tracing::warn!(%error, task = task.no, "a task can't go on now");
        return Ok(());
    }
    turns.failed.remove(&task.no);
    match stepped {
        Ok(Step {
            progress,
            place,
            result,
        }) => {
            if let Some(result) = &result {
                app.store.task_result(task.no, result).await?;
            }
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

/// How often a task is tried.
fn tries(task: &Task) -> u32 {
    if task.kind == APPROVED {
        TRIES_OF_MAILS
    } else {
        TRIES
    }
}

/// `is_last`: whether it isn't tried once more.
async fn step(app: &App, task: &Task, is_last: bool) -> Result<Step, MatrixError> {
    match task.kind.as_str() {
        LEAVE => leave::step(app, task, is_last).await,
        REDACT => redact::step(app, task).await,
        // Boxed: seldom asked for, and larger than the others.
        SHUT => Box::pin(shut::step(app, task, is_last)).await,
        APPROVED => approved::step(app, task).await,
        other => Err(MatrixError::invalid_param(format!(
            "This version of the server knows no tasks of kind {other:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::testing::each_database;

    use super::*;

    #[tokio::test]
    async fn tasks_take_turns_and_who_failed_waits() {
        each_database(async |store| {
            let add = async |what: &str| store.add_task("fly", what).await.unwrap();
            let (one, two) = (add("@a:here").await, add("@b:here").await);
            let mut turns = Turns::default();
            let mut order = Vec::new();
            for _ in 0..4 {
                order.push(turns.next(&store).await.unwrap().unwrap());
            }
            let nos: Vec<i64> = order.iter().map(|task| task.no).collect();
            assert_eq!(nos, [one, two, one, two]);
            // For as long as that, others go on.
            let now = store.clock().monotonic() + Duration::from_hours(1);
            assert_eq!(turns.fails(&order[0], now), Some(TICK));
            for _ in 0..2 {
                assert_eq!(turns.next(&store).await.unwrap().unwrap().no, two);
            }
            assert_eq!(turns.fails(&order[1], now), Some(TICK));
            assert!(turns.next(&store).await.unwrap().is_none());
            for times in 1..TRIES {
                let pause = TICK * 2_u32.pow(times);
                assert_eq!(turns.fails(&order[0], now), Some(pause));
            }
            assert_eq!(turns.fails(&order[0], now), None);
        })
        .await;
    }
}
