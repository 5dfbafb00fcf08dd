//! One task per destination that has work to do, and none for an idle one.

use std::time::Duration;

use rhizome_storage::{Clock, Error};
use ruma::OwnedServerName;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{deliver, queues::Each};
use crate::Federation;

/// Destinations that are sent to at the same time. One that takes everything in and answers nothing holds its worker for a
/// minute, so those of whom that may be have few of their own, whatever their number.
const MAX_WORKERS: Each<usize> = Each {
    healthy: 128,
    doubtful: 64,
    failed: 32,
};
/// Cursors are written to the database at most this often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait, when stopping, for answers to what is under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

type Workers = JoinSet<(OwnedServerName, Result<(), Error>)>;

/// Delivers until `stop`; then waits for what is under way, and writes the cursors down.
pub(super) async fn run(fed: &Federation, stop: &CancellationToken) -> Result<(), Error> {
    fed.sender().restart();
    let mut workers = JoinSet::new();
    let outcome = work(fed, stop, &mut workers).await;
    // What is under way may have arrived already: wait for the answers, so that nothing is repeated.
    fed.sender().state().stopping = true;
    let answers = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, answers).await.is_err() {
        tracing::info!(
            workers = workers.len(),
            "transactions under way were given up"
        );
    }
    workers.shutdown().await;
    outcome.and(flush(fed).await)
}

async fn work(
    fed: &Federation,
    stop: &CancellationToken,
    workers: &mut Workers,
) -> Result<(), Error> {
    let sender = fed.sender();
    let mut flushed = Instant::now();
    loop {
        let (due, retry_at) = sender.due(fed.store().clock().now_ms(), MAX_WORKERS);
        for (server, share) in due {
            let fed = fed.clone();
            workers.spawn(async move {
                let result = deliver::deliver(&fed, &server, share).await;
                (server, result)
            });
        }
        if flushed.elapsed() >= FLUSH_INTERVAL {
            flush(fed).await?;
            flushed = Instant::now();
        }
        let dirty = !sender.state().dirty.is_empty();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sender.changed.notified() => {}
            Some(ended) = workers.join_next() => {
                let (server, result) = ended.map_err(|error| Error::broken(error.to_string()))?;
                sender.ended(&server);
                result?;
            }
            () = sleep_until(fed.store().clock(), retry_at) => {}
            () = tokio::time::sleep_until(flushed + FLUSH_INTERVAL), if dirty => {}
        }
    }
}

/// Waits until this time (ms) of the store's clock; for ever without one.
async fn sleep_until(clock: &Clock, at: Option<i64>) {
    match at {
        Some(at) => {
            let wait = u64::try_from(at.saturating_sub(clock.now_ms())).unwrap_or(0);
            clock.sleep(Duration::from_millis(wait)).await;
        }
        None => std::future::pending().await,
    }
}

/// Writes down where destinations stand, and deletes what waited for them and has arrived.
pub(super) async fn flush(fed: &Federation) -> Result<(), Error> {
    let (dirty, reasons, arrived) = {
        let mut state = fed.sender().state();
        (
            std::mem::take(&mut state.dirty),
            std::mem::take(&mut state.reasons),
            std::mem::take(&mut state.arrived),
        )
    };
    let states: Vec<_> = dirty.into_iter().collect();
    let reasons: Vec<_> = reasons.into_iter().collect();
    let arrived: Vec<_> = arrived.into_iter().collect();
    let mut result = fed.store().store_destination_states(&states).await;
    if result.is_ok() {
        result = fed.store().store_failures(&reasons).await;
    }
    if result.is_ok() {
        result = fed.store().forget_to_device_out(&arrived).await;
    }
    if result.is_err() {
        let mut state = fed.sender().state();
        for (server, stand) in states {
            state.dirty.entry(server).or_insert(stand);
        }
        for (server, why) in reasons {
            state.reasons.entry(server).or_insert(why);
        }
        for (server, upto) in arrived {
            state.arrived.entry(server).or_insert(upto);
        }
    }
    result
}
