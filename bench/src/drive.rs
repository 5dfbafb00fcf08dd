//! How load is made: closed loops for throughput, one after another for latency, lists for set-up.
//!
//! Everything runs in one task on one thread: the tool must leave the machine to the server.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant as Tick, sleep, sleep_until},
};

use crate::{
    http::Failure,
    probe::{Probe, Usage},
};

/// What operations took.
#[derive(Debug, Default)]
pub struct Samples {
    /// Of those that went well, in the order in which they ended.
    pub latencies: Vec<Duration>,
    /// How many went wrong.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
}

impl Samples {
    /// Notes one operation.
    pub fn add(&mut self, took: Duration, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.latencies.push(took),
            Err(failure) => self.fail(&failure),
        }
    }

    /// Notes an error.
    pub fn fail(&mut self, failure: &Failure) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(failure.to_string());
        }
    }
}

/// A closed loop's times.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Before this has passed nothing counts.
    pub warm: Duration,
    /// What ends within this counts.
    pub measured: Duration,
}

/// After an error a worker pauses: refusals come quickly, and would drown the rest.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// A closed loop: each worker does one operation after the other until the time is over. Throughput is
/// what ended within the measured time; the latencies say nothing about a server that isn't saturated.
///
/// Where nothing has ended in that time, it goes on until something has: no throughput is told of nothing.
pub async fn closed<W>(
    workers: &mut [W],
    span: Span,
    probe: &Probe,
    operation: impl AsyncFn(&mut W) -> Result<(), Failure>,
) -> anyhow::Result<(Samples, Usage)> {
    let from = Instant::now() + span.warm;
    let samples = RefCell::new(Samples::default());
    let (over, first) = (Cell::new(false), Notify::new());
    let (operation, samples_of, over_of, first_of) = (&operation, &samples, &over, &first);
    let work: FuturesUnordered<_> = workers
        .iter_mut()
        .map(|worker| async move {
            while !over_of.get() {
                let start = Instant::now();
                let result = operation(worker).await;
                let end = Instant::now();
                let failed = result.is_err();
                if end >= from && !over_of.get() {
                    samples_of.borrow_mut().add(end - start, result);
                    first_of.notify_one();
                }
                if failed {
                    sleep(AFTER_ERROR).await;
                }
            }
        })
        .collect();
    let watch = async {
        sleep_until(Tick::from_std(from)).await;
        let before = probe.read();
        sleep_until(Tick::from_std(from + span.measured)).await;
        first_of.notified().await;
        let usage = before.and_then(|before| probe.since(before));
        over_of.set(true);
        usage
    };
    let (usage, ()) = tokio::join!(watch, work.collect());
    Ok((samples.into_inner(), usage?))
}

/// When a series of operations is over.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// At most so many operations.
    pub count: usize,
    /// And none is begun after this.
    pub limit: Duration,
    /// One begins so long after the one before, or when that has ended.
    pub every: Duration,
}

/// One operation after the other, paced, so that the server has no more than one to do. `warm` of them
/// come first and aren't counted.
///
/// The operation says how long it took by itself, as it may have to prepare something first.
pub async fn paced(
    series: Series,
    warm: usize,
    probe: &Probe,
    mut operation: impl AsyncFnMut(usize) -> Result<Duration, Failure>,
) -> anyhow::Result<(Samples, Usage)> {
    let mut samples = Samples::default();
    for number in 0..warm {
        if let Err(failure) = operation(number).await {
            samples.fail(&failure);
        }
    }
    let before = probe.read()?;
    let start = Instant::now();
    for number in warm..warm + series.count {
        let begun = Instant::now();
        if begun - start > series.limit {
            break;
        }
        match operation(number).await {
            Ok(took) => samples.latencies.push(took),
            Err(failure) => samples.fail(&failure),
        }
        sleep(series.every.saturating_sub(begun.elapsed())).await;
    }
    Ok((samples, probe.since(before)?))
}

/// How each item of a list went.
#[derive(Debug)]
pub struct Done<R> {
    /// What went well, with the moment at which it ended, in that order.
    pub results: Vec<(R, Instant)>,
    /// What they took.
    pub samples: Samples,
}

impl<R> Done<R> {
    /// The results alone; an error if any item went wrong or was not begun in time.
    pub fn all(self, wanted: usize, what: &str) -> anyhow::Result<Vec<R>> {
        let results: Vec<R> = self.results.into_iter().map(|(result, _)| result).collect();
        anyhow::ensure!(
            results.len() == wanted,
            "{what}: {} of {wanted} done in time, {} errors{}",
            results.len(),
            self.samples.errors,
            self.samples
                .first_error
                .map_or(String::new(), |error| format!(", the first: {error}"))
        );
        Ok(results)
    }
}

/// Each item once, `width` at a time; none is begun after `limit`.
pub async fn each<T, R>(
    items: impl IntoIterator<Item = T>,
    width: usize,
    limit: Duration,
    operation: impl AsyncFn(T) -> Result<R, Failure>,
) -> Done<R> {
    let until = Instant::now() + limit;
    let items = RefCell::new(items.into_iter());
    let done = RefCell::new(Done {
        results: Vec::new(),
        samples: Samples::default(),
    });
    let (operation, shared, queue) = (&operation, &done, &items);
    let work: FuturesUnordered<_> = (0..width)
        .map(|_| async move {
            while Instant::now() < until {
                let Some(item) = queue.borrow_mut().next() else {
                    break;
                };
                let start = Instant::now();
                let result = operation(item).await;
                let end = Instant::now();
                let mut done = shared.borrow_mut();
                match result {
                    Ok(result) => {
                        done.samples.latencies.push(end - start);
                        done.results.push((result, end));
                    }
                    Err(failure) => done.samples.fail(&failure),
                }
            }
        })
        .collect();
    work.collect::<()>().await;
    done.into_inner()
}
