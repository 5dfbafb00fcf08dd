//! Threads that have a connection to an SQLite file each, and what they are given to do.
//!
//! SQLite is called, not sent to: a call takes microseconds, or blocks on a disk. So it has threads of its own, and whoever
//! asks gives them all that belongs together and is woken once, when it is done (ADR 23).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::error::driver_error;
use super::opening::Opening;
use crate::Pool;

/// A thread that has had nothing to do for so long ends, and gives back what its connection holds, if it isn't the last.
const IDLE: Duration = Duration::from_mins(1);

/// What a thread is to do with its connection, or with the reason for which it has none.
type Job = Box<dyn FnOnce(sqlx::Result<&mut Connection>) + Send>;

/// Threads that do the same kind of thing. They end when it is dropped.
#[derive(Debug)]
pub(super) struct Lane(Arc<Shared>);

struct Shared {
    name: &'static str,
    /// So many threads at most.
    most: usize,
    opening: Opening,
    queue: Mutex<Queue>,
    ended: CancellationToken,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// How many threads will come to what is given.
    threads: usize,
    /// How many haven't ended, those included that only close their connection.
    alive: usize,
    /// Those of them that wait for something to do. The last to come is the first to go: what it has read it may still hold,
    /// and the others end if they aren't needed.
    idle: Vec<Thread>,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Lane {
    pub(super) fn new(name: &'static str, most: usize, opening: Opening) -> Self {
        Self(Arc::new(Shared {
            name,
            most: most.max(1),
            opening,
            queue: Mutex::default(),
            ended: CancellationToken::new(),
        }))
    }

    /// Has something done, and waits for what comes of it. If nobody waits any more when its turn comes it isn't done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> sqlx::Result<T> + Send + 'static,
    ) -> sqlx::Result<T> {
        self.ask(false, work).await
    }

    /// The same of what is done in any case.
    pub(super) async fn run_anyway<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> sqlx::Result<T> + Send + 'static,
    ) -> sqlx::Result<T> {
        self.ask(true, work).await
    }

    /// Its threads, and how much waits for one.
    pub(super) fn figures(&self, name: &'static str) -> Pool {
        let queue = self.0.lock();
        Pool {
            name,
            open: queue.threads,
            busy: queue.threads.saturating_sub(queue.idle.len()),
            most: self.0.most,
            waiting: queue.jobs.len(),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        anyway: bool,
        work: impl FnOnce(&mut Connection) -> sqlx::Result<T> + Send + 'static,
    ) -> sqlx::Result<T> {
        let (answer, answered) = oneshot::channel();
        self.give(Box::new(move |connection| {
            if anyway || !answer.is_closed() {
                // Nobody may wait by now: then what came of it matters to nobody.
                let _ = answer.send(connection.and_then(work));
            }
        }))?;
        answered.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// The same, of which somebody waits no longer than this for its beginning.
    pub(super) async fn run_soon<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&mut Connection) -> sqlx::Result<T> + Send + 'static,
    ) -> sqlx::Result<T> {
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let done = self.run(move |connection| {
            begins.store(true, Ordering::Relaxed);
            work(connection)
        });
        let mut done = pin!(done);
        match tokio::time::timeout(patience, &mut done).await {
            Ok(done) => done,
            Err(_) if begun.load(Ordering::Relaxed) => done.await,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// Has something done, whether or not anybody waits for it.
    pub(super) fn give(&self, job: Job) -> sqlx::Result<()> {
        let mut queue = self.0.lock();
        if queue.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        queue.jobs.push_back(job);
        if let Some(waiting) = queue.idle.pop() {
            waiting.unpark();
        } else if queue.threads < self.0.most
            && let Err(error) = Shared::start(&self.0, &mut queue)
            // Else those that there are will come to it.
            && queue.threads == 0
        {
            queue.jobs.pop_back();
            return Err(error.into());
        }
        Ok(())
    }

    /// Takes nothing more, and waits until all that it has is done and its connections are closed.
    pub(super) async fn close(&self) {
        self.0.close();
        self.0.ended.cancelled().await;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that may panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        if queue.alive == 0 {
            self.ended.cancel();
        }
        queue.idle.drain(..).for_each(|waiting| waiting.unpark());
    }

    fn start(shared: &Arc<Self>, queue: &mut Queue) -> std::io::Result<()> {
        let own = shared.clone();
        let thread = thread::Builder::new().name(shared.name.to_owned());
        thread.spawn(move || own.work())?;
        queue.threads += 1;
        queue.alive += 1;
        Ok(())
    }

    /// A thread's life.
    fn work(self: Arc<Self>) {
        let alive = Alive(self);
        let shared = &alive.0;
        let mut connection = None;
        while let Some(job) = shared.next() {
            if connection.is_none() {
                match shared.opening.open() {
                    Ok(open) => connection = Some(open),
                    Err(error) => {
                        job(Err(driver_error(error)));
                        continue;
                    }
                }
            }
            if let Some(connection) = &mut connection {
                job(Ok(connection));
                if let Some(care) = &shared.opening.care {
                    care.done(connection);
                }
            }
        }
        // Closed before the thread counts as ended.
        drop(connection);
    }

    /// Waits for the next job; `None` if there is no more for this thread.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                queue.threads -= 1;
                return None;
            }
            let this = thread::current();
            let since = Instant::now();
            queue.idle.push(this.clone());
            drop(queue);
            thread::park_timeout(IDLE);
            queue = self.lock();
            // Still there if nobody has called it.
            queue.idle.retain(|waiting| waiting.id() != this.id());
            if since.elapsed() >= IDLE && queue.jobs.is_empty() && queue.threads > 1 {
                // From now on nobody counts on it.
                queue.threads -= 1;
                return None;
            }
        }
    }
}

/// Says that a thread has ended. If that is because what it did has panicked, another comes to what there is still to do.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        let mut left = VecDeque::new();
        let mut queue = self.0.lock();
        queue.alive -= 1;
        if thread::panicking() {
            queue.threads -= 1;
            let is_left = !queue.jobs.is_empty() && queue.threads == 0;
            if is_left && Shared::start(&self.0, &mut queue).is_err() {
                // Whoever waits hears that nothing comes of it.
                left = std::mem::take(&mut queue.jobs);
            }
        }
        if queue.closed && queue.alive == 0 {
            self.0.ended.cancel();
        }
        drop(queue);
        // With one of them the lane itself may go.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn lane(folder: &tempfile::TempDir, most: usize) -> Lane {
        let file = folder.path().join("lane.db");
        drop(Connection::open(&file).unwrap());
        let opening = Opening {
            file,
            setup: "PRAGMA busy_timeout = 1000;".to_owned(),
            only_read: false,
            statements: 10,
            care: None,
        };
        Lane::new("lane", most, opening)
    }

    async fn one(lane: &Lane) -> sqlx::Result<i64> {
        let ask = |connection: &mut Connection| {
            let one = connection.query_row("SELECT 1", [], |row| row.get(0));
            one.map_err(driver_error)
        };
        lane.run(ask).await
    }

    #[tokio::test]
    async fn as_many_run_at_once_as_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(&folder, 3);
        let all = Arc::new(Barrier::new(3));
        // Each waits for the others.
        let meet = || {
            let all = all.clone();
            lane.run(move |_| Ok(all.wait().is_leader()))
        };
        let (a, b, c) = tokio::join!(meet(), meet(), meet());
        let leaders = [a, b, c].map(Result::unwrap);
        assert_eq!(leaders.iter().filter(|leads| **leads).count(), 1);
        assert_eq!(lane.0.lock().threads, 3);
    }

    #[tokio::test]
    async fn what_was_given_is_done_before_it_ends_and_nothing_after() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(&folder, 1);
        let (done, is_done) = oneshot::channel();
        lane.give(Box::new(move |connection| {
            done.send(connection.is_ok()).unwrap();
        }))
        .unwrap();
        lane.close().await;
        assert_eq!(is_done.await, Ok(true));
        assert!(matches!(one(&lane).await, Err(sqlx::Error::PoolClosed)));
    }

    #[tokio::test]
    async fn a_panic_ends_one_thread_and_the_next_job_has_another() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(&folder, 1);
        let broken = lane.run(|_| -> sqlx::Result<()> { panic!("on purpose") });
        assert!(matches!(broken.await, Err(sqlx::Error::WorkerCrashed)));
        assert_eq!(one(&lane).await.unwrap(), 1);
        // Also what was given while the thread was about to panic.
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let broken = lane.run(move |_| -> sqlx::Result<()> {
            goes.recv().unwrap();
            panic!("on purpose")
        });
        let next = async {
            let one = one(&lane);
            go.send(()).unwrap();
            one.await
        };
        let (broken, next) = tokio::join!(broken, next);
        assert!(matches!(broken, Err(sqlx::Error::WorkerCrashed)));
        assert_eq!(next.unwrap(), 1);
        lane.close().await;
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_behind_what_takes_long() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(&folder, 1);
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let (began, begins) = oneshot::channel();
        let patience = Duration::from_millis(1);
        let long = lane.run(move |_| {
            began.send(()).unwrap();
            goes.recv().map_err(|_| sqlx::Error::WorkerCrashed)
        });
        let behind = async {
            begins.await.unwrap();
            let waited = lane.run_soon(patience, |_| Ok(())).await;
            go.send(()).unwrap();
            waited
        };
        let (long, behind) = tokio::join!(long, behind);
        long.unwrap();
        assert!(matches!(behind, Err(sqlx::Error::PoolTimedOut)));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_an_error_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut opening = lane(&folder, 1).0.opening.clone();
        opening.file = folder.path().join("no").join("such.db");
        let lane = Lane::new("lane", 1, opening);
        for _ in 0..2 {
            assert!(matches!(one(&lane).await, Err(sqlx::Error::Database(_))));
        }
    }
}
