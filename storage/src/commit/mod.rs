//! The commit queue: many write sets, one transaction.
//!
//! [`gather`] looks up, in the caller's task and outside of any transaction, the numbers that the rows
//! will need. [`group`] then makes a transaction of what waits: it loads what the decision needs under the
//! rooms' locks, [`decide`]s in memory which write sets stand, lets [`rows`] turn them into rows, writes those
//! with one statement per table, and brings caches and tail up to date.

mod decide;
mod gather;
mod group;
mod partial;
mod rows;
pub(crate) mod turn;
mod window;
pub(crate) mod write_set;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::engine::db::Tx;
use crate::engine::trouble::Trouble;
use crate::{CommitError, Committed, CrashAt, Error, Store, WriteSet};
use gather::GatheredSet;
use window::Window;

type CommitResult = Result<Committed, CommitError>;

/// A write set on its way, and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    set: WriteSet,
    gathered: GatheredSet,
    answer: oneshot::Sender<CommitResult>,
    /// A COMMIT that held this came to an unknown end: it may be stored already.
    maybe_done: bool,
    /// It goes with what others write, or when somebody asks for it.
    can_wait: bool,
    /// What is to be written comes when its room is locked.
    turn: Option<turn::Asked>,
}

/// A write set that has its place in the queue. Resolves when it is durable and the log's tail has it,
/// or when nothing of it was written. Dropping it doesn't take the write set back.
#[derive(Debug)]
pub struct Submitted(oneshot::Receiver<CommitResult>);

impl Future for Submitted {
    type Output = CommitResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CommitResult> {
        let answered = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(answered.unwrap_or_else(|_| Err(closing().into())))
    }
}

impl Store {
    /// Writes everything in `set`, or nothing. When this returns `Ok`, it is durable and the log's tail
    /// has it. When the caller stops waiting, it may be written all the same.
    pub async fn commit(&self, set: WriteSet) -> Result<Committed, CommitError> {
        self.submit(set).await?.await
    }

    /// Puts `set` into the commit queue. Write sets are written in the order in which they were
    /// submitted, so that one may build on another that isn't durable yet ([`RoomWrite::follows`]).
    ///
    /// [`RoomWrite::follows`]: crate::RoomWrite::follows
    pub async fn submit(&self, set: WriteSet) -> Result<Submitted, CommitError> {
        let queue = self.queue().ok_or_else(|| Error::broken("no queue"))?;
        let (job, answered) = self.job(set).await?;
        queue.send(job).await.map_err(|_| closing())?;
        Ok(Submitted(answered))
    }

    /// As [`Store::submit`], but nothing is written for its sake alone before [`Store::hurry`]: it goes with what
    /// others write, and costs no disk sync of its own.
    pub async fn submit_without_haste(&self, set: WriteSet) -> Result<Submitted, CommitError> {
        let queue = self.queue().ok_or_else(|| Error::broken("no queue"))?;
        let (mut job, answered) = self.job(set).await?;
        job.can_wait = true;
        queue.send(job).await.map_err(|_| closing())?;
        Ok(Submitted(answered))
    }

    /// What was submitted without haste is written now.
    pub fn hurry(&self) {
        self.core.haste.ask();
    }

    /// Leaves `set` to be written with what others write. Nobody is told what becomes of it, and where the
    /// queue is full, nothing does.
    pub(crate) async fn leave(&self, set: WriteSet) -> Result<(), CommitError> {
        let queue = self.queue().ok_or_else(|| Error::broken("no queue"))?;
        let (job, _) = self.job(set).await?;
        // Full, or closing.
        let _ = queue.try_send(job);
        Ok(())
    }

    async fn job(
        &self,
        set: WriteSet,
    ) -> Result<(Job, oneshot::Receiver<CommitResult>), CommitError> {
        let gathered = gather::gather(self, &set).await?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            set,
            gathered,
            answer,
            maybe_done: false,
            can_wait: false,
            turn: None,
        };
        Ok((job, answered))
    }
}

fn closing() -> Error {
    Error::Busy("the store is closing".into())
}

/// The queue's task: ends when the store is closed or its last handle is gone, and nothing waits.
/// If it panics the process ends: nobody could tell any more what is written.
pub(crate) async fn run(store: Store, jobs: mpsc::Receiver<Job>, ended: CancellationToken) {
    let _ended = ended.drop_guard();
    // Caught here rather than seen by a guard's drop: when a test's thread panics, its runtime drops
    // this task, and that is no failure of the queue.
    if AssertUnwindSafe(take_jobs(store, jobs))
        .catch_unwind()
        .await
        .is_err()
    {
        tracing::error!("the commit queue has panicked: ending the process");
        std::process::abort();
    }
}

/// Somebody waits for what can wait.
#[derive(Debug, Default)]
pub(crate) struct Haste {
    asked: AtomicBool,
    told: Notify,
}

impl Haste {
    fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    async fn asked(&self) {
        let mut told = std::pin::pin!(self.told.notified());
        told.as_mut().enable();
        if !self.asked.load(Ordering::SeqCst) {
            told.await;
        }
    }
}

async fn take_jobs(store: Store, mut jobs: mpsc::Receiver<Job>) {
    let closing = store.closing().clone();
    let mut group = Vec::new();
    let mut window = Window::default();
    loop {
        tokio::select! {
            biased;
            next = jobs.recv() => match next {
                Some(next) => group.push(next),
                None if group.is_empty() => return,
                None => {}
            },
            () = closing.cancelled(), if !jobs.is_closed() => {
                jobs.close();
                continue;
            }
            () = store.core.haste.asked(), if !group.is_empty() => {}
        }
        let limit = store.core.options.group_limit;
        window.fill(&mut group, &mut jobs, limit).await;
        let is_full = group.len() >= limit;
        let can_wait = !is_full && !jobs.is_closed() && group.iter().all(|job| job.can_wait);
        if can_wait && !store.core.haste.asked.load(Ordering::SeqCst) {
            continue;
        }
        store.core.haste.asked.store(false, Ordering::SeqCst);
        window.filled(&group);
        let all = std::mem::take(&mut group).into_iter();
        let (turns, ready): (Vec<_>, Vec<_>) = all.partition(|job: &Job| job.turn.is_some());
        commit_group(&store, ready, None).await;
        for asked in turns {
            turn::give(&store, asked).await;
        }
    }
}

/// How often a group is tried again when the trouble is not in what it writes.
const TRIES: u32 = 6;

/// Writes a group, at first in a transaction that is `held` already. One that fails for a row's sake is tried in halves,
/// until the culprit stands alone.
async fn commit_group(store: &Store, group: Vec<Job>, mut held: Option<Tx>) {
    let mut parts = vec![(group, 0)];
    while let Some((part, tries)) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let outcome = group::attempt(store, part, held.take()).await;
        let (mut left, trouble) = match outcome {
            Ok(answered) => {
                store.crash_if(CrashAt::BeforeAnswer);
                if answered.written && store.core.unwritable.swap(false, Ordering::Relaxed) {
                    tracing::info!("the database can be written again");
                }
                store.core.groups_done.fetch_add(1, Ordering::Relaxed);
                for (job, answer) in answered.answers {
                    // Nobody may be waiting any more.
                    let _ = job.answer.send(answer);
                }
                parts.push((answered.deferred, 0));
                continue;
            }
            Err(failed) => (failed.jobs, failed.trouble),
        };
        note(store, &trouble);
        match trouble {
            Trouble::Conflict(_) if tries == 0 => parts.push((left, 1)),
            Trouble::Row(error) | Trouble::Conflict(error) if left.len() == 1 => {
                tracing::error!(%error, "a write set can't be written");
                refuse(left, || Error::Failed(error.to_string()));
            }
            Trouble::Row(error) | Trouble::Conflict(error) => {
                tracing::warn!(%error, write_sets = left.len(), "a group failed: trying its halves");
                let second = left.split_off(left.len() / 2);
                parts.push((second, 0));
                parts.push((left, 0));
            }
            Trouble::Passing(error) | Trouble::AtCommit(error) if tries + 1 >= TRIES => {
                tracing::error!(%error, write_sets = left.len(), "giving a group up");
                refuse(left, || Error::Busy(error.to_string()));
            }
            // Whoever can, tries again later; others needn't wait for this.
            Trouble::Unwritable(error) => refuse(left, || Error::Busy(error.to_string())),
            Trouble::Passing(error) => {
                tracing::warn!(%error, write_sets = left.len(), "trying a group again");
                pause(tries).await;
                parts.push((left, tries + 1));
            }
            Trouble::AtCommit(error) => {
                if !store.core.dialect.survives_commit_error() {
                    tracing::error!(%error, "COMMIT has failed: ending the process, to recover at start");
                    std::process::abort();
                }
                tracing::warn!(%error, write_sets = left.len(), "COMMIT has an unknown outcome: looking it up");
                for job in &mut left {
                    job.maybe_done = true;
                }
                pause(tries).await;
                parts.push((left, tries + 1));
            }
        }
    }
}

/// Says once that nothing can be written.
fn note(store: &Store, trouble: &Trouble) {
    if let Trouble::Unwritable(error) = trouble
        && !store.core.unwritable.swap(true, Ordering::Relaxed)
    {
        tracing::error!(%error, "the database can't be written: requests that change something get a 503");
    }
}

fn refuse(jobs: Vec<Job>, error: impl Fn() -> Error) {
    for job in jobs {
        let _ = job.answer.send(Err(error().into()));
    }
}

async fn pause(tries: u32) {
    tokio::time::sleep(Duration::from_millis(20 << tries.min(6))).await;
}
